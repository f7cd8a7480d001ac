"""The SELECTs of sql/ as Spark SQL: translated by sqlglot, with rules where the dialects differ.

Nothing is written twice: the files stay plain DuckDB SQL. sqlglot knows most names and the order of
nulls. What it would translate into something that runs and means something else is either turned
into what it means in DuckDB (the rules below, each proved by rows that are equal on both engines)
or refused with the file and what to write instead.
"""

from collections.abc import Callable, Iterator

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from qilin_dagster.catalog import View
from qilin_dagster.errors import InputError

# Marks a cast of what is a whole number already.
IS_WHOLE = "is_whole"
INTEGERS = {exp.DType.TINYINT, exp.DType.SMALLINT, exp.DType.INT, exp.DType.BIGINT}


class UntranslatableError(InputError):
    """A file of sql/ uses what Spark would read differently; the message names file and idiom."""


def spark_name(relation: str) -> str:
    """Name of a relation's temporary view on Spark, which has no schemas for those."""
    return relation.replace(".", "__")


def to_spark(view: View) -> str:
    """The view's SELECT for Spark, its parents read by their `spark_name`.

    Raises UntranslatableError for what means something else there.
    """
    where = f"sql/{view.schema}/{view.name}.sql"
    return translate(view.select, where)


def translate(select: str, where: str) -> str:
    """Translate one DuckDB SELECT; ``where`` names it in errors."""
    tree = sqlglot.parse_one(select, dialect="duckdb")
    faults = [f"{idiom}: {instead}" for idiom, instead in refused(tree)]
    if faults:
        raise UntranslatableError(f"{where} cannot run on Spark: {'; '.join(sorted(set(faults)))}")
    for table in list(tree.find_all(exp.Table)):
        if table.db:
            renamed = exp.to_table(spark_name(f"{table.db}.{table.name}"))
            for name, arg in table.args.items():
                if name not in ("this", "db", "catalog"):
                    renamed.set(name, arg)
            table.replace(renamed if table.alias else exp.alias_(renamed, table.name, table=True))
    try:
        return _rewrite(tree).sql("spark", unsupported_level=ErrorLevel.RAISE)
    except (SqlglotError, UntranslatableError) as error:
        raise UntranslatableError(f"{where} cannot run on Spark: {error}") from error


# What is refused: (idiom as written in DuckDB, does a node hold it, what to write instead).
Denied = tuple[str, Callable[[exp.Expr], bool], str]


def _is(*kinds: type[exp.Expr]) -> Callable[[exp.Expr], bool]:
    return lambda node: isinstance(node, kinds)


KNOWN_FUNCTIONS = {"epoch_us", "generate_subscripts", "list_grade_up", "list_unique"}
DENIED: tuple[Denied, ...] = (
    (
        "percentile_cont, quantile",
        _is(exp.PercentileCont, exp.PercentileDisc, exp.Quantile, exp.ApproxQuantile),
        "Spark gets an approximation; write median(x)",
    ),
    ("array_agg, list", _is(exp.ArrayAgg), "its order is dropped; write window functions"),
    ("log", _is(exp.Log), "base 10 becomes natural; write ln(x)"),
    ("qualify", _is(exp.Qualify), "LIMIT beside it comes too early; filter a CTE"),
    ("string_split", _is(exp.Split), "it leaves an empty last part; use split_part"),
    ("list_distinct", _is(exp.ArrayDistinct), "nulls count there; unnest and group"),
    ("list[n]", _is(exp.Bracket), "Spark counts from 0; unnest the list"),
    (
        "a list comprehension of a bare comparison",
        lambda node: isinstance(node, exp.Comprehension) and not isinstance(node.parent, exp.Array),
        "sqlglot reads its last part only; put it in parentheses",
    ),
    (
        "window exclude",
        lambda node: isinstance(node, exp.WindowSpec) and bool(node.args.get("exclude")),
        "it is dropped; subtract the row",
    ),
    (
        "group by all, order by all",
        lambda node: (
            (isinstance(node, exp.Group) and bool(node.args.get("all")))
            or (
                isinstance(node, exp.Ordered)
                and isinstance(node.this, exp.Var)
                and node.this.name.upper() == "ALL"
            )
        ),
        "name the columns",
    ),
    (
        "select *",
        lambda node: (
            isinstance(node, (exp.Star, exp.Columns)) and not isinstance(node.parent, exp.Count)
        ),
        "name the columns",
    ),
    ("trunc", _is(exp.Trunc), "it becomes a whole number there; write floor(x)"),
    ("date_diff", _is(exp.DateDiff, exp.TimestampDiff), "parts are counted otherwise; use epoch"),
    ("date_part, extract", _is(exp.Extract, exp.DayOfWeek), "weeks begin otherwise; use epoch"),
    (
        "having over a column that the SELECT names anew",
        lambda node: isinstance(node, exp.Having) and bool(_hidden(node)),
        "Spark takes the new one; filter a CTE",
    ),
    (
        "decimal",
        lambda node: isinstance(node, exp.Cast) and node.to.this is exp.DType.DECIMAL,
        "decimals are cut off otherwise; cast to double",
    ),
    ("sample", _is(exp.TableSample), "another draw on each engine"),
    (
        "asof or positional join",
        lambda node: isinstance(node, exp.Join) and node.method in ("ASOF", "POSITIONAL"),
        "Spark has none; join and number",
    ),
    ("pivot", _is(exp.Pivot), "write filtered aggregates"),
    (
        "epoch_ms and the like",
        lambda node: (
            isinstance(node, exp.UnixToTime)
            and not (
                isinstance(node.args.get("scale"), exp.Literal) and node.args["scale"].name == "6"
            )
        ),
        "only make_timestamp of microseconds is translated",
    ),
    (
        "len",
        lambda node: isinstance(node, exp.Length) and isinstance(node.this, exp.Array),
        "write array_length for lists, length for text",
    ),
    (
        "a function sqlglot does not know",
        lambda node: isinstance(node, exp.Anonymous) and node.name.lower() not in KNOWN_FUNCTIONS,
        "Spark may know another of that name",
    ),
)


def _hidden(having: exp.Expr) -> set[str]:
    """Columns under an aggregate of HAVING whose name the SELECT gives to something else."""
    select = having.parent
    assert isinstance(select, exp.Select)
    named = {p.alias for p in select.expressions if isinstance(p, exp.Alias)}
    aggregated = {c.name for a in having.find_all(exp.AggFunc) for c in a.find_all(exp.Column)}
    return named & aggregated


def refused(tree: exp.Expr) -> Iterator[tuple[str, str]]:
    """Each idiom of the deny-list that the parsed DuckDB statement holds, and what to write."""
    for node in tree.walk():
        for idiom, holds, instead in DENIED:
            if holds(node):
                name = f" ({node.name})" if isinstance(node, exp.Anonymous) else ""
                yield idiom + name, instead


def _rewrite(node: exp.Expr) -> exp.Expr:
    """Apply the rules, children first: a rule sees what it is made from as Spark will."""
    if isinstance(node, exp.Select):
        _one_generator(node)
    for child in list(node.iter_expressions()):
        if (rewritten := _rewrite(child)) is not child:
            child.replace(rewritten)
    rule = RULES.get(type(node))
    return node if rule is None else rule(node)


def _call(name: str, *arguments: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this=name, expressions=list(arguments))


def _each(function: str, array: exp.Expr, body: exp.Expr, *names: str) -> exp.Expr:
    """``function(array, (names) -> body)``."""
    parameters = [exp.to_identifier(name) for name in names]
    return _call(function, array, exp.Lambda(this=body, expressions=parameters))


def _one_based(name: str) -> exp.Expr:
    """Spark's index in a list as DuckDB counts it."""
    index = exp.Add(this=exp.column(name), expression=exp.Literal.number(1))
    number = exp.cast(index, "BIGINT")
    number.meta[IS_WHOLE] = True
    return number


def _struct(**fields: exp.Expr) -> exp.Expr:
    names_and_values: list[exp.Expr] = []
    for name, value in fields.items():
        names_and_values += [exp.Literal.string(name), value]
    return _call("NAMED_STRUCT", *names_and_values)


def _is_generator(node: exp.Expr) -> bool:
    return isinstance(node, exp.Explode) or (
        isinstance(node, exp.Anonymous) and node.name.lower() == "generate_subscripts"
    )


def _one_generator(select: exp.Select) -> None:
    """Spark opens one list in a SELECT; DuckDB walks several side by side.

    They become one list of structs, opened below. They must have the same length: Spark refuses a
    shorter one, where DuckDB would fill up with nulls.
    """
    opened = [p for p in select.expressions if _is_generator(p.unalias())]
    if not opened or (len(opened) == 1 and isinstance(opened[0].unalias(), exp.Explode)):
        return
    if any(select.args.get(clause) for clause in ("joins", "where", "group", "having", "order")):
        raise UntranslatableError("several lists are opened beside a join or a filter; use a CTE")
    lists = [p.unalias() for p in opened]
    arrays = [g.this if isinstance(g, exp.Explode) else g.expressions[0] for g in lists]
    fields: dict[str, exp.Expr] = {}
    for number, (generator, array) in enumerate(zip(lists, arrays, strict=True)):
        if not isinstance(generator, exp.Explode):
            fields[f"c{number}"] = _one_based("i_")
        elif array == arrays[0]:
            fields[f"c{number}"] = exp.column("e_")
        else:
            # Apache Spark takes an index of 32 bits only.
            index = exp.Add(this=exp.column("i_"), expression=exp.Literal.number(1))
            fields[f"c{number}"] = _call("ELEMENT_AT", array.copy(), index)
    zipped = _each("TRANSFORM", arrays[0].copy(), _struct(**fields), "e_", "i_")
    for number, projection in enumerate(opened):
        projection.replace(
            exp.alias_(exp.column(f"c{number}", table="each_"), projection.alias_or_name)
        )
    source = select.args["from_"].this
    inner = exp.select(exp.Star(), exp.alias_(exp.Explode(this=zipped), "each_")).from_(
        source.copy()
    )
    source.replace(inner.subquery(source.alias_or_name))


def _comprehension(node: exp.Expr) -> exp.Expr:
    """``[f(d, n) for d, n in list if g(d)]``: n counts from 1."""
    inner = node.expressions[0] if len(node.expressions) == 1 else None
    if not isinstance(inner, exp.Comprehension):
        return node
    name, position = inner.args["expression"].name, inner.args.get("position")
    array, condition, body = inner.args["iterator"], inner.args.get("condition"), inner.this
    if position is not None and condition is not None:
        raise UntranslatableError("a list comprehension with both an index and a filter")
    if condition is not None:
        array = _each("FILTER", array, condition, name)
    if position is None:
        return _each("TRANSFORM", array, body, name)
    for column in list(body.find_all(exp.Column)):
        if column.name == position.name and not column.table:
            column.replace(_one_based(position.name))
    return _each("TRANSFORM", array, body, name, position.name)


def _function(node: exp.Expr) -> exp.Expr:
    """DuckDB functions that sqlglot hands on by name."""
    match node.name.lower():
        case "epoch_us":
            return _micros(node.expressions[0])
        case "list_grade_up":
            numbered = _struct(v=exp.column("v_"), n=_one_based("i_"))
            ordered = _call(
                "ARRAY_SORT", _each("TRANSFORM", node.expressions[0], numbered, "v_", "i_")
            )
            return _each("TRANSFORM", ordered, exp.column("n", table="s_"), "s_")
        case "list_unique":
            is_there = exp.Is(this=exp.column("v_"), expression=exp.Null()).not_()
            there = _each("FILTER", node.expressions[0], is_there, "v_")
            return _call("SIZE", _call("ARRAY_DISTINCT", there))
    return node


def _micros(moment: exp.Expr) -> exp.Expr:
    # Times are stored without a zone; the session's is UTC.
    return _call("UNIX_MICROS", exp.cast(moment, exp.DataType.build("TIMESTAMPLTZ")))


def _literal(node: exp.Expr) -> exp.Expr:
    """Numbers with a point are decimals of another width and scale on each engine."""
    is_decimal = not node.is_string and "." in node.name and "e" not in node.name.lower()
    is_cast = isinstance(node.parent, exp.Cast) and node.parent.to.this is exp.DType.DOUBLE
    return exp.cast(node.copy(), "DOUBLE") if is_decimal and not is_cast else node


def _text(node: exp.Expr) -> exp.Expr:
    """NaN and the infinities as DuckDB writes them."""
    text = node
    for theirs, ours in (("NaN", "nan"), ("Infinity", "inf")):
        text = _call("REPLACE", text.copy(), exp.Literal.string(theirs), exp.Literal.string(ours))
    return text


def _cast(node: exp.Expr) -> exp.Expr:
    """To a whole number DuckDB rounds, a half to the even one; Spark cuts off."""
    assert isinstance(node, exp.Cast)
    is_whole = IS_WHOLE in node.meta or isinstance(node.this, (exp.Null, exp.Length, exp.Count))
    if node.to.this in INTEGERS and not is_whole:
        node.set("this", _call("BROUND", node.this.copy()))
    return _text(node) if node.to.this is exp.DType.TEXT else node


def _is_nan(node: exp.Expr) -> exp.Expr:
    """Of null DuckDB says null, Spark false."""
    there = exp.Is(this=node.this.copy(), expression=exp.Null()).not_()
    return exp.Case(ifs=[exp.If(this=there, true=_call("ISNAN", node.this.copy()))])


def _is_infinite(node: exp.Expr) -> exp.Expr:
    return exp.EQ(
        this=_call("ABS", node.this.copy()),
        expression=exp.cast(exp.Literal.string("infinity"), "DOUBLE"),
    )


def _contains(node: exp.Expr) -> exp.Expr:
    """Of a list with a null that lacks the value DuckDB says false, Spark null."""
    array, value = node.this, node.expression
    known = exp.and_(
        *(exp.Is(this=part.copy(), expression=exp.Null()).not_() for part in (array, value))
    )
    found = _call("ARRAY_CONTAINS", array.copy(), value.copy())
    return exp.Case(
        ifs=[exp.If(this=known, true=_call("COALESCE", found, exp.Boolean(this=False)))]
    )


def _nullif(node: exp.Expr) -> exp.Expr:
    """``nullif(list, [])``: Spark compares no lists of structs."""
    if not (isinstance(node.expression, exp.Array) and not node.expression.expressions):
        return node
    is_empty = exp.EQ(this=_call("SIZE", node.this.copy()), expression=exp.Literal.number(0))
    return exp.Case(ifs=[exp.If(this=is_empty, true=exp.Null())], default=node.this.copy())


def _compare(node: exp.Expr) -> exp.Expr:
    """``(a, b) < (c, d)``, written out."""
    if not (isinstance(node.this, exp.Tuple) and isinstance(node.expression, exp.Tuple)):
        return node
    (a, b), (c, d) = node.this.expressions, node.expression.expressions
    return exp.paren(
        exp.or_(
            exp.LT(this=a.copy(), expression=c.copy()),
            exp.and_(
                exp.EQ(this=a.copy(), expression=c.copy()),
                exp.LT(this=b.copy(), expression=d.copy()),
            ),
        )
    )


def _cte(node: exp.Expr) -> exp.Expr:
    node.set("materialized", None)
    return node


RULES: dict[type[exp.Expr], Callable[[exp.Expr], exp.Expr]] = {
    exp.Anonymous: _function,
    exp.Array: _comprehension,
    exp.ArrayContains: _contains,
    exp.Cast: _cast,
    exp.CTE: _cte,
    exp.IsInf: _is_infinite,
    exp.IsNan: _is_nan,
    exp.Literal: _literal,
    exp.LT: _compare,
    exp.Nullif: _nullif,
    exp.TimeToUnix: lambda node: exp.paren(
        exp.Div(
            this=exp.cast(_micros(node.this.copy()), "DOUBLE"),
            expression=exp.Literal.number(1000000),
        )
    ),
    exp.UnixToTime: lambda node: exp.cast(
        _call("TIMESTAMP_MICROS", node.this.copy()), exp.DataType.build("TIMESTAMPNTZ")
    ),
}
