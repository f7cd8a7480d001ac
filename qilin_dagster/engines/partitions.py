"""Lays out a large table's rows in files by the columns that its comment names.

``Files by (source_table, day).`` gives each day of each source table a file of its own,
``source_table=dqa/day=2024-11-27/part-0.parquet``, which DuckDB and others leave closed when a
query asks for other values. What is smaller than `LEAST_ROWS` stays with its like: small days of a
source table in ``source_table=dqa/``, what is small there beside it, in one file. A value
that names no folder, such as a day that is null, has none and stays there, too.

The layout follows from the rows alone, and each file from its own rows and their order. So a day
that is added leaves the files of other days as they were, byte for byte, unless their rows change.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import duckdb

# A file of fewer rows costs more to open than it saves to skip. Every table of the published log
# has more requests than this a day.
LEAST_ROWS = 4_096
PART = "part-0.parquet"

Values = tuple[object, ...]


def layout(n_rows: Mapping[Values, int]) -> dict[Values, int]:
    """The parts that rows go to and their sizes, given that of each combination of values.

    A part is the first values of the combinations it holds, none for the part of all the rest.
    A row belongs to the longest part that its values begin with.
    """
    parts: dict[Values, int] = {}
    left = dict(n_rows)
    for length in range(max(map(len, left), default=0), 0, -1):
        sums: dict[Values, int] = defaultdict(int)
        for values, n in left.items():
            sums[values[:length]] += n
        large = {v: n for v, n in sums.items() if n >= LEAST_ROWS and all(map(_names_a_folder, v))}
        parts |= large
        left = {v: n for v, n in sums.items() if v not in large}
    if left or not parts:
        parts[()] = sum(left.values())
    return parts


def condition(keys: Sequence[str], part: Values, parts: Iterable[Values]) -> str:
    """Which rows belong to the part, in SQL that DuckDB and Spark understand."""
    inside = [p for p in parts if len(p) > len(part) and p[: len(part)] == part]
    # A part within one that is named already needs no word.
    inside = [p for p in inside if not any(p != q and p[: len(q)] == q for q in inside)]
    return " and ".join([_equal(keys, part), *(f"({_equal(keys, p)}) is not true" for p in inside)])


def folder_of(keys: Sequence[str], part: Values) -> Path:
    """Where the part's files lie in the snapshot."""
    return Path(
        *(f"{key}={value}" for key, value in zip(keys, part, strict=False)),
    )


def read(sizes: Mapping[Path, int], root: Path, types: Mapping[str, str], n_rows: int) -> str:
    """The SELECT over a table's files, which opens only those that its filters ask for.

    ``sizes`` gives each file's bytes; the folders' names are relative to ``root``.
    """
    by_keys: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for file in sizes:
        by_keys[_keys_of(file.relative_to(root))].append(file)
    if by_keys.keys() <= {()}:
        return f"select * from read_parquet({literal_list(sizes)}, hive_partitioning = false)"
    # By name: folders above the lake may look like values of columns, too.
    columns = ", ".join(f'"{name}"' for name in types)
    selects = []
    for keys, group in sorted(by_keys.items(), reverse=True):
        # DuckDB would plan as if all files had as many rows as the first.
        share = sum(sizes[file] for file in group) / sum(sizes.values())
        options = (
            f"explicit_cardinality = {round(n_rows * share)}, hive_partitioning = {bool(keys)}"
        )
        if keys:
            hive = ", ".join(f"{literal(key)}: {types[key]}" for key in keys)
            options += f", hive_types = {{{hive}}}"
        selects.append(f"select {columns} from read_parquet({literal_list(group)}, {options})")
    return " union all ".join(selects)


def split(
    connection: duckdb.DuckDBPyConnection,
    rows: Path,
    keys: Sequence[str],
    folder: Path,
    options: str,
) -> None:
    """Write the rows of a file into the folder part by part, in their order; the file goes."""
    parts = parts_of(connection, f"read_parquet({literal(rows)})", keys)
    for part in parts:
        target = folder / folder_of(keys, part) / PART
        target.parent.mkdir(parents=True, exist_ok=True)
        if list(parts) == [()]:
            rows.rename(target)
            return
        # What a filter lets through comes in pieces of any size, and row groups end where a piece
        # does; sorted rows come in whole pieces, and so in the same row groups wherever they lay.
        connection.execute(
            "copy (select * exclude (file_row_number) "
            f"from read_parquet({literal(rows)}, file_row_number = true) "
            f"where {condition(keys, part, parts)} order by file_row_number) "
            f"to {literal(target)} ({options})"
        )
    rows.unlink()


def parts_of(
    connection: duckdb.DuckDBPyConnection, source: str, keys: Sequence[str]
) -> dict[Values, int]:
    """The parts of the rows that a relation or a call of DuckDB gives."""
    listed = ", ".join(f'"{key}"' for key in keys)
    counted = connection.execute(
        f"select {listed}, count(*) from {source} group by {listed}"
    ).fetchall()
    return layout({tuple(values): n for *values, n in counted})


def _equal(keys: Sequence[str], part: Values) -> str:
    # Texts without a type become what the column is: 'YYYY-MM-DD' a date.
    terms = [f"{key} = {literal(value)}" for key, value in zip(keys, part, strict=False)]
    return " and ".join(terms) or "true"


def _names_a_folder(value: object) -> bool:
    return value is not None and re.fullmatch(r"[\w.-]+", str(value), re.ASCII) is not None


def _keys_of(path: Path) -> tuple[str, ...]:
    return tuple(part.partition("=")[0] for part in path.parts[:-1] if "=" in part)


def literal(value: object) -> str:
    """A text literal of SQL."""
    return "'" + str(value).replace("'", "''") + "'"


def literal_list(values: Iterable[object]) -> str:
    """A list of text literals."""
    return "[" + ", ".join(literal(value) for value in values) + "]"
