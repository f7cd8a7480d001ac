"""What to say about a name that is not there: the nearest ones that are."""

import re
from difflib import SequenceMatcher, get_close_matches

import duckdb

from qilin_dagster.catalog import view_names

N_NEAREST = 3
# Below this a name is another word, not a slip; and one much closer than others is the one meant.
CLOSENESS = 0.6
MARGIN = 0.15

COLUMN_MISSING = (
    re.compile(r'Referenced column "(.+?)" not found'),
    re.compile(r'does not have a column named "(.+?)"'),
    re.compile(r'Column "(.+?)" in \w+ list not found'),
)
TABLE_MISSING = re.compile(r"Table with name (\S+) does not exist")
CANDIDATES = re.compile(r"^Candidate bindings: (.+)$", re.MULTILINE)
WHERE = re.compile(r"\n\s*LINE \d+: .*", re.DOTALL)


def no_relation(name: str, present: list[str]) -> str:
    """A sentence about a relation the lake does not serve, ``present`` being all it does."""
    not_built = [relation for relation in view_names() if relation not in present]
    asked = name.lower()
    exact = [relation for relation in not_built if asked in (relation, _bare(relation))]
    namesakes = [relation for relation in present if _bare(relation) == _bare(asked)]
    if exact and not namesakes:
        return (
            f"{' and '.join(exact)} is a relation of this project that this lake does not hold "
            "yet: build it with qilin build"
        )
    nearest = namesakes or _nearest_relations(asked, present)
    if nearest:
        return f"there is no relation {name}; did you mean {_or(nearest)}?"
    return f"there is no relation {name} in this lake; show all tables lists those there are"


def in_words(error: duckdb.Error, present: list[str], columns: dict[str, list[str]]) -> str:
    """DuckDB's message, or a shorter one where we know better.

    ``present`` is all relations of the lake, ``columns`` those of the relations the statement
    reads.
    """
    message = str(error).strip()
    table = TABLE_MISSING.search(message)
    if table:
        return no_relation(table[1].strip('"'), present)
    for pattern in COLUMN_MISSING:
        column = pattern.search(message)
        if column:
            return _no_column(column[1], message, columns)
    return message


def _no_column(name: str, message: str, columns: dict[str, list[str]]) -> str:
    """A sentence about a column, with DuckDB's mark of the place in the statement."""
    found = CANDIDATES.search(message)
    # DuckDB's own candidates know the columns of subqueries, but are no closer than chance.
    theirs = re.findall(r'"([^"]+)"', found[1]) if found else []
    candidates = {column.rpartition(".")[2] for column in theirs}
    candidates.update(column for names in columns.values() for column in names)
    nearest = _nearest(name.lower(), sorted(candidates))
    place = WHERE.search(message)
    where = place[0] if place else ""
    if nearest:
        told = [_with_relations(column, columns) for column in nearest]
        return f"there is no column {name}; did you mean {_or(told)}?{where}"
    if columns:
        described = "\n".join(f"{relation}: {', '.join(columns[relation])}" for relation in columns)
        return f"there is no column {name}; there are\n{described}{where}"
    return message


def _nearest_relations(asked: str, present: list[str]) -> list[str]:
    if "." in asked:
        nearest = _nearest(asked, present)
    else:
        bare = _nearest(asked, sorted({_bare(relation) for relation in present}))
        nearest = [relation for name in bare for relation in present if _bare(relation) == name]
    within = [relation for relation in present if len(asked) > 3 and _bare(asked) in relation]
    return nearest or within[:N_NEAREST]


def _nearest(asked: str, names: list[str]) -> list[str]:
    close = get_close_matches(asked, names, N_NEAREST, CLOSENESS)
    ratios = [SequenceMatcher(None, name, asked).ratio() for name in close]
    return [n for n, ratio in zip(close, ratios, strict=True) if ratio >= ratios[0] - MARGIN]


def _with_relations(column: str, columns: dict[str, list[str]]) -> str:
    owners = [relation for relation, names in columns.items() if column in names]
    return f"{column} ({', '.join(owners)})" if owners else column


def _bare(relation: str) -> str:
    return relation.rpartition(".")[2]


def _or(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
