"""Above scale 1: islands, worlds of their own drawn one after the other, merged into one log.

Merging moves numbers and nothing else. A kind of number (``note_idx``, ``search_idx``, the rows of
a test table) has segments, such as the blocks of the notes; the merged log has the first segment of
all islands, then the second of all, so that the rules of the published numbering hold over the
whole log. Tables are read and written a row group at a time.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from qilin_dagster.sources.twin import files
from qilin_dagster.sources.twin.blocks import block_edges
from qilin_dagster.sources.twin.dirty import spoil
from qilin_dagster.sources.twin.draws import Ints, offsets, stream
from qilin_dagster.sources.twin.tables import row_edges
from qilin_dagster.sources.twin.targets import Sizes, sizes
from qilin_dagster.sources.twin.timeline import TABLES

LARGEST_ISLAND: Final = 1.0
# Published session_idx and search_idx go through the tables in this order.
NUMBERED: Final = ("dqa", "search_train", "search_test", *TABLES[3:])
DETAILS: Final = ("search_result_details_with_idx", "rec_result_details_with_idx")
NOTE_LISTS: Final = (
    *("recent_clicked_note_idxs", "ref_note_idx_list", "search_results", "rec_results"),
)
NOTE_PAIRS: Final = ("bm25_results", "dpr_results")


@dataclass(frozen=True)
class Island:
    """One world: what it holds, its seed, and the first of its image folders."""

    size: Sizes
    seed: int
    first_folder: int


def plan(scale: float, seed: int, largest: float) -> list[Island]:
    """As few islands as hold ``scale``; together they have exactly its row counts."""
    count = math.ceil(scale / largest)
    whole = sizes(scale)

    def part(total: int, number: int) -> int:
        return total * (number + 1) // count - total * number // count

    def of(total: dict[str, int], number: int) -> dict[str, int]:
        return {name: part(value, number) for name, value in total.items()}

    return [
        Island(
            Sizes(
                notes=part(whole.notes, number),
                users=part(whole.users, number),
                rows=of(whole.rows, number),
                shown=part(whole.shown, number),
                transitions=of(whole.transitions, number),
            ),
            int(stream(seed, f"island {number}").integers(1 << 62)),
            whole.notes * number // count,
        )
        for number in range(count)
    ]


@dataclass(frozen=True)
class Space:
    """Numbers of one kind over all islands: segment by segment, the islands in order in each."""

    edges: Ints  # (islands, segments + 1), numbers of the island
    shift: Ints  # (islands, segments), from there to the merged numbers

    @classmethod
    def of(cls, edges: Iterable[Ints | list[int]]) -> "Space":
        """From the segments of each island."""
        own = np.array([np.asarray(one) for one in edges], dtype=np.int64)
        lengths = np.diff(own, axis=1).T
        starts = offsets(lengths.ravel())[:-1].reshape(lengths.shape).T
        return cls(own, starts - own[:, :-1])

    def moved(self, island: int, numbers: Ints) -> Ints:
        """The merged numbers of an island's numbers."""
        segment = np.searchsorted(self.edges[island], numbers, side="right") - 1
        found: Ints = numbers + self.shift[island][segment]
        return found

    def pieces(self) -> Iterator[tuple[int, int, int]]:
        """Island, first and last number of each piece, in merged order."""
        for first, last in zip(self.edges[:, :-1].T, self.edges[:, 1:].T, strict=True):
            for island in range(len(self.edges)):
                yield island, int(first[island]), int(last[island])

    def __len__(self) -> int:
        return int((self.edges[:, -1] - self.edges[:, 0]).sum())


def _session_edges(folder: Path) -> Ints:
    """Where the session_idx of each table begins: they are numbered table by table."""
    ends = [0]
    for name in NUMBERED:
        column = pq.read_table(folder / name, columns=["session_idx"]).column(0)
        ends.append(pc.max(column).as_py() + 1)
    return np.array(ends)


class Merger:
    """Merges the islands that lie in ``folders`` into one log, and removes them on the way."""

    def __init__(self, folders: list[Path], islands: list[Island]) -> None:
        self.folders = folders
        each = [island.size for island in islands]
        self.numbers = {
            "note_idx": Space.of(block_edges(size.notes) for size in each),
            "user_idx": Space.of([0, size.users] for size in each),
            "session": Space.of([0, size.first_searches + size.first_feeds] for size in each),
            "search_idx": Space.of(
                offsets(np.array([size.rows[name] for name in NUMBERED[:3]])) for size in each
            ),
            "request_idx": Space.of(
                offsets(np.array([size.rows[name] for name in NUMBERED[3:]])) for size in each
            ),
            "session_idx": Space.of(_session_edges(folder) for folder in folders),
        }
        self.rows = {
            name: Space.of(row_edges(name, size.rows[name]) for size in each) for name in TABLES
        }

    def table(self, out: Path, name: str, dirty_seed: int | None = None) -> pa.Table | None:
        """Write a published table; with a seed, bad rows at its end, which are returned."""
        found = {"notes": self.numbers["note_idx"], "user_feat": self.numbers["user_idx"]}
        space = found.get(name) or self.rows[name]
        shards = files.NOTE_SHARDS if name == "notes" else 1
        rows = _Rows(self._read(name, space))
        planted = None
        for shard, (first, last) in enumerate(pairwise(files.shard_edges(len(space), shards))):
            path = files.shard_path(out, name, shard, shards)
            with self._writer(path, name) as writer:
                for begin in range(first, last, files.GROUP_ROWS):
                    end = min(begin + files.GROUP_ROWS, last)
                    group = rows.take(end - begin)
                    if end == len(space) and dirty_seed is not None:
                        group, planted = spoil(name, group, begin, dirty_seed)
                    writer.write_table(group, row_group_size=files.GROUP_ROWS)
        self._remove(name)
        return planted

    def labels(self, out: Path, name: str) -> None:
        """Write the label list of a table."""
        file, space = files.LABELLED[name], self.rows[name]
        own = [pyarrow.csv.read_csv(folder / file) for folder in self.folders]
        found = []
        for island, first, last in space.pieces():
            qid, pid = (own[island][column].to_numpy() for column in ("qid", "pid"))
            some = (qid >= first) & (qid < last)
            found.append(
                pa.table(
                    {
                        "qid": pa.array(space.moved(island, qid[some])),
                        "pid": pa.array(self.numbers["note_idx"].moved(island, pid[some])),
                    }
                )
            )
        files.write_labels(out / file, pa.concat_tables(found))

    def truth(self, out: Path) -> None:
        """Write the truth: most files row after row, the small ones summed or averaged."""
        for path in sorted((self.folders[0] / "truth").iterdir()):
            name, merged = f"truth/{path.name}", out / "truth" / path.name
            own = [folder / name for folder in self.folders]
            if path.stem == "examination":
                files.write_parquet(merged, _mean_examination([pq.read_table(one) for one in own]))
            elif path.stem == "selection":
                files.write_parquet(merged, _summed([pq.read_table(one) for one in own]))
            elif path.stem == "planted_leaks":
                files.write_parquet(merged, pq.read_table(path))
            else:
                space = self.numbers["note_idx"]
                if path.stem != "notes":
                    space = Space.of([0, pq.read_metadata(one).num_rows] for one in own)
                rows, count = _Rows(self._read(name, space)), len(space)
                with self._writer(merged, name) as writer:
                    for begin in range(0, count, files.GROUP_ROWS):
                        group = rows.take(min(files.GROUP_ROWS, count - begin))
                        writer.write_table(group, row_group_size=files.GROUP_ROWS)
            self._remove(name)

    def _writer(self, path: Path, name: str) -> pq.ParquetWriter:
        path.parent.mkdir(parents=True, exist_ok=True)
        schema = pq.read_schema(_shards(self.folders[0] / name)[0])
        return pq.ParquetWriter(path, schema, **files.FORMAT)

    def _remove(self, name: str) -> None:
        for folder in self.folders:
            for path in _shards(folder / name):
                path.unlink()

    def _read(self, name: str, space: Space) -> Iterator[pa.Table]:
        for island, first, last in space.pieces():
            for rows in _slices(_shards(self.folders[island] / name), first, last):
                yield self._moved(island, rows)

    def _moved(self, island: int, table: pa.Table) -> pa.Table:
        for number, field in enumerate(table.schema):
            values = table.column(number).combine_chunks()
            if field.name in self.numbers:
                moved = self._shift(island, field.name, values)
            elif field.name == "row_number":
                moved = self._row_numbers(island, table["source_table"], values)
            elif field.name in NOTE_LISTS:
                moved = _with_values(values, self._shift(island, "note_idx", values.flatten()))
            elif field.name in DETAILS:
                moved = _with_values(values, self._details(island, values.flatten()))
            elif field.name in NOTE_PAIRS:
                pairs = values.flatten()
                flat = pairs.flatten().to_numpy().copy()
                notes = self.numbers["note_idx"].moved(island, flat[0::2].astype(np.int64))
                flat[0::2] = notes
                moved = _with_values(values, _with_values(pairs, pa.array(flat)))
            else:
                continue
            table = table.set_column(number, field, moved)
        return table

    def _shift(self, island: int, kind: str, values: pa.Array) -> pa.Array:
        return pa.array(self.numbers[kind].moved(island, values.to_numpy()))

    def _details(self, island: int, values: pa.StructArray) -> pa.StructArray:
        fields = list(values.type)
        children = values.flatten()
        for number, field in enumerate(fields):
            if field.name == "note_idx":
                children[number] = self._shift(island, "note_idx", children[number])
        return pa.StructArray.from_arrays(children, fields=fields)

    def _row_numbers(self, island: int, source: pa.ChunkedArray, values: pa.Array) -> pa.Array:
        numbers = values.to_numpy().copy()
        code = pc.index_in(source, value_set=pa.array(TABLES)).to_numpy()
        for number, name in enumerate(TABLES):
            some = code == number
            numbers[some] = self.rows[name].moved(island, numbers[some])
        return pa.array(numbers)


class _Rows:
    """Tables one after the other, handed out in pieces of any size."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self._rest: pa.Table | None = None

    def take(self, count: int) -> pa.Table:
        """The next ``count`` rows."""
        pieces = []
        while count > 0:
            table = next(self._tables) if self._rest is None else self._rest
            pieces.append(table.slice(0, count))
            self._rest = table.slice(count) if table.num_rows > count else None
            count -= pieces[-1].num_rows
        return pa.concat_tables(pieces).combine_chunks()


def _shards(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.glob("*.parquet"))


def _slices(shards: list[Path], first: int, last: int) -> Iterator[pa.Table]:
    """Rows ``first`` to ``last`` over all shards, from the row groups that hold them."""
    begin = 0
    for path in shards:
        with pq.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                end = begin + file.metadata.row_group(number).num_rows
                low, high = max(first, begin), min(last, end)
                if low < high:
                    yield file.read_row_group(number).slice(low - begin, high - low)
                begin = end


def _with_values(lists: pa.Array, values: pa.Array) -> pa.Array:
    """``lists`` with other values of the same number."""
    starts = pc.subtract(lists.offsets, lists.offsets[0])
    return pa.ListArray.from_arrays(starts, values, type=lists.type)


def _summed(own: list[pa.Table]) -> pa.Table:
    """Counts of the same rows, added up."""
    merged = own[0]
    for number, field in enumerate(merged.schema):
        if pa.types.is_integer(field.type):
            total = np.sum([one.column(number).to_numpy() for one in own], axis=0)
            merged = merged.set_column(number, field, pa.array(total))
    return merged


def _mean_examination(own: list[pa.Table]) -> pa.Table:
    """The mean curve of the islands, over those that have the place."""
    curves: dict[tuple[str, int], list[float]] = {}
    for table in own:
        for channel, place, value in zip(*table.to_pydict().values(), strict=True):
            curves.setdefault((channel, place), []).append(value)
    keys = sorted(curves, key=lambda key: (key[0] != own[0]["channel"][0].as_py(), key[1]))
    means = np.array([np.mean(curves[key]) for key in keys])
    columns = [[channel for channel, _ in keys], [place for _, place in keys]]
    return pa.Table.from_arrays(
        [*map(pa.array, columns), pa.array(np.round(means, 4).astype(np.float32))],
        schema=own[0].schema,
    )
