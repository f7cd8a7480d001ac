"""Run and qrels files: what is read, what is refused and how it is said, what the report states."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from qilin_dagster.errors import InputError
from qilin_dagster.evaluation import (
    METRICS,
    ORACLE,
    RANDOM,
    REVERSED,
    SHOWN,
    Qrels,
    Run,
    compare,
    evaluate,
    format_comparison,
    format_report,
    read_qrels,
    read_run,
    to_json,
)

REAL_SEARCH = Path(__file__).parents[2] / "shared" / "data" / "real_search"

RUN = "qid,pid,score\n0,10,0.5\n0,11,0.25\n1,10,3\n"
QRELS = "qid,pid\n0,11\n1,10\n"


def write(folder: Path, text: str, name: str = "run.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def synthetic(n_requests: int = 300, seed: int = 0) -> tuple[Run, Qrels]:
    """Eight candidates a request, two clicked; the score knows the clicks vaguely."""
    rng = np.random.default_rng(seed)
    qid = np.repeat(np.arange(n_requests), 8)
    pid = np.tile(np.arange(8), n_requests)
    clicked = np.argsort(np.argsort(rng.random((n_requests, 8)), axis=1), axis=1).ravel() < 2
    score = clicked + rng.normal(size=len(qid))
    shown = np.argsort(np.argsort(rng.random((n_requests, 8)), axis=1), axis=1).ravel() + 1
    return Run("vague", qid, pid, score, shown), Qrels("clicks", qid[clicked], pid[clicked])


def test_official_figures_of_the_published_run_are_met_to_the_last_digit():
    if not REAL_SEARCH.is_dir():
        pytest.skip(f"THE KNOWN ANSWER WAS NOT CHECKED: the real run is not in {REAL_SEARCH}")
    run = read_run(REAL_SEARCH / "vlm_run_first500.csv")
    qrels = read_qrels(REAL_SEARCH / "qrels_first500.csv")
    report = evaluate(run, qrels, "official")
    print(format_report(report))
    means = report.model.metrics.means
    assert means["mrr@10"] == 0.5492992063492064
    assert means["map@10"] == 0.39109453199798394
    assert means["mrr@100"] == 0.5545668537670652
    assert means["map@100"] == 0.4626362282920598
    assert report.coverage == 1.0
    rows = {row.name: row.metrics.means["mrr@10"] for row in report.rows}
    assert rows[SHOWN] == pytest.approx(0.73, abs=0.03)
    assert rows[RANDOM] == pytest.approx(0.48, abs=0.01)
    assert rows[REVERSED] < rows[RANDOM] < means["mrr@10"] < rows[SHOWN] < rows[ORACLE]


def test_a_run_is_read_from_csv_and_from_parquet(tmp_path):
    from_csv = read_run(write(tmp_path, RUN))
    assert from_csv.name == "run"
    assert from_csv.qid.tolist() == [0, 0, 1]
    assert from_csv.pid.tolist() == [10, 11, 10]
    assert from_csv.score.tolist() == [0.5, 0.25, 3.0]
    assert from_csv.shown_rank is None
    table = pa.table(
        {
            "extra": ["x", "y", "z"],
            "pid": pa.array([10, 11, 10], pa.int32()),
            "score": pa.array([0.5, 0.25, 3.0], pa.float32()),
            "qid": pa.array([0, 0, 1], pa.uint16()),
            "shown_rank": pa.array([2, 1, 1], pa.int16()),
        }
    )
    pa_parquet.write_table(table, tmp_path / "run.parquet")
    from_parquet = read_run(tmp_path / "run.parquet")
    assert from_parquet.qid.tolist() == from_csv.qid.tolist()
    assert from_parquet.score.tolist() == from_csv.score.tolist()
    assert from_parquet.shown_rank is not None
    assert from_parquet.shown_rank.tolist() == [2, 1, 1]
    assert from_parquet.qid.dtype == from_parquet.shown_rank.dtype == np.int64


def test_blank_lines_quotes_and_a_byte_order_mark_do_no_harm(tmp_path):
    run = read_run(write(tmp_path, '\ufeff"qid","pid","score"\r\n0,10,1e-3\r\n\r\n1,10,-2\r\n'))
    assert run.score.tolist() == [0.001, -2.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("qid,pid,score\n", "no rows below the header"),
        ("qid,score\n0,1\n", r"column pid is missing \(found: qid, score\)"),
        ("qid\tpid\tscore\n0\t1\t2\n", "column qid is missing"),
        ("qid,pid,pid,score\n0,1,1,1\n", "column pid stands twice in the header"),
        ("qid,pid,score\n0,1,1\n0,2,high\n", "column score is 'high' in line 3: not a number"),
        ("qid,pid,score\n0,1,1\n\n0,2,NA\n", "column score is 'NA' in line 4: not a number"),
        ("qid,pid,score\n0,1.5,1\n", "column pid is '1.5' in line 2: not a whole number"),
        ("qid,pid,score\n0,99999999999999999999,1\n", "in line 2: too large"),
        ("qid,pid,score\n0,1,1\n0,2\n", "line 3 has 2 cells, the header has 3"),
        ("qid,pid,score\n0,1,1\n0,2,\n", r"column score is empty \(line 3\)"),
        ("qid,pid,score\n0,1,1\n\n,2,1\n", r"column qid is empty \(line 4\)"),
        ("qid,pid,score\n0,1,1\n0,2,nan\n", r"column score is NaN.*\(line 3\)"),
        ("qid,pid,score\n0,1,1\n-1,2,1\n", r"column qid is negative.*\(line 3\)"),
        (
            "qid,pid,score\n0,1,1\n0,2,1\n1,2,1\n0,2,5\n",
            "qid 0, pid 2 stands twice, in line 3 and line 5",
        ),
    ],
)
def test_an_unusable_run_is_refused_with_file_column_and_line(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_run(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_run(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="is a folder"):
        read_run(tmp_path)
    broken = tmp_path / "run.parquet"
    broken.write_bytes(b"PAR1" + b"\0" * 50)
    with pytest.raises(InputError, match="not a readable Parquet file"):
        read_run(broken)
    binary = tmp_path / "run.bin"
    binary.write_bytes(bytes(range(128, 256)))
    with pytest.raises(InputError, match="column qid is missing"):
        read_run(binary)


def test_parquet_errors_name_the_row_or_the_type(tmp_path):
    path = tmp_path / "run.parquet"
    columns = {"qid": [0, 0], "pid": [1, 2], "score": [1.0, None]}
    pa_parquet.write_table(pa.table(columns), path)
    with pytest.raises(InputError, match=r"column score is empty \(row 2\)"):
        read_run(path)
    pa_parquet.write_table(pa.table(columns | {"score": ["1", "2"]}), path)
    with pytest.raises(InputError, match="column score has type string"):
        read_run(path)
    pa_parquet.write_table(pa.table(columns | {"pid": [1.0, 2.5], "score": [1.0, 2.0]}), path)
    with pytest.raises(InputError, match="column pid has type double"):
        read_run(path)
    pa_parquet.write_table(pa.table(columns | {"pid": [1, 1], "score": [1.0, 2.0]}), path)
    with pytest.raises(InputError, match="in row 1 and row 2"):
        read_run(path)


def test_qrels_may_repeat_a_pair_and_the_report_says_so(tmp_path):
    qrels = read_qrels(write(tmp_path, QRELS + "0,11\n", "qrels.csv"))
    assert len(qrels.qid) == 3
    run = read_run(write(tmp_path, RUN))
    report = evaluate(run, qrels)
    assert any("1 pairs of the qrels repeat" in warning for warning in report.warnings)
    assert report.model.metrics.means["recall@10"] == 1.0
    with pytest.raises(InputError, match=r"column pid is 'x' in line 3"):
        read_qrels(write(tmp_path, "qid,pid\n0,1\n0,x\n", "qrels.csv"))


def test_no_common_request_explains_what_a_qid_is(tmp_path):
    run = read_run(write(tmp_path, "qid,pid,score\n40,1,1\n"))
    qrels = read_qrels(write(tmp_path, QRELS, "qrels.csv"))
    with pytest.raises(InputError, match=r"zero-based row.*older than April 2025"):
        evaluate(run, qrels)
    with pytest.raises(InputError, match="no qid in common"):
        compare(run, run, qrels)


def test_the_official_mode_needs_a_request_among_the_first_thousand():
    run = Run("late", np.array([2000]), np.array([1]), np.array([1.0]))
    qrels = Qrels("late", np.array([2000]), np.array([1]))
    assert evaluate(run, qrels, "full").model.metrics.means["mrr@10"] == 1.0
    with pytest.raises(InputError, match="first 1,000 rows"):
        evaluate(run, qrels, "official")


def test_the_order_of_the_rows_is_never_taken_for_the_shown_order():
    run, qrels = synthetic()
    without = Run(run.name, run.qid, run.pid, run.score)
    for mode in ("full", "official"):
        names = [row.name for row in evaluate(without, qrels, mode).rows]
        assert names == ["vague", RANDOM, ORACLE]
        names = [row.name for row in evaluate(run, qrels, mode).rows]
        assert names == ["vague", SHOWN, REVERSED, RANDOM, ORACLE]
    assert "no column shown_rank" in format_report(evaluate(without, qrels))


def test_a_constant_run_equals_the_random_anchor_and_is_called_constant():
    run, qrels = synthetic()
    constant = Run("constant", run.qid, run.pid, np.full(len(run.qid), 0.7))
    report = evaluate(constant, qrels)
    random = next(row for row in report.rows if row.name == RANDOM)
    assert report.model.metrics.means == random.metrics.means
    assert any("the run ranks nothing" in warning for warning in report.warnings)
    assert not evaluate(run, qrels).warnings


def test_anchors_are_ordered_and_intervals_hold_their_means():
    run, qrels = synthetic()
    report = evaluate(run, qrels)
    rows = {row.name: row for row in report.rows}
    assert rows[ORACLE].metrics.means["ndcg@10"] == pytest.approx(1.0)
    assert rows[ORACLE].metrics.means["auc"] == 1.0
    # The shown order here is random, so the two directions stand on both sides of the anchor.
    shown, back = rows[SHOWN].metrics.means["gauc"], rows[REVERSED].metrics.means["gauc"]
    assert shown + back == pytest.approx(1.0)
    for row in report.rows:
        assert set(row.intervals) == set(METRICS) - {"auc"}
        for metric, interval in row.intervals.items():
            assert interval.mean == row.metrics.means[metric]
            assert interval.low - 1e-12 <= interval.mean <= interval.high + 1e-12
    assert rows[RANDOM].metrics.means["mrr@10"] < rows["vague"].intervals["mrr@10"].low


def test_low_coverage_is_a_warning_with_the_cause():
    run, qrels = synthetic(100)
    shifted = Qrels("old order", (qrels.qid + 1) % 100, qrels.pid + (qrels.pid % 2) * 100)
    report = evaluate(run, shifted)
    assert report.coverage < 0.7
    assert any("another row order" in warning for warning in report.warnings)
    assert "warning: only" in format_report(report)


def test_missing_requests_are_counted_and_said():
    run, qrels = synthetic(100)
    half = run.qid < 50
    part = Run("half", run.qid[half], run.pid[half], run.score[half])
    full = evaluate(part, qrels)
    assert (full.n_requests, full.n_missing, full.coverage) == (100, 50, 1.0)
    official = evaluate(part, qrels, "official")
    assert (official.n_requests, official.n_missing) == (50, 50)
    assert official.model.metrics.means["recall@10"] == 2 * full.model.metrics.means["recall@10"]
    assert any("50 requests of the qrels are not in the run" in w for w in full.warnings)


def test_a_clear_difference_is_resolvable_and_a_small_one_is_not():
    run, qrels = synthetic()
    rng = np.random.default_rng(1)
    noise = Run("noise", run.qid, run.pid, rng.normal(size=len(run.qid)))
    clear = compare(run, noise, qrels)
    assert clear.n_requests == 300
    for difference in clear.differences:
        assert difference.is_resolvable
        assert difference.p_value < 0.001
        assert difference.interval.low > 0
        assert difference.sentence.endswith("(p < 0.001): resolvable.")
        assert "vague is better than noise" in difference.sentence
    other = Run("other noise", run.qid, run.pid, rng.normal(size=len(run.qid)))
    unclear = compare(noise, other, qrels, metrics=("mrr@10",)).differences
    assert len(unclear) == 1
    assert not unclear[0].is_resolvable
    assert "not resolvable on this sample; differences from about" in unclear[0].sentence
    assert unclear[0].smallest_seen == pytest.approx(
        2.8 * (unclear[0].interval.high - unclear[0].interval.low) / 3.92, rel=0.15
    )


def test_a_comparison_with_itself_is_no_difference():
    run, qrels = synthetic(50)
    for difference in compare(run, run, qrels).differences:
        assert difference.p_value == 1.0
        assert not difference.is_resolvable
        assert "equal" in difference.sentence


def test_runs_of_one_name_are_told_apart():
    run, qrels = synthetic(50)
    worse = Run(run.name, run.qid, run.pid, -run.score)
    comparison = compare(run, worse, qrels, metrics=("mrr@10",))
    assert (comparison.run_a, comparison.run_b) == ("vague (a)", "vague (b)")
    assert "vague (a) is better than vague (b)" in comparison.differences[0].sentence


def test_an_undefined_metric_is_a_dash_without_an_interval():
    run = Run("one", np.array([0]), np.array([1]), np.array([1.0]))
    text = format_report(evaluate(run, Qrels("one", np.array([0]), np.array([1]))))
    gauc = next(line for line in text.splitlines() if line.startswith("GAUC"))
    assert gauc.split() == ["GAUC", "-", "-", "-"]


def test_a_comparison_pairs_the_requests_both_runs_have_in_official_mode():
    run, qrels = synthetic(60)
    late, early = run.qid >= 20, run.qid < 40
    a = Run("a", run.qid[early], run.pid[early], run.score[early])
    b = Run("b", run.qid[late], run.pid[late], run.score[late])
    official = compare(a, b, qrels, "official")
    assert official.n_requests == 20
    assert all(difference.interval.mean == 0 for difference in official.differences)
    assert compare(a, b, qrels).n_requests == 60
    with pytest.raises(ValueError, match="no per-request metric 'auc'"):
        compare(a, b, qrels, metrics=["auc"])


def test_reports_are_the_same_every_time_and_valid_json():
    run, qrels = synthetic(40)
    first, second = (to_json(evaluate(run, qrels)) for _ in range(2))
    assert first == second
    text = json.dumps(first, allow_nan=False)
    assert json.loads(text)["rows"][0]["metrics"].keys() == set(METRICS)
    one_class = Run("one", np.array([0]), np.array([1]), np.array([1.0]))
    undefined = to_json(evaluate(one_class, Qrels("one", np.array([0]), np.array([1]))))
    assert undefined["rows"][0]["metrics"]["auc"] is None
    json.dumps(undefined, allow_nan=False)
    json.dumps(to_json(compare(run, run, qrels)), allow_nan=False)


def test_the_text_report_shows_every_metric_of_every_ranking():
    run, qrels = synthetic(40)
    report = evaluate(run, qrels)
    text = format_report(report)
    line = next(line for line in text.splitlines() if line.startswith("MRR@10 "))
    for row in report.rows:
        assert f"{row.metrics.means['mrr@10']:.4f}" in line
    assert f"mode   full: {'all requests'}" in text
    assert max(len(line) for line in text.splitlines()[6:18]) <= 100
    comparison = format_comparison(compare(run, run, qrels))
    assert "a - b" in comparison
    assert "NDCG@10" in comparison


def test_pairs_are_told_apart_however_large_the_ids():
    run = Run("big", np.array([0, 1]), np.array([2**62, 2**62 + 1]), np.array([1.0, 1.0]))
    qrels = Qrels("big", np.array([0, 1]), np.array([2**62, 2**62]))
    report = evaluate(run, qrels)
    assert report.coverage == 0.5
    assert not math.isclose(report.model.metrics.means["mrr@10"], 1.0)


def test_evaluation_imports_neither_torch_nor_data_frames():
    code = (
        "import sys, qilin_dagster.evaluation, models.metrics;"
        "print([m for m in ('torch', 'polars', 'pandas', 'dagster', 'duckdb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
