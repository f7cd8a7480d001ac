"""Reading the published layout: both file formats, and every fault by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.errors import InputError
from qilin_dagster.lake import Lake
from qilin_dagster.sources.published import inspect, quick_fingerprint
from qilin_dagster.sources.register import is_registered, read_qrels, register_all
from tests import published_log as log
from tests.conftest import build_views


def shard(data: Path, table: str) -> Path:
    return data / table / "train-00000-of-00001.parquet"


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def cast(table: pa.Table, column: str, type_: pa.DataType) -> pa.Table:
    index = table.schema.get_field_index(column)
    return table.set_column(index, column, pa.nulls(len(table), type_))


FAULTS: list[tuple[str, Callable[[Path], Any], list[str]]] = [
    (
        "no table",
        lambda d: (shard(d, "notes").unlink(), (d / "notes").rmdir()),
        ["table notes is missing", "/notes"],
    ),
    ("empty folder", lambda d: shard(d, "dqa").unlink(), ["table dqa is empty", "/dqa"]),
    (
        "no rows",
        lambda d: rewrite(shard(d, "user_feat"), lambda t: t.slice(0, 0)),
        ["table user_feat has no rows"],
    ),
    (
        "no column",
        lambda d: rewrite(shard(d, "search_train"), lambda t: t.drop_columns("query")),
        ["table search_train", "column query is missing", "train-00000-of-00001.parquet"],
    ),
    (
        "wrong type",
        lambda d: rewrite(shard(d, "notes"), lambda t: cast(t, "note_idx", pa.string())),
        ["table notes", "column note_idx has type string", "expected a number"],
    ),
    (
        "wrong list",
        lambda d: rewrite(
            shard(d, "dqa"), lambda t: cast(t, "recent_clicked_note_idxs", pa.list_(pa.string()))
        ),
        ["table dqa", "recent_clicked_note_idxs has type list", "expected a list of numbers"],
    ),
    (
        "details are no structs",
        lambda d: rewrite(
            shard(d, "search_test"),
            lambda t: cast(t, "search_result_details_with_idx", pa.list_(pa.int64())),
        ),
        ["search_test", "search_result_details_with_idx", "expected a list of structs"],
    ),
    (
        "no field",
        lambda d: rewrite(
            shard(d, "recommendation_test"),
            lambda t: cast(
                t, "rec_result_details_with_idx", pa.list_(pa.struct([("click", pa.int64())]))
            ),
        ),
        ["recommendation_test", "field rec_result_details_with_idx.position is missing"],
    ),
    (
        "wrong field",
        lambda d: rewrite(
            shard(d, "dqa"),
            lambda t: cast(
                t,
                "search_result_details_with_idx",
                pa.list_(
                    pa.struct(
                        [
                            *(
                                (name, pa.int64())
                                for name in (
                                    "collect",
                                    "comment",
                                    "like",
                                    "note_idx",
                                    "page_time",
                                    "position",
                                    "search_timestamp",
                                    "share",
                                )
                            ),
                            ("click", pa.string()),
                        ]
                    )
                ),
            ),
        ),
        ["dqa", "field search_result_details_with_idx.click has type string", "expected a number"],
    ),
    (
        "not Parquet",
        lambda d: shard(d, "notes").write_bytes(b"hello"),
        ["table notes", "cannot be read as a Parquet file"],
    ),
    (
        "empty file",
        lambda d: shard(d, "notes").write_bytes(b""),
        ["table notes", "cannot be read as a Parquet file"],
    ),
    (
        "cut file",
        lambda d: shard(d, "notes").write_bytes(shard(d, "notes").read_bytes()[:-200]),
        ["table notes", "cannot be read as a Parquet file"],
    ),
    (
        "mixed shards",
        lambda d: pq.write_table(
            pq.read_table(shard(d, "notes")).drop_columns("image_path"),
            d / "notes" / "train-00001-of-00002.parquet",
        ),
        ["table notes", "different columns: image_path"],
    ),
]


@pytest.mark.parametrize(("change", "said"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_fault_is_named(tmp_path: Path, change: Callable[[Path], Any], said: list[str]) -> None:
    data = log.write(tmp_path / "data")
    change(data)
    with pytest.raises(InputError) as error:
        inspect(data)
    for words in said:
        assert words in str(error.value)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    data = log.write(tmp_path / "data")
    rewrite(shard(data, "notes"), lambda t: t.drop_columns("note_title"))
    shard(data, "dqa").unlink()
    with pytest.raises(InputError) as error:
        inspect(data)
    assert "note_title" in str(error.value)
    assert "table dqa is empty" in str(error.value)


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.write_text("")])
def test_a_data_folder_must_be_a_folder(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    make(tmp_path / "data")
    with pytest.raises(InputError, match=r"data (folder .* does not exist|.* is a file)|is a file"):
        inspect(tmp_path / "data")


def test_columns_a_release_may_lack_are_null(tmp_path: Path) -> None:
    data = log.write(tmp_path / "data")
    rewrite(shard(data, "search_train"), lambda t: t.drop_columns("dpr_results"))
    connection = build_views(data, tmp_path / "lake").connect()
    assert connection.execute(
        "select count(*), count(dpr_results) from raw.search_train"
    ).fetchall() == [(2, 0)]


def test_rows_are_numbered_over_all_shards(tmp_path: Path) -> None:
    data = log.write(tmp_path / "data")
    table = pq.read_table(shard(data, "notes"))
    shard(data, "notes").unlink()
    for number, start in enumerate((0, 2, 5)):
        part = table.slice(start, (2, 3, 1)[number])
        pq.write_table(part, data / "notes" / f"train-{number:05d}-of-00003.parquet")
    connection = build_views(data, tmp_path / "lake").connect()
    assert connection.execute(
        "select row_number, note_idx from raw.notes order by row_number"
    ).fetchall() == [(i, i) for i in range(6)]


@pytest.mark.parametrize("folder", ["", "train"])
def test_what_save_to_disk_writes_is_read_alike(
    tmp_path: Path, tiny_engine: DuckDBEngine, folder: str
) -> None:
    data = log.write(tmp_path / "data")
    (data / "dataset_dict.json").write_text('{"splits": ["train"]}', encoding="utf-8")
    for path in sorted(data.glob("*/*.parquet")):
        table = pq.read_table(path)
        path.unlink()
        target = path.parent / folder
        target.mkdir(exist_ok=True)
        # datasets writes the stream format.
        with pa.ipc.new_stream(str(target / "data-00000-of-00001.arrow"), table.schema) as out:
            out.write_table(table, max_chunksize=2)
    connection = build_views(data, tmp_path / "lake").connect()
    expected = tiny_engine.connect()
    for relation in ("core.impressions", "core.requests", "core.notes", "core.answers"):
        rows = f"from {relation} order by all"
        assert connection.execute(rows).fetchall() == expected.execute(rows).fetchall()


def test_a_label_file_that_is_none_is_named(tmp_path: Path) -> None:
    data = log.write(tmp_path / "data")
    (data / "dqa.qrels.csv").write_text("query,note\n1,2\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"dqa\.qrels\.csv must be a CSV"):
        read_qrels(inspect(data))


def test_registering_twice_changes_nothing(tmp_path: Path) -> None:
    data = log.write(tmp_path / "data")
    lake = Lake(tmp_path / "lake")
    assert not is_registered(lake, data)
    first = register_all(lake, inspect(data), "auto")
    assert is_registered(lake, data)
    assert register_all(lake, inspect(data), "auto") == first


def test_the_fingerprint_follows_the_files(tmp_path: Path) -> None:
    data = log.write(tmp_path / "data")
    before = quick_fingerprint(data)
    assert quick_fingerprint(data) == before
    rewrite(shard(data, "notes"), lambda t: t.slice(1))
    assert quick_fingerprint(data) != before


def test_a_link_to_nothing_has_a_fingerprint_too(tmp_path: Path) -> None:
    data = log.write(tmp_path / "data")
    before = quick_fingerprint(data)
    (data / "notes" / "z.parquet").symlink_to("gone.parquet")
    assert quick_fingerprint(data) != before
