"""core.notes, core.note_keys, core.users, core.answers, core.relevance_labels."""

from pathlib import Path

import duckdb

from qilin_dagster.catalog import load_catalog
from tests import published_log as log
from tests.conftest import build_views


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


def test_note_key_is_a_permutation_that_forgets_blocks() -> None:
    select = load_catalog()["core.note_keys"].select
    connection = duckdb.connect()
    connection.execute("create schema raw")
    n = 200_000
    connection.execute(f"create table raw.notes as select range as note_idx from range({n})")
    connection.execute(f"create table keys as {select}")
    assert connection.execute(
        "select count(distinct note_key), min(note_key), max(note_key) from keys"
    ).fetchall() == [(n, 0, n - 1)]
    # A tenth of the ids, taken as one block, spreads over all tenths of the keys: each holds
    # 2,000 of it, give or take 5 standard deviations of a fair draw.
    counts = connection.execute(
        f"select count(*) from keys where note_idx between {n * 0.6} and {n * 0.7 - 1} "
        f"group by note_key * 10 // {n}"
    ).fetchall()
    assert len(counts) == 10
    assert all(abs(count - 2_000) < 5 * 42 for (count,) in counts)
    ((correlation,),) = connection.execute("select corr(note_idx, note_key) from keys").fetchall()
    assert abs(correlation) < 0.01
    # Neighbours do not stay neighbours, which an affine map would let them.
    ((steps,),) = connection.execute(
        "select count(distinct note_key - lag) from "
        "(select note_key, lag(note_key) over (order by note_idx) as lag from keys)"
    ).fetchall()
    assert steps > 0.5 * n


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
