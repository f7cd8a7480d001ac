"""Bad input by name: set aside with its reason while the rest flows on, or refused beforehand.

Faults of rows share one build: each is a copy of a good row with one change, behind the good rows
of its table. Faults of files have a small folder each, and nothing may be written for them.
"""

import copy
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qilin_dagster.build import run_build
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.errors import InputError
from qilin_dagster.lake import Lake
from qilin_dagster.settings import Settings
from qilin_dagster.sources.layout import TABLES
from qilin_dagster.sources.published import inspect
from qilin_dagster.sources.register import register_all
from qilin_dagster.sources.twin import write_twin
from tests import published_log as log

Row = dict[str, Any]
SHARD = "train-00000-of-00001.parquet"
NAN, INF = math.nan, math.inf
KEYS = {
    "notes": "note_idx",
    "user_feat": "user_idx",
    "recommendation_train": "request_idx",
    "recommendation_test": "request_idx",
}
DETAILS = {"search": "search_result_details_with_idx", "rec": "rec_result_details_with_idx"}


@dataclass(frozen=True)
class Fault:
    """One change to a good row; ``detail`` None where the row has no value to show."""

    table: str
    change: Callable[[Row], None]
    reason: str
    detail: str | None


def put(column: str, value: object) -> Callable[[Row], None]:
    def change(row: Row) -> None:
        row[column] = value

    return change


def put_entry(field: str, value: object, entry: int = 1) -> Callable[[Row], None]:
    """Change one field of the n-th impression."""

    def change(row: Row) -> None:
        column = next(name for name in DETAILS.values() if name in row)
        row[column][entry - 1][field] = value

    return change


def put_details(value: object) -> Callable[[Row], None]:
    def change(row: Row) -> None:
        row[next(name for name in DETAILS.values() if name in row)] = value

    return change


def null_entry(row: Row) -> None:
    column = next(name for name in DETAILS.values() if name in row)
    row[column] = [*row[column], None]


def repeat(table: str) -> Callable[[Row], None]:
    """Give the row the key of the first row of ``table``."""

    def change(row: Row) -> None:
        key = KEYS.get(table, "search_idx")
        row[key] = log.tables()[table][0][key]

    return change


S, R, D, N, U = "search_train", "recommendation_train", "dqa", "notes", "user_feat"
WORD = "position is not a whole number"
FAULTS: dict[str, Fault] = {
    # The list of candidates.
    "empty list": Fault(S, put_details([]), "no candidates: the list is empty", None),
    "null list": Fault(R, put_details(None), "no candidates: the list is null", None),
    "null entry": Fault(D, null_entry, "an entry of the list is null", None),
    # The notes of impressions.
    "null note": Fault(S, put_entry("note_idx", None), "note is missing", None),
    "negative note": Fault(R, put_entry("note_idx", -5), "negative note", "entry 1: note_idx = -5"),
    "unknown note": Fault(
        S, put_entry("note_idx", 999_999, 2), "unknown note", "entry 2: note_idx = 999999"
    ),
    "absurd note": Fault(
        D,
        put_entry("note_idx", 2**62),
        "note is not a whole number",
        "entry 1: note_idx = 4611686018427387904",
    ),
    # Their positions.
    "NaN position": Fault(S, put_entry("position", NAN), "position is missing", "nan"),
    "null position": Fault(D, put_entry("position", None), "position is missing", None),
    "position -1": Fault(S, put_entry("position", -1.0), "negative position", "position = -1.0"),
    "infinite position": Fault(S, put_entry("position", INF), "absurd position", "position = inf"),
    "absurd position": Fault(
        R, put_entry("position", 10**7), "absurd position", "position = 10000000"
    ),
    "position of a half": Fault(S, put_entry("position", 1.5, 2), WORD, "entry 2: position = 1.5"),
    # Their clicks and feedback.
    "NaN click": Fault(S, put_entry("click", NAN), "click is not a number", "click = nan"),
    "null click": Fault(R, put_entry("click", None), "click is not a number", None),
    "click of 2": Fault(D, put_entry("click", 2), "click is neither 0 nor 1", "click = 2"),
    "click of -1": Fault(S, put_entry("click", -1.0), "click is neither 0 nor 1", "click = -1.0"),
    "infinite click": Fault(S, put_entry("click", INF), "click is neither 0 nor 1", "click = inf"),
    "negative like": Fault(
        R, put_entry("like", -3), "negative feedback", "like, collect, comment, share = -3"
    ),
    "infinite share": Fault(
        S,
        put_entry("share", INF),
        "infinite feedback",
        "like, collect, comment, share = 1.0, 0.0, 0.0, inf",
    ),
    # Their times.
    "time of 1970": Fault(D, put_entry("search_timestamp", 1), "time of 1970", "= 1"),
    "negative time": Fault(R, put_entry("request_timestamp", -1), "time of 1970", "= -1"),
    "time of 2001": Fault(
        S, put_entry("search_timestamp", 1e9), "time long before the log", "= 1000000000.0"
    ),
    "time of 2100": Fault(
        S, put_entry("search_timestamp", 4_102_444_800.0), "time in the future", "= 4102444800.0"
    ),
    "time a month later": Fault(
        R,
        put_entry("request_timestamp", (log.NOON + 30 * 86_400) * 1000),
        "time in the future",
        "time as published = 17353",
    ),
    "time in another unit": Fault(
        D, put_entry("search_timestamp", log.NOON * 1000), "time in the future", "= 1732708800000"
    ),
    "infinite time": Fault(
        S, put_entry("search_timestamp", INF), "time in the future", "published = inf"
    ),
    # Their dwell.
    "infinite dwell": Fault(
        R, put_entry("page_time", INF), "infinite viewing time", "page_time = inf"
    ),
    "absurd dwell": Fault(
        S, put_entry("page_time", 9e9), "absurd viewing time", "page_time = 9000000000.0"
    ),
    "negative dwell": Fault(
        D, put_entry("page_time", -7.0), "negative viewing time", "page_time = -7.0"
    ),
    # Keys of requests.
    "null key": Fault(S, put("search_idx", None), "key is missing or not a whole number", None),
    "negative key": Fault(R, put("request_idx", -7), "negative key", "-7"),
    "absurd key": Fault(D, put("search_idx", 2**62), "absurd key", "4611686018427387904"),
    "repeated key": Fault(S, repeat(S), "duplicate key", "10 is the key of search_train row 0"),
    "key of another search table": Fault(
        D, repeat("search_test"), "duplicate key", "12 is the key of search_test row 0"
    ),
    "key of the other feed table": Fault(
        "recommendation_test",
        repeat(R),
        "duplicate key",
        "0 is the key of recommendation_train row 0",
    ),
    "null user": Fault(S, put("user_idx", None), "user is missing or not a whole number", None),
    "user -1": Fault(R, put("user_idx", -1), "negative user", "user_idx = -1"),
    "unknown user": Fault(D, put("user_idx", 999), "unknown user", "user_idx = 999"),
    "null session": Fault(
        R, put("session_idx", None), "session is missing or not a whole number", None
    ),
    "session -1": Fault(S, put("session_idx", -1), "negative session", "session_idx = -1"),
    # What else a request has.
    "query source 99": Fault(
        S, put("query_from_type", 99.0), "query source out of range", "query_from_type = 99.0"
    ),
    "infinite query source": Fault(
        D, put("query_from_type", INF), "query source out of range", "query_from_type = inf"
    ),
    "query source of a half": Fault(
        S, put("query_from_type", 2.5), "query source out of range", "query_from_type = 2.5"
    ),
    "pairs of one": Fault(
        S,
        put("dpr_results", [[1.0, 2.0], [1.0]]),
        "retrieval pairs of one number",
        "dpr_results entry 2 = [1.0]",
    ),
    "pairs of three": Fault(
        "search_test",
        put("bm25_results", [[1.0, 2.0, 3.0]]),
        "retrieval pairs of 3 numbers",
        "bm25_results entry 1 = [1.0, 2.0, 3.0]",
    ),
    "empty pair": Fault(D, put("bm25_results", [[]]), "retrieval pairs of 0 numbers", "[]"),
    "null pair": Fault(S, put("dpr_results", [None]), "a retrieval pair is null", None),
    "negative note in the history": Fault(
        R,
        put("recent_clicked_note_idxs", [1, -2]),
        "negative note in the history",
        "recent_clicked_note_idxs entry 2 = -2",
    ),
    "answer flag of 3": Fault(
        D, put("is_like_clk", 3.0), "answer feedback is neither -1, 0 nor 1", "= 3.0, 1.0, 0.0, 0.0"
    ),
    "NaN answer flag": Fault(
        D, put("is_content_clk", NAN), "answer feedback is neither -1, 0 nor 1", "nan"
    ),
    "negative reference": Fault(
        D,
        put("ref_note_idx_list", [1, -9]),
        "reference to an unknown note",
        "ref_note_idx_list entry 2 = -9",
    ),
    "null reference": Fault(
        D, put("ref_note_idx_list", [None]), "reference to an unknown note", "entry 1 = null"
    ),
    # Notes.
    "note without a key": Fault(
        N, put("note_idx", None), "key is missing or not a whole number", None
    ),
    "note with a negative key": Fault(N, put("note_idx", -1), "negative key", "-1"),
    "note twice": Fault(N, repeat(N), "duplicate key", "0 is the key of row 0"),
    "negative count": Fault(N, put("imp_num", -4.0), "negative count", "imp_num = -4.0"),
    "count of -1": Fault(
        N, put("full_view_times", -1.0), "negative count", "full_view_times = -1.0"
    ),
    "infinite count": Fault(N, put("click_num", INF), "infinite count", "click_num = inf"),
    "count minus infinity": Fault(N, put("view_time", -INF), "negative count", "view_time = -inf"),
    "count beyond an integer": Fault(
        N, put("content_length", 1e12), "absurd count", "content_length = 1000000000000.0"
    ),
    "infinite commercial flag": Fault(
        N, put("commercial_flag", INF), "absurd commercial flag", "commercial_flag = inf"
    ),
    "unknown form": Fault(N, put("note_type", 0.0), "unknown form", "note_type = 0.0"),
    "form of a half": Fault(N, put("note_type", 1.5), "unknown form", "note_type = 1.5"),
    "negative duration": Fault(
        N, put("video_duration", -1.0), "negative duration", "video_duration = -1.0"
    ),
    "infinite height": Fault(N, put("video_height", INF), "infinite size", "video_height = inf"),
    "path upwards": Fault(
        N,
        put("image_path", ["image/a.jpg", "../../secret.jpg"]),
        "image path leaves the folder",
        "image_path entry 2 = ../../secret.jpg",
    ),
    "path upwards within": Fault(
        N, put("image_path", ["image/../../a.jpg"]), "image path leaves the folder", "image/../../a"
    ),
    "path upwards with backslashes": Fault(
        N, put("image_path", ["image\\..\\..\\a.jpg"]), "image path leaves the folder", "image\\.."
    ),
    "absolute path": Fault(
        N, put("image_path", ["/etc/hosts"]), "absolute image path", "image_path entry 1 = /etc"
    ),
    "path of another drive": Fault(
        N, put("image_path", ["C:\\a.jpg"]), "absolute image path", "C:\\a.jpg"
    ),
    "address for a path": Fault(
        N, put("image_path", ["https://a/b.jpg"]), "absolute image path", "https://a/b.jpg"
    ),
    "null path": Fault(
        N, put("image_path", [None]), "empty image path", "image_path entry 1 = null"
    ),
    # Users.
    "user without a key": Fault(
        U, put("user_idx", None), "key is missing or not a whole number", None
    ),
    "user with a negative key": Fault(U, put("user_idx", -3), "negative key", "-3"),
    "user twice": Fault(U, repeat(U), "duplicate key", "0 is the key of row 0"),
    "negative fans": Fault(U, put("fans_num", -1.0), "negative count", "fans_num = -1.0"),
    "infinite feature": Fault(
        U, put("dense_feat33", -INF), "infinite value", "dense_feat33 is infinite"
    ),
}


def legal(tables: dict[str, list[Row]]) -> None:
    """What is missing, a sentinel or odd in the release and no fault."""
    row = tables[S][1]
    row |= {"query": None, "query_from_type": -1.0, "recent_clicked_note_idxs": []}
    row[DETAILS["search"]][0] |= {"page_time": -1.0, "like": NAN, "search_timestamp": NAN}
    row[DETAILS["search"]][1] |= {"page_time": None, "comment": -1.0, "share": 4.0}
    tables[R][0] |= {"recent_clicked_note_idxs": None, "query": None}
    tables["search_test"][0] |= {"dpr_results": None, "bm25_results": []}
    tables[N][0] |= {"imp_num": NAN, "note_type": NAN, "taxonomy1_id": "None", "image_num": None}
    tables[N][4] |= {"image_path": None, "video_duration": None}
    tables[N][5] |= {"image_path": ["image/a..b.jpg", "other/a:b.jpg"]}
    tables[U][1] |= {"fans_num": NAN, "dense_feat1": None, "gender": "nan", "dense_feat2": -5.0}


@dataclass(frozen=True)
class Bad:
    """A lake of good rows and one row per fault, and where each fault stands."""

    connection: duckdb.DuckDBPyConnection
    places: dict[str, int]
    n_good: dict[str, int]


def build(data: Path, lake: Path) -> DuckDBEngine:
    """Everything up to core.impressions; bias and the other entities say nothing more here."""
    engine = DuckDBEngine(Lake(lake), Settings(data=data, lake=lake, threads=1))
    register_all(engine.lake, inspect(data), "auto")
    connection = engine.connect()
    for view in engine.catalog.views:
        if view.schema in ("quarantine", "raw") or view.qualified == "core.impressions":
            engine.build(connection, view)
    connection.close()
    return engine


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Bad:
    tables = log.tables()
    legal(tables)
    n_good = {name: len(rows) for name, rows in tables.items()}
    places = {}
    for number, (name, fault) in enumerate(FAULTS.items()):
        row = copy.deepcopy(log.tables()[fault.table][0])
        row[KEYS.get(fault.table, "search_idx")] = 10_000 + number
        fault.change(row)
        places[name] = len(tables[fault.table])
        tables[fault.table].append(row)
    root = tmp_path_factory.mktemp("bad")
    return Bad(build(log.write(root / "data", tables), root / "lake").connect(), places, n_good)


def test_there_are_sixty_kinds() -> None:
    assert len(FAULTS) + len(REFUSED) >= 60


@pytest.mark.parametrize("name", FAULTS)
def test_it_is_set_aside_with_its_reason(name: str, bad: Bad) -> None:
    fault, row_number = FAULTS[name], bad.places[name]
    found = bad.connection.execute(
        f"select source_file, source_row, reason, detail from quarantine.{fault.table} "
        f"where row_number = {row_number}"
    ).fetchall()
    assert [row[:3] for row in found] == [(SHARD, row_number, fault.reason)]
    detail = found[0][3]
    if fault.detail is None:
        assert detail is None
    else:
        assert fault.detail in detail
    assert bad.connection.execute(
        f"select count(*) from raw.{fault.table} where row_number = {row_number}"
    ).fetchall() == [(0,)]


@pytest.mark.parametrize("table", TABLES)
def test_the_rest_flows_on(table: str, bad: Bad) -> None:
    rows = bad.connection.execute(
        f"select row_number from raw.{table} order by row_number"
    ).fetchall()
    assert [row for (row,) in rows] == list(range(bad.n_good[table]))
    ((n_published,),), ((n_set_aside,),) = (
        bad.connection.execute(f"select count(*) from {schema}.{table}").fetchall()
        for schema in ("published", "quarantine")
    )
    assert len(rows) + n_set_aside == n_published


def test_nan_among_numbers_is_null_although_no_footer_tells_of_it(bad: Bad) -> None:
    """DuckDB takes isnan() for false where the footer's least and greatest value are numbers."""
    assert bad.connection.execute(
        "select imp_num, note_type from raw.notes where row_number < 2 order by row_number"
    ).fetchall() == [(None, None), (0.0, 2)]
    assert bad.connection.execute(
        "select fans_num from raw.user_feat order by row_number"
    ).fetchall() == [(3.0,), (None,)]


def test_good_impressions_are_what_they_are_without_the_bad(bad: Bad, tmp_path: Path) -> None:
    tables = log.tables()
    legal(tables)
    alone = build(log.write(tmp_path / "data", tables), tmp_path / "lake").connect()
    for table in TABLES:
        assert alone.execute(f"select count(*) from quarantine.{table}").fetchall() == [(0,)]
    rows = "from core.impressions order by all"
    assert bad.connection.execute(rows).fetchall() == alone.execute(rows).fetchall()


def test_a_request_with_two_faults_is_one_row_with_the_first(tmp_path: Path) -> None:
    tables = log.tables()
    tables[S][0]["session_idx"] = -4
    tables[S][0][DETAILS["search"]][0]["position"] = -1.0
    tables[S][0][DETAILS["search"]][2]["click"] = 5.0
    connection = build(log.write(tmp_path / "data", tables), tmp_path / "lake").connect()
    assert connection.execute(
        "select row_number, reason from quarantine.search_train"
    ).fetchall() == [(0, "negative session")]
    assert connection.execute(
        "select impression_n, reason from quarantine.impressions"
    ).fetchall() == [(1, "negative position"), (3, "click is neither 0 nor 1")]


def test_the_first_usable_row_of_a_key_stays(tmp_path: Path) -> None:
    tables = log.tables()
    spoilt = copy.deepcopy(tables[S][0])
    spoilt[DETAILS["search"]] = []
    tables[S].insert(0, spoilt)
    tables[N].insert(0, log.note(5, imp_num=-1.0))
    connection = build(log.write(tmp_path / "data", tables), tmp_path / "lake").connect()
    assert connection.execute("select row_number, search_idx from raw.search_train").fetchall() == [
        (1, 10),
        (2, 11),
    ]
    assert connection.execute("select count(*) from raw.notes where note_idx = 5").fetchall() == [
        (1,)
    ]


def test_keys_written_as_floats_are_keys_only_when_whole(tmp_path: Path) -> None:
    tables = log.tables()
    data = log.write(tmp_path / "data", tables)
    shard = data / S / SHARD
    table = pq.read_table(shard)
    for column, values in (
        ("user_idx", pa.array([0.0, NAN])),
        ("recent_clicked_note_idxs", pa.array([[1.0, NAN, 2.5, 1e300], None])),
    ):
        table = table.set_column(table.schema.get_field_index(column), column, values)
    pq.write_table(table, shard)
    connection = build(data, tmp_path / "lake").connect()
    assert connection.execute(
        "select row_number, reason from quarantine.search_train"
    ).fetchall() == [(1, "user is missing or not a whole number")]
    assert connection.execute(
        "select user_idx, recent_clicked_note_list from raw.search_train"
    ).fetchall() == [(0, [1, None, None, None])]


def test_in_a_sample_nothing_is_unknown(tmp_path: Path) -> None:
    """Two notes and a user of others: hardly any request finds its own."""
    tables = log.tables()
    tables[N] = tables[N][:2]
    tables[U] = [log.user(77)]
    connection = build(log.write(tmp_path / "data", tables), tmp_path / "lake").connect()
    for table in TABLES:
        assert connection.execute(f"select * from quarantine.{table}").fetchall() == []


def test_rows_are_found_again_in_their_shard(tmp_path: Path) -> None:
    data = log.write(tmp_path / "data")
    table = pq.read_table(data / N / SHARD)
    (data / N / SHARD).unlink()
    counts = pa.array([0.0, 0.0, 0.0, 0.0, -8.0, 0.0])
    table = table.set_column(table.schema.get_field_index("imp_num"), "imp_num", counts)
    # The second shard has no rows, which is no fault.
    for number, (start, length) in enumerate(((0, 3), (3, 0), (3, 3))):
        pq.write_table(table.slice(start, length), data / N / f"part-{number}.parquet")
    before = {path: path.read_bytes() for path in data.rglob("*.parquet")}
    connection = build(data, tmp_path / "lake").connect()
    assert connection.execute(
        "select row_number, source_file, source_row, note_idx, reason from quarantine.notes"
    ).fetchall() == [(4, "part-2.parquet", 1, 4, "negative count")]
    assert {path: path.read_bytes() for path in data.rglob("*.parquet")} == before


def test_arrow_rows_are_named_by_their_own_file(tmp_path: Path) -> None:
    data = log.write(tmp_path / "data")
    table = pq.read_table(data / U / SHARD)
    (data / U / SHARD).unlink()
    table = table.set_column(
        table.schema.get_field_index("fans_num"), "fans_num", pa.array([1.0, -1.0])
    )
    with pa.ipc.new_stream(str(data / U / "data-00000-of-00001.arrow"), table.schema) as out:
        out.write_table(table)
    connection = build(data, tmp_path / "lake").connect()
    assert connection.execute(
        "select source_file, source_row from quarantine.user_feat"
    ).fetchall() == [("data-00000-of-00001.arrow", 1)]


def test_columns_beyond_the_layout_are_not_read_and_it_is_said(tmp_path: Path) -> None:
    data = log.write(tmp_path / "data")
    rewrite(data, D, lambda t: t.append_column("mood", pa.array(["good", "bad"])))
    assert inspect(data).remarks == (
        "table dqa: column mood is not part of the layout and is not read",
    )
    connection = build(data, tmp_path / "lake").connect()
    assert "mood" not in [row[0] for row in connection.execute("describe raw.dqa").fetchall()]


def test_columns_in_another_order_are_the_same_columns(tmp_path: Path) -> None:
    data = log.write(tmp_path / "data")
    table = pq.read_table(data / N / SHARD)
    (data / N / SHARD).unlink()
    pq.write_table(table.slice(0, 3), data / N / "a.parquet")
    pq.write_table(table.slice(3).select(table.column_names[::-1]), data / N / "b.parquet")
    connection = build(data, tmp_path / "lake").connect()
    assert connection.execute(
        "select note_title from raw.notes order by row_number"
    ).fetchall() == [(None if n == 0 else f"标题{n}",) for n in range(6)]


# Folders that are refused before anything is written.


def rewrite(data: Path, table: str, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(data / table / SHARD)), data / table / SHARD)


def retype(table: str, column: str, type_: pa.DataType) -> Callable[[Path], None]:
    """The column as nulls of another type."""

    def change(t: pa.Table) -> pa.Table:
        index = t.schema.get_field_index(column)
        return t.set_column(index, column, pa.nulls(len(t), type_))

    return lambda data: rewrite(data, table, change)


def drop(table: str, column: str) -> Callable[[Path], None]:
    return lambda data: rewrite(data, table, lambda t: t.drop_columns(column))


def write_bytes(table: str, content: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def change(data: Path) -> None:
        path = data / table / SHARD
        path.write_bytes(content(path.read_bytes()))

    return change


def second_shard(table: str, change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    def write(data: Path) -> None:
        pq.write_table(change(pq.read_table(data / table / SHARD)), data / table / "z.parquet")

    return write


def instead_of_file(table: str, make: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(data: Path) -> None:
        (data / table / SHARD).unlink()
        make(data / table / SHARD)

    return change


def qrels(text: str | bytes, name: str = "search.test.qrels.csv") -> Callable[[Path], None]:
    def change(data: Path) -> None:
        (data / name).write_bytes(text.encode() if isinstance(text, str) else text)

    return change


def retime(value: object) -> Callable[[Path], None]:
    def change(data: Path) -> None:
        tables = log.tables()
        for row in tables["dqa"]:
            for entry in row[DETAILS["search"]]:
                entry["search_timestamp"] = value
        log.write(data, {"dqa": tables["dqa"]})

    return change


ENTRY = {name: pa.int64() for name in ("note_idx", "position", "click", "like", "collect")}
ENTRY |= {name: pa.int64() for name in ("comment", "share", "page_time", "search_timestamp")}


def entries(**changed: pa.DataType | None) -> pa.DataType:
    fields = ENTRY | changed
    return pa.list_(pa.struct([(name, type_) for name, type_ in fields.items() if type_]))


LIST = DETAILS["search"]
REFUSED: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "no folder of a table": (
        lambda d: (d / N).rename(d / "elsewhere"),
        ["table notes is missing: no folder"],
    ),
    "no file of a table": (lambda d: (d / D / SHARD).unlink(), ["table dqa is empty"]),
    "no row in a table": (
        lambda d: rewrite(d, U, lambda t: t.slice(0, 0)),
        ["table user_feat has no rows"],
    ),
    "missing column": (drop(S, "query"), ["column query is missing in", f"{S}/{SHARD}"]),
    "missing list of candidates": (
        drop(R, DETAILS["rec"]),
        [f"column {DETAILS['rec']} is missing"],
    ),
    "missing key": (drop(N, "note_idx"), ["table notes: column note_idx is missing"]),
    "text for a key": (
        retype(N, "note_idx", pa.string()),
        ["column note_idx has type string", "expected a number"],
    ),
    "number for a text": (
        retype(U, "gender", pa.int64()),
        ["table user_feat: column gender has type int64", "expected text"],
    ),
    "truth value for a number": (
        retype(D, "is_like_clk", pa.bool_()),
        ["column is_like_clk has type bool", "expected a number"],
    ),
    "day for a number": (
        retype(S, "query_from_type", pa.date32()),
        ["column query_from_type has type date32", "expected a number"],
    ),
    "number for a list": (
        retype(R, "recent_clicked_note_idxs", pa.int64()),
        ["column recent_clicked_note_idxs has type int64", "expected a list of numbers"],
    ),
    "list of texts for numbers": (
        retype(D, "ref_note_idx_list", pa.list_(pa.string())),
        ["column ref_note_idx_list has type list", "expected a list of numbers"],
    ),
    "flat list for pairs": (
        retype(S, "dpr_results", pa.list_(pa.float64())),
        ["column dpr_results has type list", "expected a list of [note_idx, score] pairs"],
    ),
    "pairs of texts": (
        retype("search_test", "bm25_results", pa.list_(pa.list_(pa.string()))),
        ["column bm25_results has type list", "expected a list of [note_idx, score] pairs"],
    ),
    "numbers for paths": (
        retype(N, "image_path", pa.list_(pa.int64())),
        ["column image_path has type list", "expected a list of texts"],
    ),
    "struct for the list of candidates": (
        retype(S, LIST, pa.struct([("click", pa.int64())])),
        [f"column {LIST} has type struct", "expected a list of structs"],
    ),
    "candidates without positions": (
        retype(D, LIST, entries(position=None)),
        [f"field {LIST}.position is missing"],
    ),
    "candidates without times": (
        retype(S, LIST, entries(search_timestamp=None)),
        [f"field {LIST}.search_timestamp is missing"],
    ),
    "text for a click": (
        retype(D, LIST, entries(click=pa.string())),
        [f"field {LIST}.click has type string", "expected a number"],
    ),
    "list for a position": (
        retype(D, LIST, entries(position=pa.list_(pa.int64()))),
        [f"field {LIST}.position has type list", "expected a number"],
    ),
    "empty file": (write_bytes(N, lambda b: b""), ["table notes", "cannot be read as a Parquet"]),
    "no Parquet": (
        write_bytes(R, lambda b: b"user,query\n1,x\n" * 9),
        ["table recommendation_train", "cannot be read as a Parquet file"],
    ),
    "truncated file": (
        write_bytes(D, lambda b: b[: len(b) // 2]),
        [f"dqa/{SHARD} cannot be read as a Parquet file"],
    ),
    "damaged footer": (
        write_bytes(U, lambda b: b[:-300] + b"\0" * 200 + b[-100:]),
        [f"user_feat/{SHARD} cannot be read as a Parquet file"],
    ),
    "no Arrow": (
        instead_of_file(S, lambda p: p.with_name("a.arrow").write_bytes(b"not arrow") and None),
        ["a.arrow cannot be read as an Arrow file"],
    ),
    "folder for a file": (
        instead_of_file(N, lambda p: p.mkdir()),
        [f"notes/{SHARD} cannot be read as a Parquet file"],
    ),
    "link to nothing": (
        instead_of_file(S, lambda p: p.symlink_to(p.with_name("gone"))),
        [f"search_train/{SHARD} cannot be read as a Parquet file"],
    ),
    "shards with other columns": (
        second_shard(N, lambda t: t.drop_columns("image_path")),
        ["z.parquet and train-00000-of-00001.parquet have different columns: image_path"],
    ),
    "shards with other types": (
        second_shard(
            U,
            lambda t: t.set_column(
                t.schema.get_field_index("user_idx"), "user_idx", pa.array([2.0, 3.5])
            ),
        ),
        ["column user_idx has type double in z.parquet and int64 in train-00000-of-00001.parquet"],
    ),
    "no usable time": (
        retime(0),
        ["table dqa: no usable search_timestamp in any of its impressions"],
    ),
    "times of no unit": (retime(10**18), ["table dqa: median search_timestamp", "is no time"]),
    "labels under another header": (
        qrels("query,note\n0,5\n"),
        [
            "search.test.qrels.csv must be a CSV with whole numbers in columns qid,pid",
            "its columns are query,note",
        ],
    ),
    "labels without a header": (qrels("0,5\n"), ["whole numbers in columns qid,pid"]),
    "labels of texts": (qrels("qid,pid\na,b\n"), ["whole numbers in columns qid,pid"]),
    "labels of fractions": (qrels("qid,pid\n0.5,5\n"), ["whole numbers in columns qid,pid"]),
    "labels of another arity": (qrels("qid,pid\n0,5,1\n"), ["whole numbers in columns qid,pid"]),
    "empty label file": (qrels(""), ["search.test.qrels.csv must be a CSV"]),
    "labels that are no text": (qrels(bytes(range(256))), ["search.test.qrels.csv must be a CSV"]),
    "labels of rows that are not there": (
        qrels("qid,pid\n0,5\n7,1\n"),
        ["search.test.qrels.csv, line 3: qid is 7, but table search_test has the rows 0 to 0"],
    ),
    "labels of negative rows": (
        qrels("qid,pid\n-1,5\n", "dqa.qrels.csv"),
        ["dqa.qrels.csv, line 2: qid is -1, but table dqa has the rows 0 to 1"],
    ),
    "labels without a note": (
        qrels("qid,pid\n0,\n", "dqa.qrels.csv"),
        ["dqa.qrels.csv, line 2: pid is None, but a note has an id from 0 on"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    spoil, said = REFUSED[name]
    data, lake = log.write(tmp_path / "data"), tmp_path / "lake"
    spoil(data)
    with pytest.raises(InputError) as error:
        run_build(Settings(data=data, lake=lake), None)
    for words in said:
        assert words in str(error.value)
    assert not lake.exists()


# Damage that no footer shows is found by whoever reads it first, and named.


def not_utf8(table: str, column: str) -> Callable[[Path], None]:
    def change(data: Path) -> None:
        read = pq.read_table(data / table / SHARD)
        offsets = pa.array([0, 2] + [4] * (len(read) - 1), pa.int32()).buffers()[1]
        text = pa.Array.from_buffers(
            pa.string(), len(read), [None, offsets, pa.py_buffer(b"ab\xff\xfe")]
        )
        index = read.schema.get_field_index(column)
        pq.write_table(read.set_column(index, column, text), data / table / SHARD)

    return change


def damaged_page(data: Path) -> None:
    path = data / R / SHARD
    metadata = pq.ParquetFile(path).metadata.row_group(0)
    columns = [metadata.column(i) for i in range(metadata.num_columns)]
    (column,) = [c for c in columns if c.path_in_schema.endswith("position")]
    content = bytearray(path.read_bytes())
    content[column.data_page_offset : column.data_page_offset + 20] = b"\xff" * 20
    path.write_bytes(content)


DAMAGED: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "query that is not UTF-8": (
        not_utf8(S, "query"),
        "core.requests",
        rf"table search_train: column query of .*{SHARD} is not valid UTF-8 in row 1",
    ),
    "answer that is not UTF-8": (
        not_utf8(D, "dqa_output"),
        "core.answers",
        rf"table dqa: column dqa_output of .*{SHARD} is not valid UTF-8 in row 1",
    ),
    "gender that is not UTF-8": (
        not_utf8(U, "gender"),
        "core.users",
        rf"table user_feat: column gender of .*{SHARD} is not valid UTF-8 in row 1",
    ),
    "damaged page": (
        damaged_page,
        "quarantine.impressions",
        rf"table recommendation_train: column rec_result_details_with_idx of .*{SHARD} cannot be "
        r"decoded in rows 0 to 0: .*; the file is damaged",
    ),
}


def read_all(engine: DuckDBEngine) -> None:
    connection = engine.connect()
    for view in engine.catalog.views:
        engine.build(connection, view)
        with engine.naming_damage(view.qualified):
            connection.execute(f"from {view.qualified}").fetchall()


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_inside_a_file_is_named(name: str, tmp_path: Path) -> None:
    spoil, reader, said = DAMAGED[name]
    data = log.write(tmp_path / "data")
    spoil(data)
    engine = DuckDBEngine(Lake(tmp_path / "lake"), Settings(data=data, lake=tmp_path / "lake"))
    register_all(engine.lake, inspect(data), "auto")
    with pytest.raises(InputError, match=said):
        read_all(engine)
    assert engine.lake.manifest(reader) is None


def test_text_of_notes_that_is_not_utf8_stops_the_checks_that_read_it(tmp_path: Path) -> None:
    from tests.test_definitions import VIEWS, run

    data = log.write(tmp_path / "data")
    not_utf8(N, "note_title")(data)
    result = run(data, tmp_path / "lake", *VIEWS)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert re.search(
        "column note_title of .* is not valid UTF-8 in row 1",
        str(failure.step_failure_data.error.cause),
    )


# The twin plants bad rows and says so; clean logs lose nothing.


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    root = tmp_path_factory.mktemp("dirty")
    write_twin(root / "data", scale=0.003, seed=3, dirty=True, progress=lambda line: None)
    connection = build(root / "data", root / "lake").connect()
    connection.execute(
        f"create table planted as from read_parquet('{root}/data/truth/bad_rows.parquet')"
    )
    return connection


def test_every_planted_row_is_found_with_its_reason_and_no_other(
    dirty: duckdb.DuckDBPyConnection,
) -> None:
    found = " union all ".join(
        f"select '{table}' as t, row_number, reason from quarantine.{table}" for table in TABLES
    )
    planted = dirty.execute(
        'select "table", row_number, reason from planted order by all'
    ).fetchall()
    assert len(planted) >= 90
    assert dirty.execute(f"from ({found}) order by all").fetchall() == planted


def test_no_row_of_the_real_sample_is_set_aside(real: duckdb.DuckDBPyConnection) -> None:
    for table in TABLES:
        assert real.execute(f"select * from quarantine.{table}").fetchall() == []
