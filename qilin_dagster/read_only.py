"""What a statement reads, and that it does nothing else: decided on DuckDB's own parse tree.

Only what is listed here is let through: SELECTs without writing parts, over relations of the lake
and the catalog functions below. A file is refused even where the sandbox could open it: the files
of a lake are its relations' business, and a snapshot read by name is gone after the next build.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

import duckdb

from qilin_dagster.errors import InputError

# A nested comment only makes what follows unreadable, which is refused.
EXPLAIN = re.compile(
    r"^(?:\s|--[^\n]*\n|/\*.*?\*/)*explain(?:\s+analyze|\s*\([^()]*\))?\s+",
    re.IGNORECASE | re.DOTALL,
)

QUERY_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}

TABLE_FUNCTIONS = {
    "duckdb_columns", "duckdb_constraints", "duckdb_functions", "duckdb_keywords", "duckdb_memory",
    "duckdb_schemas", "duckdb_settings", "duckdb_tables", "duckdb_temporary_files", "duckdb_types",
    "duckdb_views", "generate_series", "icu_calendar_names", "json_each", "json_tree",
    "pg_timezone_names", "pragma_table_info", "pragma_version", "range", "repeat", "repeat_row",
    "unnest",
}  # fmt: skip

# They write, see the environment, or are given SQL as text, which no tree shows.
REFUSED_FUNCTIONS = {
    "currval", "getenv", "json_serialize_plan", "nextval", "setval", "write_log",
}  # fmt: skip

# Words of statements that write, where there is no tree to look at.
WRITING_WORDS = {"insert", "update", "delete", "merge", "copy", "create", "attach", "call"}
# No relation has a name like these.
FILE_NAME = re.compile(
    r"[/\\:*?]|\.(parquet|csv|tsv|jsonl?|ndjson|arrow|txt|gz|zst|duckdb|db)$", re.IGNORECASE
)

REFUSED = "refused: qilin sql only reads"


@dataclass
class Reading:
    """Relations a statement names, as ``schema.name`` or a bare name, without its own CTEs.

    ``is_explain`` is true where the rows are a plan.
    """

    relations: list[str] = field(default_factory=list)
    is_explain: bool = False


def check_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> Reading:
    """What one statement reads. Raises InputError for a statement that does more than read.

    Raises duckdb.Error for text that is no SQL.
    """
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise InputError(f"expected one statement, found {len(statements)}")
    kind, text = statements[0].type.name, sql
    explain = EXPLAIN.match(sql)
    if explain:
        # EXPLAIN ANALYZE runs what it explains, so that has to be a query as well.
        text = sql[explain.end() :]
        explained = connection.extract_statements(text)
        kind = explained[0].type.name if len(explained) == 1 else "EXPLAIN of this kind"
    reading = Reading(is_explain=explain is not None)
    if kind == "SELECT":
        _walk_statement(connection, text, reading)
    elif kind == "MULTI":
        # What a PIVOT without its values becomes, and nothing else does.
        _check_pivot(connection, text)
    else:
        refuse(kind)
    return reading


def refuse(what: str) -> NoReturn:
    """Raise InputError saying that this is refused, and what to do instead."""
    raise InputError(
        f"{what} is {REFUSED}. To keep a result, send it into a file (--format csv > rows.csv); "
        "for work of your own, Python has qilin_dagster.lake.connect()"
    )


def _walk_statement(connection: duckdb.DuckDBPyConnection, sql: str, reading: Reading) -> None:
    serialized = connection.execute(
        "select json_serialize_sql(?, skip_null := true, skip_empty := true)", [sql]
    ).fetchall()
    tree = json.loads(serialized[0][0])
    if tree["error"]:
        raise InputError(f"a statement that cannot be looked into is {REFUSED}")
    named: list[tuple[str, str, str]] = []
    ctes: set[str] = set()
    _walk(tree["statements"], named, ctes)
    for catalog, schema, name in named:
        if name.lower() in ctes and schema.lower() in ("", "recurring"):
            if FILE_NAME.search(name):
                refuse(f"reading a file ({name})")
            continue
        if catalog and catalog.lower() not in ("memory", "system", "temp"):
            refuse(f"reading {catalog}.{schema}.{name}, which is not in the lake,")
        reading.relations.append(f"{schema}.{name}" if schema else name)


def _walk(node: Any, named: list[tuple[str, str, str]], ctes: set[str]) -> None:
    """Collect relations and CTEs below a node of the tree; raises InputError on what is refused."""
    if isinstance(node, list):
        for item in node:
            _walk(item, named, ctes)
        return
    if not isinstance(node, dict):
        return
    kind = str(node.get("type", ""))
    if kind.endswith("_NODE") and kind not in QUERY_NODES:
        refuse(kind.removesuffix("_NODE").removesuffix("_QUERY"))
    if kind == "BASE_TABLE":
        named.append(
            (node.get("catalog_name", ""), node.get("schema_name", ""), node.get("table_name", ""))
        )
    function = str(node.get("function_name", "")).lower()
    if function in REFUSED_FUNCTIONS:
        refuse(f"the function {function}")
    if kind == "TABLE_FUNCTION":
        called = node["function"]
        function = str(called.get("function_name", "")).lower()
        if function not in TABLE_FUNCTIONS:
            refuse(f"the table function {function}")
    for entry in node.get("cte_map", {}).get("map", []):
        ctes.add(str(entry["key"]).lower())
    for value in node.values():
        _walk(value, named, ctes)


def _check_pivot(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuse in a PIVOT, by its words alone, what the tree would refuse elsewhere.

    DuckDB cannot serialize a PIVOT that finds out its values. The sandbox holds nothing that could
    be written to and opens no file but the lake's, so this is the second barrier.
    """
    tables = {
        name
        for (name,) in connection.execute(
            "select function_name from duckdb_functions() group by function_name "
            "having bool_and(function_type in ('table', 'table_macro', 'pragma'))"
        ).fetchall()
    }
    refused = (tables - TABLE_FUNCTIONS) | REFUSED_FUNCTIONS
    source = sql.encode()
    tokens = [t for t in duckdb.tokenize(sql) if t[1] != duckdb.token_type.comment]
    ends = [offset for offset, _ in tokens[1:]] + [len(source)]
    for (offset, kind), end in zip(tokens, ends, strict=True):
        word = source[offset:end].decode().strip()
        bare = word.strip("\"'").lower()
        if kind == duckdb.token_type.keyword and bare in WRITING_WORDS:
            refuse(bare.upper())
        is_called = source[end : end + 1] == b"("
        if is_called and bare in refused:
            refuse(f"the function {bare}")
        if word[:1] in "\"'" and FILE_NAME.search(bare):
            raise InputError(
                f"{word} in a PIVOT without its values is {REFUSED}, and this could be a file: "
                "name the values, as in pivot ... on channel in ('search', 'recommendation')"
            )
