"""A twin above one island's scale: islands merged so that the published rules hold over the log."""

import hashlib
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qilin_dagster.expectations import load_suites, validate
from qilin_dagster.expectations_generated import with_grain
from qilin_dagster.settings import EXPECTATIONS_ROOT
from qilin_dagster.sources.published import inspect
from qilin_dagster.sources.twin import archipelago, generate
from qilin_dagster.sources.twin.calibration import compare
from qilin_dagster.sources.twin.tables import row_edges
from qilin_dagster.sources.twin.targets import sizes
from tests.conftest import build_views

SCALE, LARGEST, ISLANDS = 0.01, 0.004, 3
SEARCH = ("search_train", "search_test", "dqa")
FEED = ("recommendation_train", "recommendation_test")
TABLES = (*SEARCH, *FEED, "user_feat", "notes")

Row = dict[str, Any]


def write(out: Path, largest: float = LARGEST, **options: Any) -> Path:
    defaults: dict[str, Any] = {"scale": SCALE, "seed": 7, "images": False, "dirty": False}
    defaults |= {"click_model": "pbm", "leaks": True, "looks": True, "promotes": 0.0}
    chosen = generate.Options(**(defaults | options))
    generate.write(out, chosen, lambda message: None, largest)
    return out


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("islands") / "clean")


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("islands") / "dirty", dirty=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same scale as one world."""
    return write(tmp_path_factory.mktemp("islands") / "whole", largest=1.0)


@pytest.fixture(scope="module")
def rows(merged: Path) -> dict[str, list[Row]]:
    return {name: pq.read_table(merged / name).to_pylist() for name in TABLES}


def truth(folder: Path, name: str) -> list[Row]:
    found: list[Row] = pq.read_table(folder / "truth" / f"{name}.parquet").to_pylist()
    return found


def details(row: Row) -> list[Row]:
    key = "search_result_details_with_idx"
    found: list[Row] = row[key] if key in row else row["rec_result_details_with_idx"]
    return found


def notes_of(row: Row) -> Iterator[int]:
    """Every note a request names, wherever it does."""
    yield from (one["note_idx"] for one in details(row))
    for name in ("recent_clicked_note_idxs", "ref_note_idx_list", "search_results", "rec_results"):
        yield from row.get(name) or []
    for name in ("bm25_results", "dpr_results"):
        yield from (int(note) for note, _ in row.get(name) or [])


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(
    merged: Path, dirty: Path, tmp_path: Path
) -> None:
    assert hashes(write(tmp_path / "again")) == hashes(merged)
    assert hashes(write(tmp_path / "dirty", dirty=True)) == hashes(dirty)
    one, other = hashes(merged), hashes(write(tmp_path / "other", seed=8))
    assert {name for name in one if one[name] == other[name]} == {"truth/planted_leaks.parquet"}


def test_rows_files_columns_and_types_are_those_of_one_world(merged: Path, whole: Path) -> None:
    assert set(hashes(merged)) == set(hashes(whole))
    for name in (*TABLES, *(f"truth/{path.name}" for path in (whole / "truth").iterdir())):
        one, other = pq.ParquetDataset(merged / name), pq.ParquetDataset(whole / name)
        assert one.schema == other.schema, name
        if name in TABLES or name.endswith(("/requests.parquet", "/notes.parquet")):
            ours, theirs = (pq.read_table(one / name).num_rows for one in (merged, whole))
            assert ours == theirs, name
    about = json.loads((merged / "twin.json").read_text())
    assert about.pop("islands") == ISLANDS
    assert about == json.loads((whole / "twin.json").read_text())
    ours, theirs = (
        sum(text != "-1" for text in pq.read_table(one / "dqa")["dqa_output"].to_pylist())
        for one in (merged, whole)
    )
    assert ours == theirs


def test_islands_share_the_counts_of_any_scale() -> None:
    for scale, count in ((1.001, 2), (2.5, 3), (3.0, 3), (9.99, 10), (10.0, 10)):
        islands = archipelago.plan(scale, 7, archipelago.LARGEST_ISLAND)
        assert len(islands) == count
        total = sizes(scale)
        assert sum(one.size.notes for one in islands) == total.notes
        assert sum(one.size.users for one in islands) == total.users
        assert sum(one.size.shown for one in islands) == total.shown
        for parts, names in (
            ([one.size.rows for one in islands], total.rows),
            ([one.size.transitions for one in islands], total.transitions),
        ):
            assert {name: sum(part[name] for part in parts) for name in names} == names
        assert len({one.seed for one in islands}) == count


def test_ids_are_contiguous_in_the_published_order(rows: dict[str, list[Row]]) -> None:
    assert [note["note_idx"] for note in rows["notes"]] == list(range(len(rows["notes"])))
    assert [user["user_idx"] for user in rows["user_feat"]] == list(range(len(rows["user_feat"])))
    for key, order in (
        ("search_idx", ("dqa", "search_train", "search_test")),
        ("request_idx", FEED),
    ):
        found = [row for name in order for row in sorted(row[key] for row in rows[name])]
        assert found == list(range(len(found)))
    # Sessions are numbered table by table, without a gap and without one in two tables.
    sessions: list[int] = []
    for name in ("dqa", "search_train", "search_test", *FEED):
        sessions += sorted({row["session_idx"] for row in rows[name]})
    assert sessions == list(range(len(sessions)))


def test_blocks_are_contiguous_over_all_islands(merged: Path, rows: dict[str, list[Row]]) -> None:
    blocks = [row["block"] for row in truth(merged, "notes")]
    assert blocks == sorted(blocks)
    edges = np.searchsorted(np.array(blocks), ["B", "C", "D"]) / len(blocks)
    assert np.abs(edges - [0.391, 0.878, 0.9695]).max() < ISLANDS / len(blocks)
    assert [row["note_idx"] for row in truth(merged, "notes")] == list(range(len(blocks)))
    # Feed counters are 0 exactly in A and C: note rows moved with their numbers.
    feed = np.array([note["imp_rec_num"] for note in rows["notes"]])
    never = np.isin(blocks, ["A", "C"])
    assert feed[never].max() == 0
    assert (feed[~never] > 0).mean() > 0.9


def test_no_user_meets_a_note_of_another_island(rows: dict[str, list[Row]]) -> None:
    islands = archipelago.plan(SCALE, 7, LARGEST)
    users = np.cumsum([one.size.users for one in islands])
    owner: dict[int, int] = {}
    seen: dict[tuple[str, int], int] = {}
    for name in (*SEARCH, *FEED):
        for row in rows[name]:
            island = int(np.searchsorted(users, row["user_idx"], side="right"))
            assert seen.setdefault((name, row["session_idx"]), island) == island
            for note in notes_of(row):
                assert owner.setdefault(note, island) == island
    assert set(owner.values()) == set(range(ISLANDS))
    assert max(owner) < len(rows["notes"])


def test_image_paths_are_not_shared(rows: dict[str, list[Row]]) -> None:
    paths = [path for note in rows["notes"] for path in note["image_path"]]
    assert len(set(paths)) == len(paths) > 1000
    for path in paths:
        found = re.fullmatch(r"image/part_(\d+)/(\d+)/(\d+)\.jpg", path)
        assert found
        part, folder, image = map(int, found.groups())
        assert part == folder // 10_000
        assert image // 20 == folder < len(rows["notes"])


def test_label_lists_hold_the_clicks_by_row_position(
    merged: Path, rows: dict[str, list[Row]]
) -> None:
    for name, file in (
        ("search_test", "search.test.qrels.csv"),
        ("recommendation_test", "recommendation.test.qrels.csv"),
        ("dqa", "dqa.qrels.csv"),
    ):
        head, *lines = (merged / file).read_text().splitlines()
        assert head == "qid,pid"
        clicked = sorted(
            (number, one["note_idx"])
            for number, row in enumerate(rows[name])
            for one in details(row)
            if one["click"]
        )
        labels = [tuple(map(int, line.split(","))) for line in lines]
        assert sorted(labels) == clicked
        assert [row for row, _ in labels] == [row for row, _ in clicked]


def test_truth_joins_by_row_and_note(merged: Path, rows: dict[str, list[Row]]) -> None:
    shown: dict[tuple[str, int], list[Row]] = {}
    for one in truth(merged, "impressions"):
        shown.setdefault((one["source_table"], one["row_number"]), []).append(one)
    about = truth(merged, "requests")
    assert len(about) == len(shown) == sum(len(rows[name]) for name in (*SEARCH, *FEED))
    half_hours: dict[int, int] = {}
    for request in about:
        key = request["source_table"], request["row_number"]
        row = rows[key[0]][key[1]]
        assert half_hours.setdefault(request["session"], row["user_idx"]) == row["user_idx"]
        logged = sorted((one["note_idx"], one["position"], one["click"]) for one in details(row))
        known = sorted((one["note_idx"], one["position"], one["is_clicked"]) for one in shown[key])
        assert logged == known
    assert sorted(half_hours) == list(range(len(half_hours)))
    for one in truth(merged, "answers"):
        row = rows["dqa"][one["row_number"]]
        assert one["is_shown"] == (row["dqa_output"] != "-1")
        assert one["query_length"] == len(row["query"])
    for one in truth(merged, "removed_impressions"):
        assert one["row_number"] < len(rows[one["source_table"]])
        assert one["note_idx"] < len(rows["notes"])
    for one in truth(merged, "selection"):
        assert one["n_published"] == len(rows[one["source_table"]])
        assert one["n_asked"] - one["n_removed"] == one["n_published"]
    images = {one["note_idx"]: one["look"] for one in truth(merged, "notes")}
    for note in rows["notes"]:
        assert np.isnan(images[note["note_idx"]]) == (not note["image_path"])


def test_truth_of_the_examination_is_the_mean_curve(merged: Path) -> None:
    curve = truth(merged, "examination")
    for channel in ("search", "recommendation"):
        places = [one["place"] for one in curve if one["channel"] == channel]
        assert places == list(range(len(places)))
    assert all(0 <= one["examination"] <= 1 for one in curve)


def test_the_heads_of_all_islands_come_first_in_a_test_table(rows: dict[str, list[Row]]) -> None:
    islands = archipelago.plan(SCALE, 7, LARGEST)
    users = np.cumsum([one.size.users for one in islands])
    for name in ("search_test", "recommendation_test"):
        order = [int(np.searchsorted(users, row["user_idx"], "right")) for row in rows[name]]
        head = sum(row_edges(name, island.size.rows[name])[1] for island in islands)
        assert 0.1 < head / len(order) < 0.2
        assert order == sorted(order[:head]) + sorted(order[head:])


def test_the_reader_takes_it_and_every_critical_expectation_holds(
    merged: Path, tmp_path: Path
) -> None:
    assert set(inspect(merged).tables) == set(TABLES)
    engine = build_views(merged, tmp_path / "lake")
    connection = engine.connect()
    grain = {view.qualified: view.grain for view in engine.catalog.views}
    failed = {
        (suite.file, result.name): result.error or result.examples
        for suite in load_suites(EXPECTATIONS_ROOT).values()
        if suite.qualified in grain
        for result in validate(connection, with_grain(suite, grain[suite.qualified]))
        if not result.success and result.severity == "critical"
    }
    connection.close()
    assert failed == {}
    lines = {line.name: line for line in compare(merged) if line.section.startswith("Rows")}
    assert lines["notes"].is_met


def test_bad_rows_stand_at_the_end_and_the_rest_is_as_clean(dirty: Path, merged: Path) -> None:
    planted = truth(dirty, "bad_rows")
    for name in TABLES:
        clean, spoilt = pq.read_table(merged / name), pq.read_table(dirty / name)
        bad = [row["row_number"] for row in planted if row["table"] == name]
        assert bad == list(range(clean.num_rows, spoilt.num_rows))
        assert len(bad) > 3
        assert str(spoilt.slice(0, clean.num_rows).to_pylist()) == str(clean.to_pylist())
    labels = "search.test.qrels.csv"
    assert (dirty / labels).read_bytes() == (merged / labels).read_bytes()


def test_images_lie_where_the_notes_say(tmp_path: Path) -> None:
    out = write(tmp_path / "twin", scale=0.003, largest=0.002, images=True)
    states = truth(out, "images")
    notes = pq.read_table(out / "notes").to_pylist()
    of_note = {note["note_idx"]: note["image_path"] for note in notes}
    assert sorted(one["path"] for one in states) == sorted(
        path for paths in of_note.values() for path in paths
    )
    for one in states:
        assert one["path"] in of_note[one["note_idx"]]
        assert (out / one["path"]).exists() == (one["state"] != "missing")


def test_without_leaks_the_blocks_mean_nothing(tmp_path: Path) -> None:
    blocks = [row["block"] for row in truth(write(tmp_path / "twin", leaks=False), "notes")]
    changes = sum(one != other for one, other in pairwise(blocks))
    assert changes > len(blocks) / 4


def test_an_interrupted_merge_leaves_no_rubbish(tmp_path: Path) -> None:
    def stop(message: str) -> None:
        if message == "merging notes":
            raise KeyboardInterrupt

    chosen = generate.Options(
        SCALE, 7, False, False, click_model="pbm", leaks=True, looks=True, promotes=0.0
    )
    with pytest.raises(KeyboardInterrupt):
        generate.write(tmp_path / "twin", chosen, stop, LARGEST)
    assert list(tmp_path.iterdir()) == []


def test_numbers_move_segment_by_segment() -> None:
    space = archipelago.Space.of([[0, 2, 2, 5], [0, 1, 3, 4]])
    assert space.moved(0, np.arange(5)).tolist() == [0, 1, 5, 6, 7]
    assert space.moved(1, np.arange(4)).tolist() == [2, 3, 4, 8]
    assert len(space) == 9


def test_lists_of_a_slice_keep_their_rows() -> None:
    lists = pa.array([[1], [2, 3], [], [4]]).slice(1, 3)
    moved = archipelago._with_values(lists, pa.array([20, 30, 40]))
    assert moved.to_pylist() == [[20, 30], [], [40]]
