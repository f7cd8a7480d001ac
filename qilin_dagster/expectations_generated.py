"""Expectations that no file has to state: what a grain and what the name of a column promise.

The grain comes from the first sentence of a relation's comment. The rest comes from the names of
columns, which mean the same everywhere: ``n_<plural>`` counts, ``<x>_rate`` and ``<x>_share`` are
parts of one, ``<x>_low`` and ``<x>_high`` enclose ``<x>``, ``_s`` are seconds, ``is_`` and ``has_``
are booleans. One expectation a kind and relation, so that its columns are read in one scan.
"""

from collections.abc import Sequence

from qilin_dagster.expectations import UNEXPECTED_ROWS, Expectation, Suite, SuiteError


def with_grain(suite: Suite, grain: Sequence[str]) -> Suite:
    """The suite with what its grain means before its own expectations."""
    return suite.with_generated(grain_expectations(suite.qualified, grain), grain)


def with_meaning(suite: Suite, columns: Sequence[str]) -> Suite:
    """The suite with what the names of its columns promise before its own expectations."""
    return suite.with_generated(meaning_expectations(columns, suite.grain))


def grain_expectations(table: str, grain_columns: Sequence[str]) -> list[Expectation]:
    """What the grain means: its columns are never null and no two rows share them."""
    if not grain_columns:
        raise SuiteError(f"{table}: a grain needs at least one column")
    expectations = [
        Expectation(
            name=f"{column}_is_never_null",
            type="expect_column_values_to_not_be_null",
            kwargs={"column": column},
            severity="critical",
            why=f"A row of {table} without its {column} cannot be told from others or joined.",
        )
        for column in grain_columns
    ]
    if len(grain_columns) == 1:
        type_ = "expect_column_values_to_be_unique"
        unique: dict[str, object] = {"column": grain_columns[0]}
    else:
        type_ = "expect_compound_columns_to_be_unique"
        unique = {"column_list": list(grain_columns)}
    expectations.append(
        Expectation(
            name=f"one_row_per_{'_and_'.join(grain_columns)}",
            type=type_,
            kwargs=unique,
            severity="critical",
            why=f"Joins with {table} would multiply rows, and every count after them.",
        )
    )
    return expectations


def meaning_expectations(columns: Sequence[str], grain: Sequence[str] = ()) -> list[Expectation]:
    """What the names of these columns promise, for those kinds of which there are any.

    A failing row is shown by ``grain`` and the columns of the kind.
    """
    known = set(columns)
    counts = [name for name in columns if name.startswith("n_")]
    parts = [name for name in columns if name.endswith(("_rate", "_share"))]
    durations = [name for name in columns if name.endswith("_s")]
    flags = [name for name in columns if name.startswith(("is_", "has_"))]
    bounds = [
        (f"{name}_low", name, f"{name}_high")
        for name in columns
        if {f"{name}_low", f"{name}_high"} <= known
    ]
    kinds = [
        (
            "counts_are_not_negative",
            counts,
            [f"{_quoted(name)} < 0" for name in counts],
            "Less than nothing cannot be counted: a difference or a sentinel stands for a count.",
        ),
        (
            "shares_and_rates_are_in_0_to_1",
            parts,
            # NaN is above every number in DuckDB, so it is not between either.
            [f"{_quoted(name)} not between 0 and 1" for name in parts],
            "A part of more than all, or of nothing at all: it was divided by another total "
            "than it is a part of.",
        ),
        (
            "seconds_are_not_negative",
            durations,
            [f"{_quoted(name)} < 0 or isnan({_quoted(name)})" for name in durations],
            "Time ran backwards: a sentinel was read as a duration, or two clocks were mixed.",
        ),
        (
            "flags_are_booleans",
            flags,
            [f"typeof({_quoted(name)}) <> 'BOOLEAN'" for name in flags],
            "A flag kept as a number or a word is not false where it is 0 or 'no'.",
        ),
        (
            "bounds_enclose_their_value",
            [name for bound in bounds for name in bound],
            [
                f"{_quoted(low)} > {_quoted(name)} + 1e-9 or {_quoted(name)} > {_quoted(high)} "
                f"+ 1e-9 or ({_quoted(name)} is null) <> ({_quoted(low)} is null) "
                f"or ({_quoted(name)} is null) <> ({_quoted(high)} is null)"
                for low, name, high in bounds
            ],
            "An interval beside its value is of another quantity, or has its ends exchanged.",
        ),
    ]
    if {"n_clicks", "n_impressions"} <= known:
        kinds.append(
            (
                "clicks_do_not_exceed_impressions",
                ["n_clicks", "n_impressions"],
                ["n_clicks > n_impressions"],
                "More was clicked than shown: clicks and impressions were counted over "
                "different rows.",
            )
        )
    return [
        _rule(name, dict.fromkeys((*grain, *of_kind)), conditions, why)
        for name, of_kind, conditions, why in kinds
        if conditions
    ]


def _rule(name: str, shown: dict[str, None], conditions: list[str], why: str) -> Expectation:
    columns = ", ".join(_quoted(column) for column in shown)
    return Expectation(
        name=name,
        type=UNEXPECTED_ROWS,
        kwargs={
            "unexpected_rows_query": f"select {columns} from {{batch}} where "
            + " or ".join(conditions)
        },
        severity="critical",
        why=why,
    )


def _quoted(name: str) -> str:
    return f'"{name}"'
