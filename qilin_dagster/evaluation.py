"""Evaluation: a run file and a qrels file in, metrics beside their anchors out.

A run has the columns `qid`, `pid`, `score` and, if known, `shown_rank` (the place in which the app
showed the note); qrels have `qid` and `pid`, one line per clicked note. `qid` is the zero-based
row of the request in its published test table. Both are CSV or Parquet.

No number stands alone: the same metrics of the shown order, its reverse, a random order and the
best possible order of the same candidates stand beside every model.
"""

import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
from numpy.typing import NDArray

from models.metrics import (
    OFFICIAL_ROWS,
    REQUEST_METRICS,
    SEEN_WITH_80_PERCENT_POWER,
    FloatArray,
    IntArray,
    Interval,
    Mode,
    RankingMetrics,
    bootstrap_bounds,
    bootstrap_means,
    first_duplicate,
    paired_randomisation_test,
    ranking_metrics,
)
from qilin_dagster.errors import InputError

METRICS = (*REQUEST_METRICS, "auc", "gauc")
COMPARED_METRICS = ("mrr@10", "map@10", "ndcg@10")
LOW_COVERAGE = 0.99
SHOWN, REVERSED, RANDOM, ORACLE = "shown order", "reverse shown order", "random", "oracle"

MODE_IN_WORDS: dict[Mode, str] = {
    "full": "all requests of the qrels, missing ones score 0, ties in expectation",
    "official": f"first {OFFICIAL_ROWS:,} rows, ties in the order of the run, missing skipped",
}
QID_IN_WORDS = (
    "qid is the zero-based row of the request in its published test table; qrels files older than "
    "April 2025 are in another row order"
)


@dataclass(frozen=True)
class Run:
    """Scored candidates: arrays of equal length, one row per (qid, pid).

    Attributes:
        name: what the report calls the model.
        qid, pid: int64 (N,).
        score: float64 (N,), higher is better.
        shown_rank: int64 (N,), place in which the app showed the note, from 1; None if unknown.
    """

    name: str
    qid: IntArray
    pid: IntArray
    score: FloatArray
    shown_rank: IntArray | None = None


@dataclass(frozen=True)
class Qrels:
    """Clicked notes: int64 arrays (P,) of equal length; pairs may repeat, as in published files."""

    name: str
    qid: IntArray
    pid: IntArray


@dataclass(frozen=True)
class ReportRow:
    """One ranking of the candidates: `intervals` has every metric but `auc`, which has none."""

    name: str
    kind: Literal["model", "anchor"]
    metrics: RankingMetrics
    intervals: dict[str, Interval]


@dataclass(frozen=True)
class Report:
    """A run and its anchors under one mode; the model is the first row.

    `coverage` is the share of the positives, of requests that the run has, that are among its
    candidates. `warnings` are full sentences for the reader.
    """

    run: str
    qrels: str
    mode: Mode
    rows: tuple[ReportRow, ...]
    n_requests: int
    n_candidates: int
    n_missing: int
    n_unjudged: int
    coverage: float
    warnings: tuple[str, ...]

    @property
    def model(self) -> ReportRow:
        return self.rows[0]


@dataclass(frozen=True)
class Difference:
    """Mean of a - b over requests, its interval, and the chance of one as large under no effect.

    `smallest_seen` is the difference that this sample would show with 80 % power.
    """

    metric: str
    mean_a: float
    mean_b: float
    interval: Interval
    p_value: float
    smallest_seen: float
    is_resolvable: bool
    sentence: str


@dataclass(frozen=True)
class Comparison:
    """Two runs over the same requests, one difference per metric."""

    run_a: str
    run_b: str
    qrels: str
    mode: Mode
    n_requests: int
    differences: tuple[Difference, ...]


def read_run(path: str | Path) -> Run:
    """Read scored candidates from CSV or Parquet.

    Raises:
        InputError: no such file, not readable, a column missing, empty, a cell that is not a
            number or is NaN, a negative qid, a pair that stands twice; names file, column and line.
    """
    path = Path(path)
    columns = _read(path, {"qid": int, "pid": int, "score": float}, {"shown_rank": int})
    run = Run(
        name=path.stem,
        qid=columns["qid"],
        pid=columns["pid"],
        score=columns["score"],
        shown_rank=columns.get("shown_rank"),
    )
    _require_rows(path, "score", ~np.isnan(run.score), "is NaN: every candidate needs a score")
    _require_rows(path, "qid", run.qid >= 0, f"is negative: {QID_IN_WORDS}")
    repeated = first_duplicate(_pair_codes(run.qid, run.pid))
    if repeated is not None:
        first, second = (_where(path, row) for row in repeated)
        row = repeated[0]
        raise InputError(
            f"{path}: qid {run.qid[row]}, pid {run.pid[row]} stands twice, in {first} and {second}"
        )
    return run


def read_qrels(path: str | Path) -> Qrels:
    """Read clicked notes from CSV or Parquet.

    A pair that stands twice is not an error, because the published recommendation file has two:
    the full mode counts it once, the official mode twice, and the report says so.

    Raises:
        InputError: as `read_run`, for the columns qid and pid.
    """
    path = Path(path)
    columns = _read(path, {"qid": int, "pid": int}, {})
    _require_rows(path, "qid", columns["qid"] >= 0, f"is negative: {QID_IN_WORDS}")
    return Qrels(name=path.stem, qid=columns["qid"], pid=columns["pid"])


def evaluate(
    run: Run, qrels: Qrels, mode: Mode = "full", *, n_samples: int = 1000, seed: int = 0
) -> Report:
    """Score a run beside its anchors, with 95 % bootstrap intervals over requests.

    The anchors `shown order` and `reverse shown order` appear only when the run knows shown_rank:
    the order of a file's rows is no evidence of what was shown.

    Args:
        run, qrels: from `read_run` and `read_qrels`, or built from arrays.
        mode: `full` or `official`; see `models.metrics`.
        n_samples: bootstrap samples; the same ones for every row and metric.
        seed: of the bootstrap.

    Raises:
        InputError: run and qrels have no request in common, or arrays that do not fit.
    """
    _require_common_requests(run, qrels, mode)
    rankings = [(run.name, run.score)]
    if run.shown_rank is not None:
        shown = run.shown_rank.astype(np.float64)
        rankings += [(SHOWN, -shown), (REVERSED, shown)]
    is_hit = _is_hit(run, qrels)
    rankings += [(RANDOM, np.zeros(len(run.qid))), (ORACLE, is_hit.astype(np.float64))]

    results = []
    for name, score in rankings:
        # A random order has no given order: its ties are the whole list, taken in expectation.
        ties: Literal["expected"] | None = "expected" if name == RANDOM else None
        results.append(_metrics(run, score, qrels, mode, ties))
    model = results[0]
    columns = [result.per_request[metric] for result in results for metric in REQUEST_METRICS]
    low, high = bootstrap_bounds(np.stack(columns, axis=1), n_samples=n_samples, seed=seed)

    rows = []
    for index, ((name, _), result) in enumerate(zip(rankings, results, strict=True)):
        intervals = {}
        for offset, metric in enumerate(REQUEST_METRICS):
            column = index * len(REQUEST_METRICS) + offset
            intervals[metric] = Interval(
                result.means[metric], float(low[column]), float(high[column])
            )
        intervals["gauc"] = _gauc_interval(result, n_samples, seed)
        rows.append(ReportRow(name, "anchor" if index else "model", result, intervals))

    coverage = model.n_found / model.n_positives if model.n_positives else 0.0
    return Report(
        run=run.name,
        qrels=qrels.name,
        mode=mode,
        rows=tuple(rows),
        n_requests=len(model.qid),
        n_candidates=int(model.n_candidates.sum()),
        n_missing=model.n_missing,
        n_unjudged=model.n_unjudged,
        coverage=coverage,
        warnings=tuple(_warnings(run, qrels, mode, model, coverage)),
    )


def compare(
    run_a: Run,
    run_b: Run,
    qrels: Qrels,
    mode: Mode = "full",
    *,
    metrics: Sequence[str] = COMPARED_METRICS,
    n_samples: int = 1000,
    n_permutations: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Paired difference a - b of two runs, and whether this sample can resolve it.

    Resolvable means: the 95 % bootstrap interval of the difference leaves out 0 and the p-value
    of the sign-flip test is below 0.05. In the official mode only requests that both runs have
    are paired.

    Raises:
        InputError: a run and the qrels, or the two runs, have no request in common.
        ValueError: a metric that has no value per request.
    """
    unknown = [metric for metric in metrics if metric not in REQUEST_METRICS]
    if unknown:
        raise ValueError(f"no per-request metric {unknown[0]!r}: one of {', '.join(METRICS[:-2])}")
    name_a, name_b = run_a.name, run_b.name
    if name_a == name_b:
        name_a, name_b = f"{name_a} (a)", f"{name_b} (b)"
    results = []
    for run in (run_a, run_b):
        _require_common_requests(run, qrels, mode)
        results.append(_metrics(run, run.score, qrels, mode))
    a, b = results
    common, row_a, row_b = np.intersect1d(a.qid, b.qid, return_indices=True)
    if len(common) == 0:
        raise InputError(f"{name_a} and {name_b} have no evaluated qid in common")

    a_RM = np.stack([a.per_request[metric][row_a] for metric in metrics], axis=1)
    b_RM = np.stack([b.per_request[metric][row_b] for metric in metrics], axis=1)
    low, high = bootstrap_bounds(a_RM - b_RM, n_samples=n_samples, seed=seed)
    differences = []
    for m, metric in enumerate(metrics):
        p_value = paired_randomisation_test(
            a_RM[:, m], b_RM[:, m], n_permutations=n_permutations, seed=seed
        )
        difference = a_RM[:, m] - b_RM[:, m]
        interval = Interval(float(difference.mean()), float(low[m]), float(high[m]))
        smallest = (
            SEEN_WITH_80_PERCENT_POWER * float(difference.std(ddof=1)) / math.sqrt(len(common))
            if len(common) > 1
            else math.nan
        )
        is_resolvable = p_value < 0.05 and not interval.low <= 0 <= interval.high
        differences.append(
            Difference(
                metric=metric,
                mean_a=float(a_RM[:, m].mean()),
                mean_b=float(b_RM[:, m].mean()),
                interval=interval,
                p_value=p_value,
                smallest_seen=smallest,
                is_resolvable=is_resolvable,
                sentence=_difference_in_words(
                    metric, name_a, name_b, interval, p_value, smallest, is_resolvable
                ),
            )
        )
    return Comparison(
        run_a=name_a,
        run_b=name_b,
        qrels=qrels.name,
        mode=mode,
        n_requests=len(common),
        differences=tuple(differences),
    )


def format_report(report: Report) -> str:
    """The report as plain text: metrics down, the model and its anchors across."""
    counts = (
        f"{report.n_requests:,} requests ({report.n_missing:,} of the qrels missing in the run), "
        f"{report.n_candidates:,} candidates, "
        f"{100 * report.coverage:.1f} % of the positives among them"
    )
    lines = [
        f"run    {report.run}",
        f"qrels  {report.qrels}",
        f"mode   {report.mode}: {MODE_IN_WORDS[report.mode]}",
        counts,
        "",
    ]
    header = ["", _shortened(report.model.name, 22), "95 % interval"]
    header += [row.name for row in report.rows[1:]]
    table = [header]
    for metric in METRICS:
        interval = report.model.intervals.get(metric)
        cells = [metric_label(metric), _number(report.model.metrics.means[metric])]
        if interval is None or math.isnan(interval.low):
            cells.append("")
        else:
            cells.append(f"{_number(interval.low)} .. {_number(interval.high)}")
        cells += [_number(row.metrics.means[metric]) for row in report.rows[1:]]
        table.append(cells)
    lines += _aligned(table)
    lines += ["", "MAP divides by min(R, k), MAP_R by R; R = positives of the request."]
    if not any(row.name == SHOWN for row in report.rows):
        lines.append("Shown order: unknown, because the run has no column shown_rank.")
    lines += [f"warning: {warning}" for warning in report.warnings]
    return "\n".join(lines)


def format_comparison(comparison: Comparison) -> str:
    """The comparison as plain text: one line of figures and one sentence per metric."""
    lines = [
        f"a      {comparison.run_a}",
        f"b      {comparison.run_b}",
        f"qrels  {comparison.qrels}",
        f"mode   {comparison.mode}: {MODE_IN_WORDS[comparison.mode]}",
        f"{comparison.n_requests:,} requests, paired",
        "",
    ]
    table = [["", "a", "b", "a - b", "95 % interval", "p"]]
    for difference in comparison.differences:
        interval = difference.interval
        table.append(
            [
                metric_label(difference.metric),
                _number(difference.mean_a),
                _number(difference.mean_b),
                f"{interval.mean:+.4f}",
                f"{interval.low:+.4f} .. {interval.high:+.4f}",
                _p_in_words(difference.p_value).removeprefix("= "),
            ]
        )
    lines += [*_aligned(table), ""]
    lines += [difference.sentence for difference in comparison.differences]
    return "\n".join(lines)


def to_json(result: Report | Comparison) -> dict[str, Any]:
    """The same content as plain numbers, strings and lists; undefined numbers are None."""
    if isinstance(result, Comparison):
        return {
            "run_a": result.run_a,
            "run_b": result.run_b,
            "qrels": result.qrels,
            "mode": result.mode,
            "n_requests": result.n_requests,
            "differences": [
                {
                    "metric": difference.metric,
                    "mean_a": difference.mean_a,
                    "mean_b": difference.mean_b,
                    "difference": difference.interval.mean,
                    "low": _json_number(difference.interval.low),
                    "high": _json_number(difference.interval.high),
                    "p_value": difference.p_value,
                    "smallest_seen": _json_number(difference.smallest_seen),
                    "is_resolvable": difference.is_resolvable,
                    "sentence": difference.sentence,
                }
                for difference in result.differences
            ],
        }
    return {
        "run": result.run,
        "qrels": result.qrels,
        "mode": result.mode,
        "mode_in_words": MODE_IN_WORDS[result.mode],
        "n_requests": result.n_requests,
        "n_candidates": result.n_candidates,
        "n_missing": result.n_missing,
        "n_unjudged": result.n_unjudged,
        "coverage": result.coverage,
        "warnings": list(result.warnings),
        "rows": [
            {
                "name": row.name,
                "kind": row.kind,
                "metrics": {name: _json_number(row.metrics.means[name]) for name in METRICS},
                "intervals": {
                    name: [_json_number(interval.low), _json_number(interval.high)]
                    for name, interval in row.intervals.items()
                },
            }
            for row in result.rows
        ],
    }


def metric_label(metric: str) -> str:
    """`mrr@10` as a reader knows it: `MRR@10`."""
    return {"recall@10": "Recall@10", "precision@10": "Precision@10"}.get(metric, metric.upper())


def _metrics(
    run: Run,
    score: FloatArray,
    qrels: Qrels,
    mode: Mode,
    ties: Literal["expected"] | None = None,
) -> RankingMetrics:
    try:
        return ranking_metrics(run.qid, run.pid, score, qrels.qid, qrels.pid, mode=mode, ties=ties)
    except ValueError as error:
        raise InputError(f"{run.name} against {qrels.name}: {error}") from error


def _gauc_interval(result: RankingMetrics, n_samples: int, seed: int) -> Interval:
    is_defined = ~np.isnan(result.request_auc)
    if not is_defined.any():
        return Interval(math.nan, math.nan, math.nan)
    sampled = bootstrap_means(
        result.request_auc[is_defined][:, None],
        n_samples=n_samples,
        seed=seed,
        weights=result.n_candidates[is_defined],
    )
    low, high = np.percentile(sampled[:, 0], [2.5, 97.5])
    return Interval(result.means["gauc"], float(low), float(high))


def _require_common_requests(run: Run, qrels: Qrels, mode: Mode) -> None:
    qid = np.intersect1d(run.qid, qrels.qid)
    if len(qid) == 0:
        raise InputError(
            f"run {run.name} and qrels {qrels.name} have no qid in common "
            f"(run: {_span(run.qid)}; qrels: {_span(qrels.qid)}); {QID_IN_WORDS}"
        )
    if mode == "official" and qid[0] >= OFFICIAL_ROWS:
        raise InputError(
            f"the official mode reads the first {OFFICIAL_ROWS:,} rows only, and the smallest qid "
            f"in both {run.name} and {qrels.name} is {qid[0]}; use the full mode"
        )


def _warnings(
    run: Run, qrels: Qrels, mode: Mode, model: RankingMetrics, coverage: float
) -> Iterator[str]:
    if coverage < LOW_COVERAGE:
        yield (
            f"only {100 * coverage:.1f} % of the positives are among the candidates of their "
            f"request, so run and qrels may not belong together: {QID_IN_WORDS}."
        )
    if model.n_missing:
        outcome = "score 0" if mode == "full" else "are skipped without penalty"
        yield f"{model.n_missing:,} requests of the qrels are not in the run and {outcome}."
    if model.n_unjudged:
        yield f"{model.n_unjudged:,} requests of the run have no positive and are left out."
    n_repeated = len(qrels.qid) - len(np.unique(_pair_codes(qrels.qid, qrels.pid)))
    if n_repeated:
        times = "once" if mode == "full" else "as often as they stand there"
        yield f"{n_repeated:,} pairs of the qrels repeat an earlier one; they count {times}."
    share = _share_of_constant_requests(run)
    if share == 1:
        yield "every request has one score for all its candidates: the run ranks nothing."
    elif share > 0.05:
        yield f"{100 * share:.1f} % of the requests have one score for all their candidates."


def _share_of_constant_requests(run: Run) -> float:
    order = np.lexsort((run.score, run.qid))
    qid, score = run.qid[order], run.score[order]
    first = np.flatnonzero(np.append(True, qid[1:] != qid[:-1]))
    last = np.append(first[1:], len(qid)) - 1
    has_choice = last > first
    if not has_choice.any():
        return 0.0
    return float(np.mean(score[first[has_choice]] == score[last[has_choice]]))


def _difference_in_words(
    metric: str, a: str, b: str, interval: Interval, p_value: float, smallest: float, resolved: bool
) -> str:
    label, p = metric_label(metric), _p_in_words(p_value)
    size = f"{abs(interval.mean):.4f}"
    if interval.mean == 0 and interval.low == interval.high == 0:
        return f"{label}: {a} and {b} are equal on every resampled set of requests."
    if resolved:
        better, worse = (a, b) if interval.mean > 0 else (b, a)
        return f"{label}: {better} is better than {worse} by {size} (p {p}): resolvable."
    seen = "" if math.isnan(smallest) else f"; differences from about {smallest:.3f} up would be"
    return f"{label}: a difference of {size} (p {p}) is not resolvable on this sample{seen}."


def _p_in_words(p_value: float) -> str:
    return f"= {p_value:.3f}" if p_value >= 0.001 else "< 0.001"


def _is_hit(run: Run, qrels: Qrels) -> NDArray[np.bool_]:
    codes = _pair_codes(np.concatenate([run.qid, qrels.qid]), np.concatenate([run.pid, qrels.pid]))
    return np.isin(codes[: len(run.qid)], codes[len(run.qid) :])


def _pair_codes(qid: IntArray, pid: IntArray) -> IntArray:
    """One integer per pair, equal for equal pairs."""
    _, q_code = np.unique(qid, return_inverse=True)
    pids, p_code = np.unique(pid, return_inverse=True)
    return (q_code * len(pids) + p_code).astype(np.int64)


def _span(qid: IntArray) -> str:
    return f"{qid.min()} to {qid.max()}" if len(qid) else "none"


# Reading. The fast reader says that something is wrong; where it is wrong, in words and by line,
# is found by reading the file again slowly.

_WHOLE_NUMBER = re.compile(r"[+-]?\d+")


def _read(
    path: Path, required: dict[str, type], optional: dict[str, type]
) -> dict[str, NDArray[Any]]:
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not a CSV or Parquet file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    kinds = required | optional
    if _is_parquet(path):
        table = _read_parquet(path, required, kinds)
    else:
        table = _read_csv(path, required, kinds)
    if table.num_rows == 0:
        raise InputError(f"{path}: no rows below the header")
    columns = {}
    for name, kind in kinds.items():
        if name not in table.column_names:
            continue
        column = table.column(name)
        _require_rows(path, name, column.is_valid().to_numpy(), "is empty")
        columns[name] = column.to_numpy().astype(np.int64 if kind is int else np.float64)
    return columns


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _require_columns(path: Path, found: Sequence[str], required: dict[str, type]) -> None:
    for name in required:
        if name not in found:
            raise InputError(f"{path}: column {name} is missing (found: {', '.join(found)})")


def _read_csv(path: Path, required: dict[str, type], kinds: dict[str, type]) -> pa.Table:
    header = _csv_header(path)
    for name in kinds:
        if header.count(name) > 1:
            raise InputError(f"{path}: column {name} stands twice in the header")
    _require_columns(path, header, required)
    try:
        return pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(use_threads=False),
            convert_options=pa_csv.ConvertOptions(
                column_types={
                    name: pa.int64() if kind is int else pa.float64()
                    for name, kind in kinds.items()
                },
                # The word nan must arrive as NaN, to be refused as such.
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        _explain_csv(path, header, kinds)
        raise InputError(f"{path}: not a readable CSV file: {error}") from error


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number (the header is line 1) and cells of every line that is not blank."""
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.reader(file)
        for cells in reader:
            if cells:
                yield reader.line_num, cells


def _csv_header(path: Path) -> list[str]:
    try:
        for _, cells in _csv_rows(path):
            return cells
    except csv.Error as error:
        raise InputError(f"{path}: neither a CSV nor a Parquet file: {error}") from error
    raise InputError(f"{path}: the file is empty")


def _explain_csv(path: Path, header: list[str], kinds: dict[str, type]) -> None:
    """Raise an error for the first cell or line that cannot be read, if there is one."""
    rows = _csv_rows(path)
    next(rows)
    places = [(header.index(name), name, kind) for name, kind in kinds.items() if name in header]
    for line, cells in rows:
        if len(cells) != len(header):
            raise InputError(
                f"{path}: line {line} has {len(cells)} cells, the header has {len(header)}"
            )
        for place, name, kind in places:
            text = cells[place].strip()
            if not text:
                raise InputError(f"{path}: column {name} is empty in line {line}")
            if kind is int and not _WHOLE_NUMBER.fullmatch(text):
                raise InputError(
                    f"{path}: column {name} is {text!r} in line {line}: not a whole number"
                )
            if kind is int and not -(2**63) <= int(text) < 2**63:
                raise InputError(f"{path}: column {name} is {text} in line {line}: too large")
            if kind is float and not _is_number(text):
                raise InputError(f"{path}: column {name} is {text!r} in line {line}: not a number")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_parquet(path: Path, required: dict[str, type], kinds: dict[str, type]) -> pa.Table:
    try:
        found = pa_parquet.read_schema(path).names
        _require_columns(path, found, required)
        table = pa_parquet.read_table(path, columns=[name for name in kinds if name in found])
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file: {error}") from error
    for name in table.column_names:
        type_ = table.schema.field(name).type
        wanted = pa.int64() if kinds[name] is int else pa.float64()
        is_number = pa.types.is_integer(type_) or pa.types.is_floating(type_)
        try:
            if not is_number:
                raise pa.ArrowInvalid("not a number")
            column = table.column(name).cast(wanted, safe=kinds[name] is int)
        except pa.ArrowInvalid as error:
            raise InputError(
                f"{path}: column {name} has type {type_}, needed is {wanted}: {error}"
            ) from error
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def _require_rows(path: Path, column: str, is_good: NDArray[np.bool_], what: str) -> None:
    bad = np.flatnonzero(~is_good)
    if len(bad):
        raise InputError(f"{path}: column {column} {what} ({_where(path, int(bad[0]))})")


def _where(path: Path, row: int) -> str:
    """The place of a data row as a person finds it: a line of text, or a row from 1."""
    if _is_parquet(path):
        return f"row {row + 1}"
    for number, (line, _) in enumerate(_csv_rows(path)):
        if number == row + 1:
            return f"line {line}"
    return f"row {row + 1}"


# Text.


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
