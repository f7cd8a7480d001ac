"""The ``qilin`` command as its user meets it: a process with output, errors and exit codes."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qilin_dagster.assets.training import RECIPES
from qilin_dagster.settings import REPOSITORY
from tests import published_log as log

QILIN = Path(sys.executable).parent / "qilin"


def qilin(
    *arguments: str | Path, cwd: Path | None = None, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("QILIN_") and name != "DAGSTER_HOME"
    }
    return subprocess.run(
        [QILIN, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd or REPOSITORY,
        env=environment,
        input=stdin,
        timeout=600,
    )


@pytest.fixture(scope="module")
def real_build(
    real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Everything, over the real sample."""
    lake = tmp_path_factory.mktemp("cli") / "lake"
    return qilin("build", "--data", real_data / "qilin_sample", "--lake", lake), lake


class TestRealSample:
    def test_it_ends_with_a_report(self, real_build) -> None:
        done, lake = real_build
        assert done.returncode == 0, done.stderr
        report = Path(done.stdout.strip().splitlines()[-1])
        assert report.is_file()
        assert report.is_relative_to(lake)
        assert "Traceback" not in done.stderr
        assert "leaked" not in done.stderr

    def test_models_say_in_words_that_there_is_too_little_data(self, real_build) -> None:
        done, _ = real_build
        for recipe in RECIPES:
            assert f"training.{recipe.name}: not trained." in done.stderr
        first_page = Path(done.stdout.strip().splitlines()[-1])
        leaderboard = (first_page.parent / "leaderboard.html").read_text(encoding="utf-8")
        assert "Too little data to train" in leaderboard

    def test_orphans_are_a_warning_and_keep_their_rows(self, real_build) -> None:
        done, lake = real_build
        assert "warn: core.impressions notes_are_described (440 rows)" in done.stderr
        counted = qilin(
            "sql", "--lake", lake, "--format", "csv", "select count(*) as n from core.impressions"
        )
        assert counted.stdout == "n\n450\n"

    def test_report_prints_its_path_last(self, real_build) -> None:
        done, lake = real_build
        assert qilin("report", "--lake", lake).stdout.strip() == done.stdout.strip()

    def test_sql_agrees_with_the_rows_counted_by_hand(self, real_build) -> None:
        """Impressions, clicks, depth and first click of the feed's ten real requests.

        Read off the published rows: request_idx, impressions, clicks, least and greatest position.
        """
        _, lake = real_build
        answered = qilin(
            "sql",
            "--lake",
            lake,
            "--format",
            "json",
            "select published_idx, n_impressions, n_clicks, browsing_depth from core.requests "
            "where channel = 'recommendation' order by 1",
        )
        assert [tuple(row.values()) for row in json.loads(answered.stdout)] == [
            (1600, 4, 1, 4),
            (24362, 4, 2, 18),
            (39135, 8, 3, 20),
            (57064, 8, 1, 10),
            (71609, 8, 1, 4),
            (85210, 4, 1, 4),
            (85526, 13, 3, 14),
            (89564, 10, 1, 10),
            (89730, 11, 5, 11),
            (89788, 4, 2, 4),
        ]

    def test_building_again_does_no_work_twice(self, real_build, real_data: Path) -> None:
        _, lake = real_build
        again = qilin(
            "build", "--data", real_data / "qilin_sample", "--lake", lake, "--select", "core"
        )
        assert again.returncode == 0
        assert "core.impressions: 450 rows, unchanged" in again.stderr
        assert again.stdout == ""

    def test_the_catalog_file_opens_in_any_duckdb(self, real_build) -> None:
        import duckdb

        _, lake = real_build
        connection = duckdb.connect(str(lake / "catalog.duckdb"), read_only=True)
        assert connection.execute("select count(*) from bias.paper_values").fetchall() == [(111,)]

    def test_python_gets_a_ready_connection(self, real_build) -> None:
        from qilin_dagster.lake import connect

        connection = connect(real_build[1])
        assert connection.execute("select count(*) from core.requests").fetchall() == [(25,)]


class TestEvaluate:
    def test_the_official_numbers_exactly(self, real_data: Path) -> None:
        files = real_data / "real_search"
        done = qilin(
            "evaluate",
            files / "vlm_run_first500.csv",
            "--qrels",
            files / "qrels_first500.csv",
            "--mode",
            "official",
            "--json",
        )
        assert done.returncode == 0
        (report,) = json.loads(done.stdout)["reports"]
        model = report["rows"][0]["metrics"]
        assert model["mrr@10"] == 0.5492992063492064
        assert model["map@10"] == 0.39109453199798394
        assert model["mrr@100"] == 0.5545668537670652
        assert model["map@100"] == 0.4626362282920598
        names = [row["name"] for row in report["rows"]]
        assert {"shown order", "random"} <= set(names)

    def test_two_runs_are_compared(self, real_data: Path, tmp_path: Path) -> None:
        files = real_data / "real_search"
        run = files / "vlm_run_first500.csv"
        rows = list(csv.DictReader(io.StringIO(run.read_text(encoding="utf-8"))))
        with (tmp_path / "shown.csv").open("w", encoding="utf-8") as out:
            out.write("qid,pid,score\n")
            out.writelines(f"{r['qid']},{r['pid']},{-int(r['shown_rank'])}\n" for r in rows)
        done = qilin(
            "evaluate", run, tmp_path / "shown.csv", "--qrels", files / "qrels_first500.csv"
        )
        assert done.returncode == 0
        assert "resolvable" in done.stdout or "resolved" in done.stdout

    def test_a_run_that_is_no_run_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "run.csv").write_text("qid,pid\n1,2\n", encoding="utf-8")
        (tmp_path / "qrels.csv").write_text("qid,pid\n1,2\n", encoding="utf-8")
        done = qilin("evaluate", tmp_path / "run.csv", "--qrels", tmp_path / "qrels.csv")
        assert done.returncode == 2
        assert "score" in done.stderr
        assert "run.csv" in done.stderr


@pytest.mark.parametrize(
    ("break_data", "said"),
    [
        (
            lambda data: (data / "dqa" / "train-00000-of-00001.parquet").unlink(),
            "table dqa is empty",
        ),
        (
            lambda data: (data / "notes" / "train-00000-of-00001.parquet").write_bytes(b"x"),
            "cannot be read as a Parquet file",
        ),
        (lambda data: (data / "dqa.qrels.csv").write_text("a,b\n1,2\n"), "dqa.qrels.csv"),
    ],
)
def test_unusable_data_is_named_and_nothing_is_written(tmp_path: Path, break_data, said) -> None:
    data = log.write(tmp_path / "data")
    break_data(data)
    done = qilin("build", "--data", data, "--lake", tmp_path / "lake")
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.startswith("qilin: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["build", "--lake", "LAKE"], "no data folder"),
        (["build", "--data", "DATA", "--lake", "LAKE", "--select", "cor"], "did you mean core?"),
        (
            ["build", "--data", "DATA", "--lake", "LAKE", "--search-clock-offset", "x"],
            "neither auto nor a number of hours",
        ),
        (["sql", "--lake", "LAKE", "select 1"], "there is no lake"),
        (["sql", "--lake", "LAKE"], "give one statement"),
        (["report", "--lake", "LAKE"], "not in the lake"),
        (["gc", "--lake", "LAKE"], "there is no lake"),
        (["twin", "OUT", "--scale", "-1"], "scale"),
    ],
)
def test_an_unusable_command_says_why(tmp_path: Path, arguments: list[str], said: str) -> None:
    data = log.write(tmp_path / "data")
    places = {"DATA": data, "LAKE": tmp_path / "lake", "OUT": tmp_path / "out"}
    done = qilin(*(places.get(word, word) for word in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert not (tmp_path / "lake").exists()


def test_a_part_without_what_it_reads_says_so(tmp_path: Path) -> None:
    done = qilin("build", "--lake", tmp_path / "lake", "--select", "core")
    assert done.returncode == 1
    assert "core_views: published.notes is not in the lake" in done.stderr
    assert "build it first" in done.stderr
    assert "File " not in done.stderr


@pytest.fixture(scope="module")
def data_with_a_repeated_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tables = log.tables()
    tables["search_train"].append(tables["search_train"][0])
    return log.write(tmp_path_factory.mktemp("repeated") / "data", tables)


def test_a_failed_check_is_exit_one(tmp_path: Path, data_with_a_repeated_key: Path) -> None:
    options = ("--select", "raw", "--select", "core", "--max-quarantined", "0")
    lake = tmp_path / "lake"
    done = qilin("build", "--data", data_with_a_repeated_key, "--lake", lake, *options)
    assert done.returncode == 1
    assert (
        "error: quarantine.search_train few_rows_are_set_aside (1 rows): 1 row set aside (33 %): "
        "1 duplicate key; the limit is 0 % of a table (--max-quarantined)"
    ) in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_the_last_line_of_a_build_says_what_was_set_aside(
    tmp_path: Path, data_with_a_repeated_key: Path
) -> None:
    lake = tmp_path / "lake"
    done = qilin("build", "--data", data_with_a_repeated_key, "--lake", lake, "--select", "raw")
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == (
        "quarantine.search_train: 1 row set aside (33 %): 1 duplicate key; "
        'see qilin sql "from quarantine.search_train"'
    )
    asked = qilin("sql", "--lake", lake, "--format", "csv", "from quarantine.all_rows")
    assert asked.stdout.splitlines()[1:] == [
        "search_train,2,train-00000-of-00001.parquet,2,duplicate key,"
        "10 is the key of search_train row 0"
    ]


def test_a_strict_build_stops_at_the_first_row(
    tmp_path: Path, data_with_a_repeated_key: Path
) -> None:
    lake = tmp_path / "lake"
    options = ("--select", "raw", "--strict")
    done = qilin("build", "--data", data_with_a_repeated_key, "--lake", lake, *options)
    assert done.returncode == 1
    assert (
        "table search_train, file train-00000-of-00001.parquet, row 2 (row_number 2): duplicate key"
    ) in done.stderr
    assert "Traceback" not in done.stderr


def test_sql_reads_a_file_and_standard_input(real_build, tmp_path: Path) -> None:
    _, lake = real_build
    (tmp_path / "q.sql").write_text("select 1 as one", encoding="utf-8")
    asked = ("sql", "--lake", lake, "--format", "csv", "-f")
    assert qilin(*asked, tmp_path / "q.sql").stdout == "one\n1\n"
    assert qilin(*asked, "-", stdin="select 2 as two").stdout == "two\n2\n"


def test_sql_reads_a_pipe_and_tells_the_time_on_stderr(real_build) -> None:
    _, lake = real_build
    piped = qilin("sql", "--lake", lake, "--format", "csv", "--timing", stdin="select 3 as three")
    assert piped.stdout == "three\n3\n"
    assert piped.stderr.startswith("1 row, 0.")
    assert qilin("sql", "--lake", lake, stdin="select 3").stderr == ""
    assert "not both" in qilin("sql", "--lake", lake, "select 1", "-f", "-", stdin="x").stderr


def test_one_statement_does_not_load_the_prompt() -> None:
    code = (
        "import sys, qilin_dagster.cli, qilin_dagster.query; "
        "print([m for m in sys.modules if m.partition('.')[0] in ('prompt_toolkit', 'pygments')])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout == "[]\n"
