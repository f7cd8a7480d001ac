"""The audit finds every fault that is planted, one by one, and is silent without it."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from click.testing import CliRunner

from qilin_dagster.assets import audit as audit_asset
from qilin_dagster.audit import Audit, _define_core, audit_lake, format_audit, run_audit
from qilin_dagster.audit_leaks import auc
from qilin_dagster.audit_model import read_expected
from qilin_dagster.cli import main
from qilin_dagster.definitions import defs
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.errors import InputError
from qilin_dagster.lake import Lake
from qilin_dagster.resources import CATALOG, Lakehouse
from qilin_dagster.settings import Settings
from qilin_dagster.sources.layout import NOTE_COUNTERS
from qilin_dagster.sources.published import inspect
from qilin_dagster.sources.register import register_all
from qilin_dagster.sources.twin import write_twin
from tests import published_log
from tests.conftest import build_views
from tests.published_log import feed, impression, note, search, user

Log = dict[str, list[dict[str, Any]]]
N_NOTES, N_USERS, N_REQUESTS, N_SHOWN = 400, 40, 120, 8
SOURCES = [c for c, n in enumerate((337, 510, 58, 40, 30, 14, 6, 5), 1) for _ in range(n)]
DETAILS = {"search": "search_result_details_with_idx", "rec": "rec_result_details_with_idx"}
FEW_ROWS = "[judge]\nmin_clicks = 50\nmin_rows = 100\n"


@pytest.fixture(autouse=True)
def one_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SQL files are parsed once, not for every audit."""
    monkeypatch.setattr("qilin_dagster.engines.duckdb.load_catalog", lambda: CATALOG)


def audit_of(folder: Path, overrides: Path | None = None) -> Audit:
    return run_audit(Settings(data=folder, lake=folder / "never"), overrides)


def alarms(audit: Audit) -> set[str]:
    return {check.name for check in audit.alarms}


def honest_log() -> Log:
    """A log in the hand-written form, large enough to judge rates, whose clicks nothing knows."""
    rng = random.Random(3)
    log: Log = {
        "notes": [
            note(n, **{c: float(rng.randrange(50)) for c in ("imp_num", "click_num", "like_num")})
            for n in range(N_NOTES)
        ],
        "user_feat": [user(u) for u in range(N_USERS)],
    }
    for table, at in (
        ("search_train", 0),
        ("search_test", 7300),
        ("dqa", 0),
        ("recommendation_train", 0),
        ("recommendation_test", 7300),
    ):
        rows = []
        for n in range(N_REQUESTS):
            shown = rng.sample(range(N_NOTES), N_SHOWN)
            clicked = rng.sample(range(N_SHOWN), 3)
            kind = table.partition("_")[0] if table != "dqa" else "dqa"
            entries = [
                impression(
                    table,
                    idx,
                    k + 1,
                    at + n,
                    int(k in clicked),
                    **({"page_time": 4.0} if k in clicked else {}),
                )
                for k, idx in enumerate(shown)
            ]
            history = {"recent_clicked_note_idxs": rng.sample(range(N_NOTES), 2)}
            if kind == "recommendation":
                request = n + (N_REQUESTS if at else 0)
                rows.append(feed(table, request, n % N_USERS, entries, **history))
                continue
            request = n + N_REQUESTS * ("search_train", "search_test", "dqa").index(table)
            answer = (
                {
                    "dqa_output": "-1",
                    "ref_note_idx_list": [],
                    **dict.fromkeys(
                        (
                            "is_like_clk",
                            "is_onebox_trace_clk",
                            "is_content_clk",
                            "is_experience_clk",
                        ),
                        -1.0,
                    ),
                }
                if kind == "dqa"
                else {}
            )
            source = float(rng.choice(SOURCES))
            rows.append(
                search(
                    table,
                    request,
                    n % N_USERS,
                    entries,
                    query_from_type=source,
                    **history,
                    **answer,
                )
            )
        log[table] = rows
    return log


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("expected") / "few_rows.toml"
    path.write_text(FEW_ROWS)
    return path


def details(log: Log, table: str) -> list[list[dict[str, Any]]]:
    return [row[DETAILS["rec" if table.startswith("rec") else "search"]] for row in log[table]]


LOG_TABLES = ("search_train", "search_test", "dqa", "recommendation_train", "recommendation_test")


def clicks_by_note(log: Log, is_clicked: Callable[[int], bool]) -> None:
    """Rewrite all clicks as a function of the note."""
    for table in LOG_TABLES:
        for entries in details(log, table):
            for entry in entries:
                entry["click"] = int(is_clicked(entry["note_idx"]))
            entries[0]["click"] = 1


def id_blocks(log: Log) -> None:
    clicks_by_note(log, lambda idx: idx >= N_NOTES // 2 and idx % 3 > 0)


def counters_in_blocks(log: Log) -> None:
    id_blocks(log)
    for row in log["notes"]:
        row["rec_like_num"] = float(row["note_idx"] >= N_NOTES // 2)


def counter_of_clicks(log: Log) -> None:
    clicks_by_note(log, lambda idx: idx % 3 == 0)
    for row in log["notes"]:
        row["like_num"] = float(row["note_idx"] % 3 == 0)


def counter_grows(log: Log) -> None:
    # One impression a note, so that only the click explains the counter.
    log["notes"] = [note(n) for n in range(len(LOG_TABLES) * N_REQUESTS * N_SHOWN)]
    idx = 0
    for table in LOG_TABLES:
        for row, entries in zip(log[table], details(log, table), strict=True):
            for entry in entries:
                entry["note_idx"] = idx
                log["notes"][idx]["click_search_num"] = float(entry["click"])
                idx += 1
            for column in ("search_results", "rec_results"):
                if column in row:
                    row[column] = [entry["note_idx"] for entry in entries]


def text_of_clicks(log: Log) -> None:
    clicks_by_note(log, lambda idx: idx % 3 == 0)
    for row in log["notes"]:
        row["taxonomy1_id"] = f"t{row['note_idx'] % 3}"


def user_of_clicks(log: Log) -> None:
    for table in LOG_TABLES:
        for row, entries in zip(log[table], details(log, table), strict=True):
            for k, entry in enumerate(entries):
                entry["click"] = int(k == 0 or row["user_idx"] % 2 == 0)
    for row in log["user_feat"]:
        row["dense_feat7"] = float(row["user_idx"] % 2)


def clicked_last(log: Log) -> None:
    for entries in details(log, "recommendation_train"):
        entries.sort(key=lambda entry: entry["click"])


def clicked_first_candidate(log: Log) -> None:
    for row in log["recommendation_test"]:
        entries = sorted(row[DETAILS["rec"]], key=lambda entry: -entry["click"])
        row["rec_results"] = [entry["note_idx"] for entry in entries]


def clicks_in_history(log: Log) -> None:
    for row in log["search_train"]:
        row["recent_clicked_note_idxs"] = [
            entry["note_idx"] for entry in row[DETAILS["search"]] if entry["click"]
        ]


def history_of_user(log: Log, newest_first: bool) -> None:
    for table in ("search_train", "recommendation_train"):
        before: dict[int, list[int]] = {}
        for row, entries in zip(log[table], details(log, table), strict=True):
            past = before.setdefault(row["user_idx"], [])
            # One click a request, of a note that is new to the user, so that times are distinct.
            own = entries[0]["note_idx"]
            row["recent_clicked_note_idxs"] = list(reversed(past)) if newest_first else list(past)
            if own not in past:
                past.append(own)
            for k, entry in enumerate(entries):
                entry["click"] = int(k == 0)
    for table in ("search_test", "recommendation_test"):
        for row in log[table]:
            past = before.get(row["user_idx"], [])
            row["recent_clicked_note_idxs"] = list(reversed(past)) if newest_first else list(past)


def each(table: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Log], None]:
    """A change of every row of a table."""

    def apply(log: Log) -> None:
        for row in log[table]:
            change(row)

    return apply


def every_entry(table: str, field: str, value: Callable[[Any], Any]) -> Callable[[Log], None]:
    def apply(log: Log) -> None:
        for entries in details(log, table):
            for entry in entries:
                entry[field] = value(entry[field])

    return apply


def first_entry(table: str, field: str, value: Any) -> Callable[[Log], None]:
    return lambda log: details(log, table)[0][0].update({field: value})


def search_clock_true(log: Log) -> None:
    for table in ("search_train", "search_test", "dqa"):
        every_entry(table, "search_timestamp", lambda t: t - published_log.AHEAD)(log)


def long_requests(log: Log) -> None:
    for entries in details(log, "dqa"):
        entries[-1]["search_timestamp"] += 7200


def repeated(log: Log) -> None:
    for entries in details(log, "search_train"):
        entries[1]["note_idx"] = entries[0]["note_idx"]


def without_clicks(log: Log) -> None:
    for entry in details(log, "recommendation_test")[5]:
        entry["click"] = 0


# Faults that do not touch each other share a log; each must raise the alarm beside it.
FAULTS: dict[str, dict[str, Callable[[Log], None]]] = {
    "rows": {
        "unique.user_idx": lambda log: log["user_feat"].append(user(0)),
        "note_idx_is_row_number": lambda log: log["notes"].reverse(),
        "session_has_one_user": lambda log: log["search_train"][0].update(session_idx=101),
        "requests_without_click.recommendation_test": without_clicks,
        "repeats.search_train": repeated,
        "position.search_test": first_entry("search_test", "position", -3.0),
        "candidates_are_shown.search_results": each(
            "search_test", lambda row: row["search_results"].pop()
        ),
        "candidates_are_shown.rec_results": each(
            "recommendation_test", lambda row: row["rec_results"].pop()
        ),
        "page_time_absent.recommendation_test": every_entry(
            "recommendation_test", "page_time", lambda t: t or math.nan
        ),
        "page_time_absent.search_train": every_entry(
            "search_train", "page_time", lambda t: -1.0 if math.isnan(t) else t
        ),
        "missing.search_train": lambda log: log["search_train"][3].update(session_idx=None),
        "dqa_output_sentinel": lambda log: log["dqa"][3].update(dqa_output="None"),
        "query_source_shares": each("search_train", lambda row: row.update(query_from_type=8.0)),
    },
    "ids and times": {
        "unique.note_idx": lambda log: log["notes"].append(note(0)),
        "unique.search_idx": lambda log: log["search_test"][0].update(search_idx=0),
        "unique.request_idx": lambda log: log["recommendation_test"][0].update(request_idx=0),
        "known.note_idx": first_entry("search_train", "note_idx", N_NOTES + 7),
        "known.user_idx": lambda log: log["dqa"][0].update(user_idx=N_USERS + 7),
        "requests_over_30_minutes.dqa": long_requests,
        "clock_unit.dqa": every_entry("dqa", "search_timestamp", lambda t: t * 1000),
        "log_day.recommendation_train": every_entry(
            "recommendation_train", "request_timestamp", lambda t: t - 3 * 86_400_000
        ),
    },
    "clocks": {
        "search_clock_ahead": search_clock_true,
        "test_is_late.recommendation_test": every_entry(
            "recommendation_test", "request_timestamp", lambda t: t - 3_600_000
        ),
    },
    "blocks and orders": {
        "counters_against_id_blocks": counters_in_blocks,
        "id_block_rule.feed": lambda log: None,
        "click_rate_by_id_block.search_train": lambda log: None,
        "click_rate_by_id_block.dqa": lambda log: None,
        "list_order.recommendation_train": clicked_last,
        "candidate_order.rec_results": clicked_first_candidate,
    },
    "columns and histories": {
        "auc.notes.like_num": counter_of_clicks,
        "auc.notes.taxonomy1_id": text_of_clicks,
        "history_in_request.search": clicks_in_history,
        "history_from_future": lambda log: None,
    },
    "counters": {"counters_grow_with_clicks": counter_grows},
    "users": {"auc.user_feat.dense_feat7": user_of_clicks},
    "oldest first": {"history_newest_first": lambda log: history_of_user(log, newest_first=False)},
}


def test_an_honest_log_raises_no_alarm(tmp_path: Path, overrides: Path) -> None:
    audit = audit_of(published_log.write(tmp_path, honest_log()), overrides)
    assert alarms(audit) == set()
    judged = {check.name for check in audit.checks if check.verdict == "ok"}
    # Silence means something only where the check was judged.
    needs_a_history = {
        "history_newest_first",
        "counters_against_id_blocks",
        "counters_grow_with_clicks",
    }
    assert {name for faults in FAULTS.values() for name in faults} - judged <= needs_a_history
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("kind", FAULTS)
def test_planted_faults_raise_their_alarms(kind: str, tmp_path: Path, overrides: Path) -> None:
    log = honest_log()
    for plant in FAULTS[kind].values():
        plant(log)
    audit = audit_of(published_log.write(tmp_path, log), overrides)
    assert FAULTS[kind].keys() <= alarms(audit)
    for check in audit.alarms:
        assert check.what_to_do
        assert check.expected
        assert check.about.endswith(("?", "."))


def test_one_absurd_id_does_not_hide_the_blocks(tmp_path: Path, overrides: Path) -> None:
    log = honest_log()
    id_blocks(log)
    log["notes"].append(note(10**9))
    details(log, "search_train")[0][1]["note_idx"] = 10**9
    audit = audit_of(published_log.write(tmp_path, log), overrides)
    assert {"id_block_rule.search", "click_rate_by_id_block.search_train"} <= alarms(audit)


def test_other_types_are_an_alarm(tmp_path: Path) -> None:
    """The search tables as another program would write them: whole numbers instead of floats."""
    data = published_log.write(tmp_path)
    path = data / "search_train" / "train-00000-of-00001.parquet"
    column = DETAILS["search"]
    connection = duckdb.connect()
    connection.execute(
        f"""
        create table t as select * replace (
            list_transform({column}, lambda d: struct_update(d, click := d.click::bigint))
            as {column}) from '{path}'
        """
    )
    connection.execute(f"copy t to '{path}' (format parquet)")
    assert "types.search_train" in alarms(audit_of(data))


def test_history_newest_first_is_fine(tmp_path: Path, overrides: Path) -> None:
    log = honest_log()
    history_of_user(log, newest_first=True)
    audit = audit_of(published_log.write(tmp_path, log), overrides)
    (check,) = (check for check in audit.checks if check.name == "history_newest_first")
    assert check.verdict == "ok"


@pytest.mark.parametrize(
    ("pairs", "verdict", "word"),
    [
        ("0,5\n", "ok", "equal"),
        ("0,4\n", "alarm", "0 of 1 rows"),
        (None, "unknown", "no search.test.qrels.csv"),
    ],
)
def test_official_labels(pairs: str | None, verdict: str, word: str, tmp_path: Path) -> None:
    """The one click of the hand-written search test is note 5 in row 0."""
    published_log.write(tmp_path)
    if pairs is not None:
        (tmp_path / "search.test.qrels.csv").write_text("qid,pid\n" + pairs)
    audit = audit_of(tmp_path)
    (check,) = (check for check in audit.checks if check.name == "official_labels.search_test")
    assert check.verdict == verdict
    assert word in check.measured


def test_counts_are_judged_at_the_real_size_only(tmp_path: Path) -> None:
    data = published_log.write(tmp_path / "data")
    small = {check.name: check for check in audit_of(data).checks}
    assert small["rows.notes"].verdict == "unknown"
    assert "not judged" in small["rows.notes"].expected
    expected = tmp_path / "expected.toml"
    sizes = "notes = 6\nuser_feat = 3\nsearch_train = 2\nsearch_test = 1\ndqa = 2\n"
    expected.write_text(
        f"[rows]\n{sizes}recommendation_train = 1\nrecommendation_test = 1\n"
        "[counts]\nimpressions = 20\nrequests_without_click_dqa = 1\ndqa_without_answer = 2\n"
        "[labels]\nsearch_test = 1\ndqa = 3\n"
    )
    full = {check.name: check.verdict for check in audit_of(data, expected).checks}
    assert full["rows.notes"] == "ok"
    assert full["rows.user_feat"] == "alarm"
    assert full["impressions"] == "alarm"
    assert full["requests_without_click.dqa"] == "ok"
    assert full["dqa_without_answer"] == "alarm"
    assert full["clicked_pairs.search_test"] == "ok"
    assert full["clicked_pairs.dqa"] == "alarm"
    assert full["channels_overlap"] == "alarm"
    assert full["new_notes.feed"] == "alarm"


def test_a_twin_is_not_held_against_the_counts_of_the_release(tmp_path: Path) -> None:
    """At the size of the release too; everything else is judged, and the twin is named."""
    data = published_log.write(tmp_path / "data")
    (data / "twin.json").write_text('{"scale": 1.0, "seed": 1}')
    expected = tmp_path / "expected.toml"
    sizes = "notes = 6\nuser_feat = 9\nsearch_train = 2\nsearch_test = 1\ndqa = 2\n"
    expected.write_text(
        f"[rows]\n{sizes}recommendation_train = 1\nrecommendation_test = 1\n"
        "[labels]\nsearch_test = 1\ndqa = 3\n"
    )
    audit = audit_of(data, expected)
    checks = {check.name: check for check in audit.checks}
    counts = ("rows.user_feat", "impressions", "clicked_pairs.dqa", "dqa_without_answer")
    assert {checks[name].verdict for name in counts} == {"unknown"}
    assert all("a twin" in checks[name].expected for name in counts)
    assert checks["is_what_it_says"].verdict == "ok"
    assert checks["new_notes.feed"].verdict == "alarm"
    assert "synthetic twin" in format_audit(audit)


def test_a_twin_json_beside_the_release_is_an_alarm(tmp_path: Path) -> None:
    data = published_log.write(tmp_path / "data")
    expected = tmp_path / "expected.toml"
    expected.write_text("[labels]\nsearch_test = 1\nrecommendation_test = 1\ndqa = 1\n")
    assert "is_what_it_says" not in alarms(audit_of(data, expected))
    (data / "twin.json").write_text('{"scale": 1.0, "seed": 1}')
    assert "is_what_it_says" in alarms(audit_of(data, expected))


# What must be asked on the first day with new data, and the checks that ask it.
TABLES_OF_LOG = (*("search_train", "search_test", "recommendation_train"), "recommendation_test")
EACH_TABLE = (*TABLES_OF_LOG, "dqa")
WITH_LABELS = ("search_test", "recommendation_test", "dqa")
DAY_ONE: dict[str, set[str]] = {
    "row counts per table": {f"rows.{t}" for t in (*EACH_TABLE, "notes", "user_feat")},
    "note_idx equals row position, unique": {"note_idx_is_row_number", "unique.note_idx"},
    "click rate by note_idx block, per table; AUC of the block rule": {
        *(f"click_rate_by_id_block.{t}" for t in EACH_TABLE),
        *(f"id_block_rule.{task}" for task in ("search", "feed", "dqa")),
    },
    "AUC of each counter alone; its relation to the block": {
        *(f"auc.notes.{counter}" for counter in NOTE_COUNTERS),
        *("counters_against_id_blocks", "counters_grow_with_clicks"),
    },
    "requests without click, per table": {f"requests_without_click.{t}" for t in EACH_TABLE},
    "clicks against qrels, pair by pair": {
        f"{kind}.{t}" for kind in ("clicked_pairs", "official_labels") for t in WITH_LABELS
    },
    "total impression rows": {"impressions"},
    "repeated (request, note)": {f"repeats.{t}" for t in EACH_TABLE},
    "timestamp magnitude, min, max; hours; hours after the shift": {
        *(f"{kind}.{t}" for kind in ("clock_unit", "log_day") for t in EACH_TABLE),
        *("search_clock_ahead", "hours.search", "hours.feed", "channels_overlap"),
        *(f"test_is_late.{t}" for t in ("search_test", "recommendation_test")),
    },
    "requests whose items span over 30 min": {f"requests_over_30_minutes.{t}" for t in EACH_TABLE},
    "position 0, minimum, maximum, gaps": {f"position.{t}" for t in EACH_TABLE},
    "set of the result list = set of the details": {
        *("candidates_are_shown.search_results", "candidates_are_shown.rec_results"),
    },
    "history order": {"history_newest_first"},
    "history against the request's exposures and later clicks": {
        *(f"history_in_request.{task}" for task in ("search", "feed", "dqa")),
        "history_from_future",
    },
    "session_idx shared between tables": {"sessions_in_both_channels", "session_has_one_user"},
    "NaN, 0, -1 share of page_time by click and table": {
        f"page_time_absent.{t}" for t in EACH_TABLE
    },
    "dqa_output = -1": {"dqa_without_answer", "dqa_output_sentinel"},
    "query_from_type shares": {"query_source_shares"},
    "duplicate request_idx and search_idx across tables": {
        *("unique.request_idx", "unique.search_idx"),
    },
    "users and notes in test unseen in train": {
        f"{kind}.{channel}" for kind in ("new_notes", "new_users") for channel in ("search", "feed")
    },
}
# Asked besides: other columns and orders as predictors, types, nulls, keys, the twin's name.
BESIDES = {
    *("auc", "display_order", "list_order", "candidate_order", "types", "missing"),
    *("known", "unique", "is_what_it_says"),
}


def test_every_day_one_question_is_asked(tiny_data: Path) -> None:
    asked = {check.name for check in audit_of(tiny_data).checks}
    for question, names in DAY_ONE.items():
        assert names <= asked, question
    rest = asked.difference(*DAY_ONE.values())
    assert {name.partition(".")[0] for name in rest} == BESIDES


def test_a_built_lake_is_audited_as_it_is(tiny_engine: DuckDBEngine, tiny_data: Path) -> None:
    """The lake's own core tables are read; only where they lack are they made, in memory."""
    before = {table: tiny_engine.lake.manifest(table) for table in tiny_engine.lake.tables()}
    assert audit_lake(tiny_engine, read_expected(None)).checks == audit_of(tiny_data).checks
    assert {t: tiny_engine.lake.manifest(t) for t in tiny_engine.lake.tables()} == before
    connection = tiny_engine.connect()
    _define_core(connection, tiny_engine)
    kinds = "select table_type from information_schema.tables where table_schema = 'core'"
    assert set(connection.execute(kinds).fetchall()) == {("VIEW",)}


def test_labels_of_an_older_order_are_told_apart(tmp_path: Path) -> None:
    """The one click of the answer sample is note 1 in row 0."""
    published_log.write(tmp_path)
    (tmp_path / "dqa.qrels.csv").write_text("qid,pid\n1,1\n")
    (check,) = (c for c in audit_of(tmp_path).checks if c.name == "official_labels.dqa")
    assert (check.verdict, "OLDER FILE" in check.measured) == ("alarm", True)


def test_core_tables_of_other_files_are_not_trusted(tmp_path: Path) -> None:
    log = published_log.tables()
    engine = build_views(published_log.write(tmp_path / "data", log), tmp_path / "lake")
    log["search_train"][0][DETAILS["search"]][0]["position"] = -1.0
    data = published_log.write(tmp_path / "data", log)
    register_all(engine.lake, inspect(data), "auto")
    assert "position.search_train" in alarms(audit_lake(engine, read_expected(None)))


def test_the_asset_keeps_a_row_a_check_and_warns(tmp_path: Path) -> None:
    log = published_log.tables()
    log["notes"] = log["notes"][:2]
    data, lake = published_log.write(tmp_path / "data", log), tmp_path / "lake"
    build_views(data, lake)

    def build() -> dg.ExecuteInProcessResult:
        return defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=dg.DagsterInstance.ephemeral(),
            asset_selection=[audit_asset.KEY],
            run_config={
                "resources": {"lakehouse": {"config": {"data": str(data), "lake": str(lake)}}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
        )

    result = build()
    assert result.success
    outcomes = {
        check.check_name: check
        for check in result.get_asset_check_evaluations()
        if check.asset_key == audit_asset.KEY
    }
    assert outcomes.keys() == set(audit_asset.CHECKS.values())
    failed = {name for name, check in outcomes.items() if not check.passed}
    assert failed == {"size_and_ids"}
    assert outcomes["size_and_ids"].severity == dg.AssetCheckSeverity.WARN
    assert "known.note_idx" in (outcomes["size_and_ids"].description or "")
    assert outcomes["size_and_ids"].metadata["n_alarms"].value == 1
    connection = Lakehouse(lake=str(lake)).engine().connect()
    rows = connection.execute("from evaluation.audit order by check_n").fetchall()
    checks = audit_of(data).checks
    assert [row[2] for row in rows] == [check.name for check in checks]
    assert {row[2]: row[7] for row in rows} == {check.name: check.verdict for check in checks}
    (event,) = result.asset_materializations_for_node("evaluation__audit")
    assert event.metadata["n_alarm"].value == 1
    assert "known.note_idx" in event.metadata["alarms"].value
    manifest = Lake(lake).manifest("evaluation.audit")
    assert build().success
    assert Lake(lake).manifest("evaluation.audit") == manifest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[rows]\nnote = 3\n", "did you mean notes"),
        ("[sizes]\nnotes = 3\n", "no section"),
        ("[rows]\nnotes = 'many'\n", "must be like"),
        ("[rows\n", "cannot be read"),
        ("[query_source]\nshares = [1.0]\n", "must be like"),
    ],
)
def test_expected_values_that_cannot_be_used(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "expected.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_expected(path)


def test_auc_counts_ties_half() -> None:
    import numpy as np

    assert auc(np.array([2.0, 2.0]), np.array([0.0, 2.0])) == 1.0
    assert auc(np.array([4.0]), np.array([2.0])) == 0.5
    # One unclicked: half a win over it from its own value, two whole ones from above.
    assert auc(np.array([2.0, 2.0]), np.array([1.0, 2.0])) == pytest.approx(2.5 / 3)
    assert auc(np.array([3.0]), np.array([0.0])) is None


def test_command(tmp_path: Path) -> None:
    data = published_log.write(tmp_path / "data")
    before = sorted((path, path.stat().st_mtime_ns) for path in data.rglob("*"))
    shown = CliRunner().invoke(main, ["audit", "--data", str(data)])
    as_json = CliRunner().invoke(main, ["audit", "--data", str(data), "--json"])
    result = json.loads(as_json.stdout)
    assert shown.exit_code == as_json.exit_code == (1 if result["n_alarms"] else 0)
    keys = {"name", "subject", "about", "expected", "measured", "value", "verdict", "what_to_do"}
    assert all(set(check) == keys for check in result["checks"])
    assert len({check["name"] for check in result["checks"]}) == len(result["checks"])
    assert max(len(line) for line in shown.stdout.splitlines()) <= 100
    assert sorted((path, path.stat().st_mtime_ns) for path in data.rglob("*")) == before


def test_exit_codes(tmp_path: Path) -> None:
    missing = CliRunner().invoke(main, ["audit", "--data", str(tmp_path / "nowhere")])
    assert missing.exit_code == 2
    assert "does not exist" in missing.stderr
    log = published_log.tables()
    quiet = CliRunner().invoke(
        main, ["audit", "--data", str(published_log.write(tmp_path / "quiet", log))]
    )
    log["notes"].append(note(0))
    loud = CliRunner().invoke(
        main, ["audit", "--data", str(published_log.write(tmp_path / "loud", log))]
    )
    assert (quiet.exit_code, loud.exit_code) == (0, 1)
    assert "unique.note_idx" in loud.stdout.partition("Size and ids")[0]


def test_real_sample(real_data: Path) -> None:
    audit = audit_of(real_data / "qilin_sample")
    checks = {check.name: check for check in audit.checks}
    assert checks["search_clock_ahead"].verdict == "ok"
    assert checks["search_clock_ahead"].measured.startswith("8 h")
    # Five notes and users are not all that 25 requests name.
    assert alarms(audit) == {"known.note_idx", "known.user_idx"}
    assert "known.note_idx" in format_audit(audit)


# The checks that find each leak of a twin, in the order of its truth/planted_leaks.
FOUND_BY = (
    {
        *("id_block_rule.search", "id_block_rule.feed", "id_block_rule.dqa"),
        *("click_rate_by_id_block.search_train", "click_rate_by_id_block.recommendation_train"),
    },
    {"counters_against_id_blocks", "auc.notes.imp_rec_num", "auc.notes.click_rec_num"},
    {"counters_grow_with_clicks"},
    {"list_order.recommendation_train"},
)


def leaks_found(folder: Path, seed: int) -> None:
    write_twin(folder / "leaking", scale=0.01, seed=seed)
    found = alarms(audit_of(folder / "leaking"))
    planted = duckdb.sql(f"select count(*) from '{folder}/leaking/truth/planted_leaks.parquet'")
    assert planted.fetchall() == [(len(FOUND_BY),)]
    assert all(names <= found for names in FOUND_BY), (seed, found)
    write_twin(folder / "honest", scale=0.01, seed=seed, leaks=False)
    assert alarms(audit_of(folder / "honest")) == set(), seed


def test_leaks_of_a_twin_are_found(tmp_path: Path) -> None:
    leaks_found(tmp_path, seed=7)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 21))
def test_leaks_of_twenty_twins_are_found(seed: int, tmp_path: Path) -> None:
    leaks_found(tmp_path, seed)
