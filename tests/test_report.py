"""The report: says the lake's numbers in words and plots, needs no network, survives what lacks."""

from __future__ import annotations

import itertools
import json
import math
import re
import struct
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from qilin_dagster import report
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.report import (
    BIAS_VIEWS,
    QUERIES,
    Provenance,
    figures,
    read_numbers,
    sections,
    write_report,
)
from qilin_dagster.report_blocks import Text, difference_text
from tests.browser import CHROMIUM

RELATIONS = """
create schema quarantine; create schema core; create schema bias; create schema evaluation;
create table quarantine.all_rows (
    source_table varchar, row_number bigint, source_file varchar, source_row bigint,
    reason varchar, detail varchar);
create table core.requests (request_id varchar, channel varchar, source_table varchar);
create table core.impressions (request_id varchar, impression_n integer, is_clicked boolean);
create table bias.engagement_by_channel (
    channel varchar, n_requests bigint, browsing_depth_mean double,
    first_click_position_mean double, clicks_per_request double, click_rate double,
    like_rate double, collect_rate double, share_rate double, comment_rate double);
create table bias.engagement_by_answer_shown (
    has_answer boolean, n_requests bigint, browsing_depth_mean double,
    first_click_position_mean double, clicks_per_request double, click_rate double,
    like_rate double, collect_rate double, share_rate double, comment_rate double);
create table bias.click_rate_by_transition (
    transition varchar, n_transitions bigint, transition_share double,
    clicks_per_request double, click_rate double);
create table bias.click_rate_by_position (
    channel varchar, position_bin integer, n_impressions bigint, n_clicks bigint,
    click_rate double, click_rate_low double, click_rate_high double);
create table bias.click_rate_by_session_position (
    channel varchar, session_position_bin integer, n_requests bigint, n_impressions bigint,
    n_clicks bigint, click_rate double, click_rate_low double, click_rate_high double);
create table bias.paper_values (
    paper_table varchar, measure varchar, cut varchar, paper_value double, our_value double,
    difference double, relative_difference double, standard_error double, expectation varchar,
    tolerance double, is_within boolean);
create table evaluation.leaderboard (
    task varchar, mode varchar, run varchar, kind varchar, metric varchar, value double,
    low double, high double, n_requests bigint);
create table evaluation.comparisons (
    task varchar, metric varchar, run_a varchar, run_b varchar, kind_b varchar, mean_a double,
    mean_b double, difference double, low double, high double, p_value double, p_holm double,
    smallest_seen double, is_resolvable boolean, n_requests bigint);
create table evaluation.slices (
    task varchar, slice varchar, slice_value varchar, run varchar, kind varchar, metric varchar,
    value double, low double, high double, n_requests bigint, n_users bigint);
create table evaluation.calibration (
    task varchar, run varchar, bin bigint, predicted_share double, clicked_share double,
    low double, high double, n_candidates bigint);
create table evaluation.examples (
    task varchar, row_number bigint, query varchar, pid bigint, note_title varchar, cover varchar,
    shown_rank bigint, is_clicked boolean, run varchar, score double, rank bigint);
create table core.images (
    note_idx bigint, image_n bigint, is_readable boolean, reason varchar);
create schema ablation;
create table ablation.image_worth (
    task varchar, comparison varchar, slice varchar, slice_value varchar, metric varchar,
    run varchar, against varchar, mean double, mean_against double, difference double, low double,
    high double, p_value double, p_holm double, is_told_apart boolean, n_requests bigint,
    n_users bigint);
create table evaluation.answer_effects (
    outcome varchar, estimator varchar, effect_on varchar, query_form varchar, estimate double,
    standard_error double, low double, high double, mean_hidden double, e_value double,
    e_value_of_interval double, robustness_value double, robustness_value_of_interval double,
    n_shown bigint, n_hidden bigint, n_users bigint, caution varchar);
create table evaluation.answer_balance (
    covariate varchar, mean_shown double, mean_hidden double, difference_before double,
    difference_weighted double, difference_matched double);
create table evaluation.answer_overlap (
    bin bigint, propensity_from double, propensity_to double, n_shown bigint, n_hidden bigint,
    mean_propensity double, shown_share double);
create table evaluation.answer_refutations (
    outcome varchar, refutation varchar, expected double, estimate double, low double, high double,
    n_requests bigint, n_draws bigint, is_as_expected boolean);
create table evaluation.answer_metrics (
    context varchar, metric varchar, generator varchar, how varchar, value double, low double,
    high double, n_requests bigint, n_without_answer bigint);
create table evaluation.answer_feedback (
    context varchar, metric varchar, flag varchar, mean_with double, mean_without double,
    auc double, low double, high double, n_with bigint, n_without bigint);
create table ablation.context_worth (
    task varchar, context varchar, design varchar, metric varchar, mean double,
    mean_against double, difference double, low double, high double, p_value double,
    p_holm double, is_told_apart boolean, seed_deviation double, n_seeds bigint,
    n_requests bigint, n_users bigint);
create table ablation.cold_start (
    task varchar, ranker varchar, based_on varchar, train_share double, n_fit_requests bigint,
    slice varchar, slice_value varchar, metric varchar, value double, low double, high double,
    n_clicks bigint, n_users bigint);
create table evaluation.unbiased (
    task varchar, judged_by varchar, metric varchar, run varchar, kind varchar, value double,
    low double, high double, n_requests bigint, n_users bigint, n_judged bigint,
    n_effective double, clip double, clipped_share double);
create table evaluation.cold_start (
    task varchar, run varchar, kind varchar, slice varchar, slice_value varchar, metric varchar,
    value double, low double, high double, n_clicks bigint, n_users bigint);
create table evaluation.retrieval (
    task varchar, run varchar, protocol varchar, metric varchar, value double, low double,
    high double, n_requests bigint, n_notes bigint);
create table evaluation.history (
    evaluation_n bigint, evaluated_at timestamptz, data_fingerprint varchar, task varchar,
    run varchar, kind varchar, metric varchar, value double, low double, high double);
create table evaluation.checks (
    asset varchar, check_name varchar, severity varchar, passed boolean,
    unexpected_count bigint, why varchar, observed varchar);
create table evaluation.data_drift (
    profile_n bigint, data_fingerprint varchar, subject varchar, item varchar, n_requests bigint,
    value double, standard_error double, previous_value double, is_moved boolean, moved varchar);
create table evaluation.audit (
    check_n bigint, subject varchar, name varchar, about varchar, expected varchar,
    measured varchar, value double, verdict varchar, what_to_do varchar);
"""

# Of a page with everything on it.
N_PLOTS = 27
COVER = "data:image/jpeg;base64,/9j/4AAQ"
# (source table, channel, requests)
REQUESTS = [
    ("search_train", "search", 440),
    ("search_test", "search", 62),
    ("dqa", "search", 70),
    ("recommendation_train", "recommendation", 834),
    ("recommendation_test", "recommendation", 111),
]
POSITION_RATES = {
    "search": [0.24, 0.58, 0.43, 0.26, 0.29, 0.25, 0.22, 0.20, 0.19, 0.18, 0.17, 0.13],
    "recommendation": [0.21, 0.42, 0.37, 0.33, 0.30, 0.28, 0.21, 0.25, 0.24, 0.23, 0.22, 0.18],
}
ENGAGEMENT = {
    "search": (572, 22.31, 3.04, 3.86, 0.2114, 0.0405, 0.0191, 0.0061, 0.0029),
    "recommendation": (945, 18.92, 4.91, 3.70, 0.2398, 0.0712, 0.0139, 0.0066, 0.0104),
}
ANSWERS = {
    True: (29, 10.9, 2.44, 2.55, 0.2101, 0.0135, 0.0135, 0.0, 0.0),
    False: (543, 22.92, 3.07, 3.93, 0.2115, 0.0412, 0.0193, 0.0063, 0.0031),
}
TRANSITIONS: dict[str, tuple[float, ...]] = {
    "S->S": (293, 0.3488, 4.01, 0.2031),
    "R->S": (25, 0.0298, 3.88, 0.2264),
    "R->R": (498, 0.5929, 2.99, 0.2311),
    "S->R": (24, 0.0286, 4.42, 0.2477),
}
MEASURES = (
    *("n_requests", "browsing_depth_mean", "first_click_position_mean", "clicks_per_request"),
    *("click_rate", "like_rate", "collect_rate", "share_rate", "comment_rate"),
)
PAPER = {
    "search": (57188, 22.75, 3.01, 3.88, 0.2101, 0.0411, 0.0187, 0.0057, 0.0032),
    "recommendation": (94552, 18.8, 4.97, 3.67, 0.2413, 0.0707, 0.0147, 0.0063, 0.0099),
}
# run -> kind, MRR@10 in search; the other values are made from it
RUNS = {
    "oracle": ("anchor", 1.0),
    "display_order": ("anchor", 0.7312),
    "id_block_rule": ("anchor", 0.7034),
    "dcn_v2": ("model", 0.5613),
    "bm25": ("model", 0.5087),
    "popularity": ("anchor", 0.4911),
    "random": ("anchor", 0.4803),
    "reverse_display_order": ("anchor", 0.3361),
}
CHECKS: list[tuple[Any, ...]] = [
    ("core/impressions", "positions_are_not_negative", "ERROR", True, 0, "Nothing is above.", "0"),
    (
        *("core/impressions", "notes_are_known", "WARN", False, 5),
        *("Orphan notes keep their rows; models see them as unknown.", "5 of 21,306"),
    ),
    (
        *("raw/dqa", "labels_are_zero_or_one", "ERROR", False, 2),
        *("A label of 2 would count a click twice | or more.", "2 rows"),
    ),
]
AUDIT: list[tuple[Any, ...]] = [
    (1, "Time", "clock_unit.dqa", "Which unit?", "seconds", "seconds", None, "ok", ""),
    (
        *(2, "Leaks: note ids", "id_block_rule.search", "Does the number tell?", "within 0.05"),
        *("search 0.790", 0.79, "alarm", "Use note_key | never note_idx."),
    ),
]


def wilson(n_clicks: int, n: int) -> tuple[float, float, float]:
    rate, z2_n = n_clicks / n, 1.96**2 / n
    spread = math.sqrt(z2_n * (rate * (1 - rate) + z2_n / 4))
    centre = rate + z2_n / 2
    return rate, (centre - spread) / (1 + z2_n), (centre + spread) / (1 + z2_n)


def fill(connection: duckdb.DuckDBPyConnection) -> None:
    """Plausible rows: a log of one hundredth of the published size."""

    def insert(relation: str, rows: list[tuple[Any, ...]]) -> None:
        marks = ", ".join(f"({', '.join('?' for _ in row)})" for row in rows)
        values = [value for row in rows for value in row]
        connection.execute(f"insert into {relation} values {marks}", values)

    for table, channel, n_requests in REQUESTS:
        connection.execute(
            "insert into core.requests select ? || range, ?, ? from range(?)",
            [table, channel, table, n_requests],
        )
    connection.execute(
        "insert into core.impressions "
        "select request_id, range, range = 0 from core.requests, range(14)"
    )
    insert("bias.engagement_by_channel", [(c, *values) for c, values in ENGAGEMENT.items()])
    insert("bias.engagement_by_answer_shown", [(c, *values) for c, values in ANSWERS.items()])
    insert("bias.click_rate_by_transition", [(c, *values) for c, values in TRANSITIONS.items()])
    by_position: list[tuple[Any, ...]] = []
    by_session: list[tuple[Any, ...]] = []
    for channel, rates in POSITION_RATES.items():
        for position, rate in enumerate(rates):
            n = 25 if position == 0 else 6100 if position == 11 else 880 - 30 * position
            by_position.append((channel, position, n, round(rate * n), *wilson(round(rate * n), n)))
            if position:
                n, rate = 9000 // position, 0.24 - 0.008 * position
                clicks = round(rate * n)
                by_session.append((channel, position, n // 15, n, clicks, *wilson(clicks, n)))
    insert("bias.click_rate_by_position", by_position)
    insert("bias.click_rate_by_session_position", by_session)
    paper: list[tuple[Any, ...]] = []
    judged = (0.01, "not comparable", None, None)
    for cut, values in PAPER.items():
        for measure, value, ours in zip(MEASURES, values, ENGAGEMENT[cut], strict=True):
            paper.append(
                ("Table 5", measure, cut, value, ours, ours - value, ours / value - 1, *judged)
            )
    for transition, (*_, rate) in TRANSITIONS.items():
        paper.append(
            ("Table 6", "click_rate", transition, 0.2, rate, rate - 0.2, rate / 0.2 - 1, *judged)
        )
        paper.append(("Table 6", "clicks_per_request", transition, 4.0, *[None] * 4, *judged[1:]))
    insert("bias.paper_values", paper)
    scores: list[tuple[Any, ...]] = []
    for task, shift in (("search", 0.0), ("recommendation", 0.06)):
        for mode, n in (("full", 620), ("official", 1000)):
            metrics = {"mrr@10": 1.0, "map@10": 0.72, "mrr@100": 1.01, "map@100": 0.84}
            if mode == "full":
                metrics |= {"ndcg@10": 0.9, "recall@10": 1.2, "auc": 1.1, "gauc": 1.08}
            for run, (kind, value) in RUNS.items():
                for metric, factor in metrics.items():
                    v = 1.0 if run == "oracle" else (value + shift) * factor
                    half = 0.0 if run == "oracle" else 0.019
                    limits = (v - half, min(1.0, v + half)) if mode == "full" else (None, None)
                    scores.append((task, mode, run, kind, metric, v, *limits, n))
    insert("evaluation.leaderboard", scores)
    pairs = [("dcn_v2", "bm25", 0.0526, True), ("bm25", "random", 0.0284, False)]
    tested = (0.5, 0.4, 0.03, 0.01, 0.06, 0.01, 0.02, 0.03)
    insert(
        "evaluation.comparisons",
        [
            ("search", "mrr@10", a, b, "model", *tested[:2], by, *tested[3:], is_real, 62)
            for a, b, by, is_real in pairs
        ],
    )
    slices = [("notes shown", " 1-10"), ("notes shown", "21 and more")]
    insert(
        "evaluation.slices",
        [("search", *some, "bm25", "model", "mrr@10", 0.51, 0.44, 0.58, 31, 20) for some in slices],
    )
    insert(
        "evaluation.calibration",
        [("search", "dcn_v2", n, n / 50, n / 60, n / 80, n / 40, 99) for n in range(1, 11)],
    )
    insert(
        "evaluation.examples",
        [
            ("search", 7, "上海 咖啡", 11, "标题|一", COVER, 1, True, "bm25", 1.5, 2),
            ("search", 7, "上海 咖啡", 12, "另一个", None, 2, False, "bm25", 2.5, 1),
        ],
    )
    effect = (-0.2, 0.05, -0.3, -0.1, 2.9, 1.4, 1.3, 0.05, 0.03, 29, 41, 50, "")
    insert(
        "evaluation.answer_effects",
        [
            ("n_clicks", "raw difference", "all", "all", -0.5, *effect[1:]),
            ("n_clicks", "doubly robust", "all", "all", *effect),
            ("n_clicks", "doubly robust", "shown", "all", *effect),
            ("is_abandoned", "doubly robust", "all", "all", *effect[:-1], "only | some"),
            ("n_clicks", "doubly robust", "all", "how to", *effect),
        ],
    )
    insert("evaluation.answer_balance", [("query_length", 0.3, -0.2, 0.5, 0.04, None)])
    insert(
        "evaluation.answer_overlap",
        [(1, 0.0, 0.1, 9, 41, 0.06, 0.18), (2, 0.1, 0.2, 20, 0, 0.15, 1.0)],
    )
    insert(
        "evaluation.answer_refutations",
        [("n_clicks", "placebo treatment", 0.0, 0.02, -0.05, 0.09, 70, 10, True)],
    )
    scored = ("rouge_l_characters", "extractive", "letters | digits")
    insert(
        "evaluation.answer_metrics",
        [
            ("none", *scored, 0.17, 0.15, 0.19, 29, 0),
            ("referred notes", *scored, 0.42, 0.40, 0.44, 28, 1),
            ("as shown", "n_characters", "as shown", "letters", 121.0, 110.0, 130.0, 29, 0),
        ],
    )
    insert(
        "evaluation.answer_feedback",
        [("as shown", "n_characters", "is_body_clicked", 130, 110, 0.58, 0.48, 0.68, 9, 20)],
    )
    insert("core.images", [(11, 1, True, None), (12, 1, False, "image is missing")])
    worth = ("mrr@10", "vlm", "vlm_text_only", 0.53, 0.5, 0.03, 0.01, 0.05, 0.002)
    insert(
        "ablation.image_worth",
        [
            (task, "cover on, against off", *kind, *worth, *tested, 62, 40)
            for task in ("search", "recommendation")
            for kind, tested in (
                (("all", "all"), (0.004, True)),
                (("query source", "typed"), (None, None)),
            )
        ],
    )
    insert(
        "evaluation.retrieval",
        [("search", "bm25", "all", "recall@100", 0.27, 0.24, 0.29, 62, 19_839)],
    )
    judges = [("raw", "ndcg@10"), ("raw", "dcg@10"), ("ips", "dcg@10"), ("snips", "dcg@10")]
    judges += [("adjacent_pairs", "pair_accuracy"), ("moved_notes", "pair_accuracy")]
    insert(
        "evaluation.unbiased",
        [
            (
                *("search", judge, metric, run, kind, value, value - 0.02, value + 0.02),
                *(62, 40, 270),
                *((212.0, 0.1, 0.01) if judge in ("ips", "snips") else (None, None, None)),
            )
            for run, (kind, value) in RUNS.items()
            for judge, metric in judges
        ],
    )
    cold = [("all", "all"), ("clicked note", "never shown in train"), ("form", "video")]
    insert(
        "evaluation.cold_start",
        [
            ("search", run, kind, *some, "click_gain@10", value, value - 0.02, value + 0.02, 90, 40)
            for run, (kind, value) in RUNS.items()
            for some in cold
        ],
    )
    rankers = (("dcn_v2_with_ids", "ids and content"), ("bm25", "content"))
    insert(
        "ablation.cold_start",
        [
            (
                *("search", *ranker, share, round(396 * share), *some, "click_gain@10"),
                *(0.3 + 0.1 * share, 0.28, 0.43, 90, 40),
            )
            for ranker in rankers
            for share in (1.0, 0.5)
            for some in cold
        ],
    )
    insert(
        "ablation.context_worth",
        [
            (
                *("search", context, design, metric, 0.53, 0.5, 0.03, 0.01, 0.05),
                *(0.002, 0.004, True, 0.006, 3, 62, 40),
            )
            for context in ("recent clicks", "counters of the note")
            for design in ("alone", "left out")
            for metric in ("ndcg@10", "weighted_ndcg@10")
        ],
    )
    written_at = datetime(2026, 11, 25, tzinfo=UTC)
    insert(
        "evaluation.history",
        [(1, written_at, "f", "search", "bm25", "model", "mrr@10", 0.5, 0.4, 0.6)],
    )
    moved = "the click rate in search went from 20.00% to 21.14%"
    insert(
        "evaluation.data_drift",
        [
            (1, "e", "click rate", "search", 400, 0.2, 0.001, None, False, None),
            (2, "f", "click rate", "search", 572, 0.2114, 0.001, 0.2, True, moved),
        ],
    )
    insert("evaluation.checks", CHECKS)
    insert("evaluation.audit", AUDIT)


@pytest.fixture(scope="session")
def lab(tiny_engine: DuckDBEngine) -> dict[str, pa.Table]:
    """Every bias view of the hand-written log, for those that are not made up here."""
    with tiny_engine.connect() as tiny:
        return {
            name: tiny.sql(f"from {name}").to_arrow_table()
            for name in BIAS_VIEWS
            if f"create table {name} " not in RELATIONS
        }


def build_lab(connection: duckdb.DuckDBPyConnection, lab: dict[str, pa.Table]) -> None:
    for name, rows in lab.items():
        connection.register("lab_rows", rows)
        connection.execute(f"create table {name} as from lab_rows")
        connection.unregister("lab_rows")


@pytest.fixture
def lake(lab: dict[str, pa.Table]) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(RELATIONS)
        fill(connection)
        build_lab(connection, lab)
        yield connection


def provenance(**changes: Any) -> Provenance:
    values: dict[str, Any] = {
        "data_name": "qilin_hundredth",
        "is_twin": False,
        "data_fingerprint": "5f2c91d0a7b34e61",
        "code_version": "0.1.0+3f9a2c1",
        "created_at": datetime(2026, 11, 23, 20, 5, 11, tzinfo=UTC),
        "versions": {"duckdb": "2.0.0", "python": "3.11.9", "torch": "2.13.0"},
        "models_not_trained": {},
        "clock_evidence": [
            "recommendation_train: milliseconds, by magnitude.",
            "search_train: 8 hours ahead of recommendation; taken back.",
        ],
        "data_path_note": "folder given with --data",
        "seed": 4711,
    }
    return Provenance(**(values | changes))


def written(connection: duckdb.DuckDBPyConnection, out: Path, **changes: Any) -> tuple[str, str]:
    out.mkdir(parents=True, exist_ok=True)
    write_report(connection, out, provenance(**changes))
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.md"]
    return (out / "report.html").read_text("utf-8"), (out / "report.md").read_text("utf-8")


class Page(HTMLParser):
    """What the tests ask of the HTML: balanced tags, attributes, text outside scripts."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open_tags: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.specs: list[dict[str, Any]] = []
        self.feed(html)
        self.close()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open_tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.open_tags[-1] if self.open_tags else ""
        if inside == "script" and "data-chart" in self.elements[-1][1]:
            self.specs.append(json.loads(data))
        elif inside not in ("script", "style"):
            self.words.append(data)


def test_page_is_well_formed_and_every_number_of_the_lake_is_on_it(
    lake: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    html, markdown = written(lake, tmp_path)
    page = Page(html)
    assert page.open_tags == []
    assert len(page.specs) == N_PLOTS
    for text in (page.text, markdown):
        for expected in (
            "1,517",  # requests in all
            "21,238",  # impressions
            "44,024",  # search_train of the release
            "22.31",
            "21.14%",
            "57,188",
            "−0.44",  # browsing depth here less the paper's
            "+0.13 pp",
            "58.0%",  # click rate in search at position 1
            "59.3%",  # share of R->R
            "0.5613",
            "0.542–0.580",
            "0.3388",  # Table 10
            "5 of 21,306",
            "Weighted, they are worth 212 clicks of one weight",
            "Neighbours: DCN-V2",
            "clicked note: never shown in train",
            "50.0% (198)",
            "counters of the note",
            "5f2c91d0a7b34e61",
        ):
            assert expected in text, expected


def test_page_asks_nothing_of_the_network(lake: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    html, markdown = written(lake, tmp_path)
    page = Page(html)
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "poster", "srcset", "xlink:href"):
            assert not re.match(r"\s*(https?:)?//", attributes.get(name, "")), (tag, attributes)
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "http" not in json.dumps(page.specs)
    assert "http" not in markdown
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv"))
    assert "default-src 'none'" in policy


def test_page_is_small_and_quickly_written(lake: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    started = time.process_time()
    html, _ = written(lake, tmp_path)
    assert time.process_time() - started < 5
    assert len(html.encode()) < 3_000_000
    assert html.count("window.vegaEmbed=") == 1


def test_plots_tables_and_landmarks_are_named_for_who_cannot_see_them(
    lake: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    html, _ = written(lake, tmp_path)
    page = Page(html)
    charts = [a for _, a in page.elements if a.get("role") == "img"]
    assert charts
    assert all(len(attributes["aria-label"]) > 40 for attributes in charts)
    identifiers = [a["id"] for _, a in page.elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    for tag, attributes in page.elements:
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in identifiers
        if tag == "a":
            assert attributes["href"].removeprefix("#") in identifiers
    n_tables = sum(tag == "table" for tag, _ in page.elements)
    assert n_tables == sum(tag == "caption" for tag, _ in page.elements)
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(headings))


def test_twin_is_called_one_everywhere_and_not_put_beside_published_models(
    lake: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    html, markdown = written(lake, tmp_path, data_name="twin_hundredth", is_twin=True)
    banner = "Synthetic twin: nothing on this page is a result on Qilin"
    text = Page(html).text
    assert banner in text
    assert banner in markdown
    assert "<title>Rehearsal of the Qilin log: twin_hundredth</title>" in html
    assert markdown.startswith("# Rehearsal of the Qilin log: twin_hundredth\n")
    assert "only shows that the calibration holds" in text
    assert "0.3388" not in text
    assert "0.3388" not in markdown


def test_page_on_published_rows_carries_no_banner(
    lake: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    html, markdown = written(lake, tmp_path)
    assert "Synthetic twin" not in Page(html).text
    assert "Synthetic twin" not in markdown


def test_empty_lake_is_described_in_words(tmp_path: Path, lab: dict[str, pa.Table]) -> None:
    with duckdb.connect() as nothing:
        html, markdown = written(nothing, tmp_path / "nothing")
        assert figures(nothing) == {}
        nothing.execute(RELATIONS)
        build_lab(nothing, {name: rows.slice(0, 0) for name, rows in lab.items()})
        html_of_empty, _ = written(nothing, tmp_path / "empty")
        assert figures(nothing) == {}
    page = Page(html)
    assert page.specs == []
    for name in QUERIES:
        assert f"The table {name} has not been built." in page.text
        assert f"The table {name} has not been built." in markdown
    assert Page(html_of_empty).text.count("holds no rows") >= len(QUERIES)


def test_a_missing_relation_costs_only_its_own_section(lake: duckdb.DuckDBPyConnection) -> None:
    """Halves of the relations are taken away. Any two numbers differ in a digit, so that each
    relation is once missing while the other is there."""
    whole = read_numbers(lake)
    with duckdb.connect() as empty:
        nothing = read_numbers(empty)
    for digit in range(len(QUERIES).bit_length()):
        for value in (0, 1):
            lacking = [name for n, name in enumerate(QUERIES) if n >> digit & 1 == value]
            numbers = whole | {name: nothing[name] for name in lacking}
            said = repr(sections(numbers, provenance()))
            assert [n for n in QUERIES if f"{n} has not been built" in said] == lacking


def test_null_and_nan_numbers_leave_a_gap_and_no_traceback(
    lake: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    lake.execute("update bias.engagement_by_channel set like_rate = 'nan', share_rate = null")
    lake.execute("update bias.engagement_by_answer_shown set click_rate = null")
    lake.execute("update bias.click_rate_by_transition set click_rate = null")
    lake.execute(
        "update bias.click_rate_by_position "
        "set click_rate = null, click_rate_low = null, click_rate_high = null"
    )
    lake.execute("update evaluation.leaderboard set value = 'nan', low = null where run = 'bm25'")
    lake.execute("update evaluation.checks set passed = null, unexpected_count = null")
    html, markdown = written(lake, tmp_path)
    for text in (Page(html).text, markdown):
        assert not re.search(r"\bnan\b", text, re.IGNORECASE)
        assert not re.search(r"\bNone\b", text)
    assert "did not run" in markdown


def test_relation_with_another_shape_is_named(
    lake: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    lake.execute("alter table core.requests drop column source_table")
    _, markdown = written(lake, tmp_path)
    assert "The table core.requests cannot be read" in markdown


def test_model_is_never_shown_without_anchors(
    lake: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    lake.execute("delete from evaluation.leaderboard where kind = 'anchor'")
    html, markdown = written(lake, tmp_path)
    assert "A model alone cannot be read" in markdown
    assert "0.5613" not in markdown
    assert "0.5613" not in html


def test_model_that_was_not_trained_says_why_beside_the_anchors(
    lake: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    lake.execute("delete from evaluation.leaderboard where kind = 'model'")
    why = {"training/dcn_v2_search": "10 training requests are too few to learn from."}
    html, markdown = written(lake, tmp_path, models_not_trained=why)
    assert "10 training requests are too few to learn from." in Page(html).text
    assert markdown.count("10 training requests are too few") == 1
    assert "no model has been evaluated there" in markdown


def test_summary_claims_no_fall_where_intervals_overlap(
    lake: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    _, clear = written(lake, tmp_path / "clear")
    assert "In search the click rate falls from 58.0%" in clear
    assert "not distinguishable from random" not in clear
    lake.execute(
        "update bias.click_rate_by_position set click_rate_low = 0.01, click_rate_high = 0.99"
    )
    lake.execute("update evaluation.leaderboard set low = 0.1, high = 0.9 where mode = 'full'")
    _, vague = written(lake, tmp_path / "vague")
    assert "these rows do not show a fall" in vague
    assert "not distinguishable from random by these intervals" in vague


def test_failed_checks_come_first_and_errors_before_warnings(
    lake: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    _, markdown = written(lake, tmp_path)
    places = [
        markdown.index(name)
        for name in ("labels_are_zero_or_one", "notes_are_known", "positions are not negative")
    ]
    assert places == sorted(places)
    assert "1 failed as errors, 1 failed as warnings" in markdown


def test_small_log_is_called_too_small_for_findings(
    lake: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    _, large = written(lake, tmp_path / "large")
    assert "no number on this page is a finding" not in large
    lake.execute("delete from core.requests where source_table not like '%_test'")
    _, small = written(lake, tmp_path / "small")
    assert "173 requests" in small
    assert "no number on this page is a finding" in small


@pytest.mark.parametrize(
    ("measure", "value", "text"),
    [
        ("click_rate", 0.0013, "+0.13 pp"),
        ("click_rate", -0.0013, "−0.13 pp"),
        ("click_rate", 0.0, "0.00 pp"),
        ("clicks_per_request", 1.386, "+1.39"),
        ("clicks_per_request", None, "–"),
        ("n_requests", 12.0, "–"),
    ],
)
def test_difference_carries_its_sign_and_unit(measure: str, value: float | None, text: str) -> None:
    assert difference_text(measure, value) == text


def test_hostile_names_are_shown_and_not_run(
    lake: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    hostile = "</script><script>alert('x')</script>|`*"
    lake.execute("update evaluation.leaderboard set run = ? where run = 'bm25'", [hostile])
    lake.execute("update evaluation.checks set why = ?", [hostile])
    lake.execute("update bias.paper_values set cut = ? where cut = 'S->S'", [hostile])
    html, markdown = written(lake, tmp_path, data_name=hostile, versions={hostile: hostile})
    page = Page(html)
    assert page.open_tags == []
    assert hostile in page.text
    assert "<script>alert" not in html
    assert "<script>alert" not in markdown
    assert not re.search(r"(?<!\\)\|`", markdown)


def test_markdown_tables_have_as_many_cells_as_heads(
    lake: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    _, markdown = written(lake, tmp_path)
    lines = markdown.splitlines()
    widths: list[int] = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("|"):
            widths.append(len(re.findall(r"(?<!\\)\|", line)))
            if not following.startswith("|"):
                assert len(set(widths)) == 1, line
                widths = []


def test_figures_are_pictures_of_the_bias_plots(lake: duckdb.DuckDBPyConnection) -> None:
    pictures = figures(lake)
    assert set(pictures) == {"click_rate_by_position", "click_rate_by_session_position"}
    for png in pictures.values():
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", png[16:24])
        assert width > height > 300


PROBE = """
<script>
addEventListener("error", event => { document.title += " ERROR " + event.message; });
addEventListener("unhandledrejection", event => { document.title += " ERROR " + event.reason; });
addEventListener("securitypolicyviolation", event => {
  document.title += " ERROR " + event.violatedDirective + " " + event.blockedURI;
});
setTimeout(() => {
  const menu = document.querySelector("select");
  menu.value = "map@10";
  menu.dispatchEvent(new Event("change"));
}, 2000);
setTimeout(() => {
  const chart = document.querySelector("select").closest("figure").querySelector("svg");
  document.title += chart.textContent.includes("0.404") ? " MENU WORKS" : " MENU DEAD";
  const root = document.documentElement;
  document.title += " SVG " + document.querySelectorAll(".chart svg").length
    + " OVERFLOW " + (root.scrollWidth - root.clientWidth);
}, 4000);
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("width", [1200, 500])
def test_browser_draws_all_plots_without_an_error_or_a_sideways_scroll(
    lake: duckdb.DuckDBPyConnection, tmp_path: Path, width: int
) -> None:
    html, _ = written(lake, tmp_path / "report", is_twin=True, data_name="twin_hundredth")
    probed = tmp_path / "probed.html"
    probed.write_text(html.replace("</head>", PROBE + "</head>", 1), encoding="utf-8")
    assert CHROMIUM
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
            *("--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--virtual-time-budget=20000", f"--window-size={width},2000"),
            *("--enable-logging=stderr", "--dump-dom", probed.as_uri()),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stderr
    assert "ERROR" not in title[1]
    assert f"MENU WORKS SVG {N_PLOTS} OVERFLOW 0" in title[1]
    assert not re.findall(r"CONSOLE.*", done.stderr)


def test_weighed_runs_are_said_to_hold_more_than_the_text() -> None:
    def texts(*runs: str) -> str:
        row = {"metric": "mrr@10", "value": 0.5, "low": 0.4, "high": 0.6, "n_requests": 10}
        rows = [{"run": "random", "kind": "anchor", **row}]
        rows += [{"run": run, "kind": "model", **row} for run in runs]
        blocks = report._leaderboard_mode("search", "full", rows)
        return " ".join(block.text for block in blocks if isinstance(block, Text))

    assert "are weighed with what can be counted" in texts("bm25", "bi_encoder")
    assert "weighed" not in texts("bm25", "dcn_v2")
