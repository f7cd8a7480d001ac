"""core.notes, core.users, core.answers, core.relevance_labels."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
import sqlglot

from qilin_dagster.catalog import load_catalog
from tests import published_log as log
from tests.conftest import Given, build_views

N_KEYS = 2_000_000


def test_words_for_missing_become_null(tiny: duckdb.DuckDBPyConnection) -> None:
    assert tiny.execute(
        "select note_idx, note_title, note_content, taxonomy2_id, taxonomy3_id, is_commercial, "
        "n_images from core.notes where note_idx < 5 order by 1"
    ).fetchall() == [
        (0, None, "正文", "c000a", None, False, 1),
        (1, "标题1", "正文", None, None, False, 1),
        (2, "标题2", "正文", "c000a", None, True, 1),
        (3, "标题3", None, "c000a", None, None, 1),
        (4, "标题4", "正文", "c000a", None, False, 0),
    ]


@pytest.fixture(scope="module")
def keys() -> Iterator[duckdb.DuckDBPyConnection]:
    """Keys of many notes, as ``notes`` (note_idx, note_key), and of the largest id there can be."""
    connection = duckdb.connect()
    connection.execute("create schema raw")
    select = sqlglot.parse_one(load_catalog()["core.notes"].select, dialect="duckdb")
    key = next(e for e in select.expressions if e.alias == "note_key").sql("duckdb")
    connection.execute(
        f"create table notes as select note_idx, {key} from "
        f"(select range as note_idx from range({N_KEYS}) union all select 2147483646) as n"
    )
    yield connection
    connection.close()


def test_no_two_notes_share_a_key(keys: duckdb.DuckDBPyConnection) -> None:
    assert keys.execute(
        "select count(distinct note_key), bool_and(note_key between 0 and 2147483646) from notes"
    ).fetchall() == [(N_KEYS + 1, True)]


def test_keys_forget_blocks(keys: duckdb.DuckDBPyConnection) -> None:
    # A tenth of the ids, taken as one block, spreads over all tenths of the keys: each holds
    # 20,000 of it, give or take 5 standard deviations of a fair draw.
    counts = keys.execute(
        f"select count(*) from notes where note_idx between {N_KEYS * 0.6} and "
        f"{N_KEYS * 0.7 - 1} group by note_key * 10 // 2147483647"
    ).fetchall()
    assert len(counts) == 10
    assert all(abs(count - 20_000) < 5 * 134 for (count,) in counts)
    ((correlation,),) = keys.execute(
        f"select corr(note_idx, note_key) from notes where note_idx < {N_KEYS}"
    ).fetchall()
    assert abs(correlation) < 5 / N_KEYS**0.5


def test_neighbours_do_not_stay_neighbours(keys: duckdb.DuckDBPyConnection) -> None:
    # An affine map would give one step, or two.
    ((steps,),) = keys.execute(
        "select count(distinct note_key - lag) from "
        "(select note_key, lag(note_key) over (order by note_idx) as lag from notes)"
    ).fetchall()
    assert steps > 0.99 * N_KEYS


def test_users_have_a_country(tiny: duckdb.DuckDBPyConnection) -> None:
    assert tiny.execute(
        "select user_idx, age, location, country, dense_feat40 from core.users order by 1"
    ).fetchall() == [(0, "19-22", "中国  安徽  淮北", "中国", 1.0), (1, None, None, None, 1.0)]


def test_an_answer_not_shown_has_no_flags(tiny: duckdb.DuckDBPyConnection) -> None:
    assert tiny.execute("from core.answers order by request_id").fetchall() == [
        (0, True, "答案[第1篇](#)", [1], False, True, False, False),
        (2, False, None, None, None, None, None, None),
    ]


def test_labels_come_from_clicks_once_per_note(tiny: duckdb.DuckDBPyConnection) -> None:
    assert tiny.execute(
        "select source_table, row_number, note_idx, is_in_log, is_in_qrels "
        "from core.relevance_labels"
    ).fetchall() == [
        ("dqa", 0, 1, True, None),
        ("recommendation_test", 0, 3, True, None),
        ("recommendation_train", 0, 1, True, None),
        ("recommendation_train", 0, 2, True, None),
        ("search_test", 0, 5, True, None),
        ("search_train", 0, 1, True, None),
        ("search_train", 0, 3, True, None),
        ("search_train", 1, 5, True, None),
    ]


def test_official_labels_are_laid_beside_the_log(tmp_path: Path) -> None:
    data = log.write(tmp_path / "data")
    (data / "search.test.qrels.csv").write_text("qid,pid\n0,5\n0,4\n", encoding="utf-8")
    connection = build_views(data, tmp_path / "lake").connect()
    assert connection.execute(
        "select source_table, row_number, note_idx, is_in_log, is_in_qrels "
        "from core.relevance_labels where split = 'test'"
    ).fetchall() == [
        ("recommendation_test", 0, 3, True, None),
        ("search_test", 0, 4, False, True),
        ("search_test", 0, 5, True, True),
    ]


def test_nan_is_null_whatever_the_file_says_of_its_least_and_greatest(given: Given) -> None:
    # Writers leave NaN out of a column's least and greatest value, here 1 and 2. A reader that
    # takes these for the whole truth finds no NaN to mend.
    tables = log.quiet()
    values = (1.0, log.NAN, 2.0)
    tables["notes"] = [
        log.note(idx, note_type=value, imp_num=value) for idx, value in enumerate(values)
    ]
    tables["user_feat"] = [
        log.user(idx, fans_num=value, dense_feat1=value) for idx, value in enumerate(values)
    ]
    tables["search_train"] = [
        log.search("search_train", idx, 0, [], query_from_type=value)
        for idx, value in enumerate(values)
    ]
    connection = given(tables, "core.notes", "core.users", "core.requests")
    for columns, table in (
        ("note_type, imp_num", "core.notes order by note_idx"),
        ("fans_num, dense_feat1", "core.users order by user_idx"),
        (
            "query_source, query_source",
            "core.requests where source_table = 'search_train' order by request_id",
        ),
    ):
        found = connection.execute(f"select {columns} from {table}").fetchall()
        assert found == [(1, 1), (None, None), (2, 2)]
