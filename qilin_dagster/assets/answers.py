"""Stage 5, answers: what showing one changes, and answers written anew."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from qilin_dagster.assets.tables import Metadata, publish_from, table_asset
from qilin_dagster.lake import Manifest, write_rows
from qilin_dagster.resources import Lakehouse

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

READS = ("core.answer_requests", "core.users")
NUMPY_TABLE = {"numpy", "table"}


def _publish(
    lakehouse: Lakehouse,
    table: str,
    rows: "Callable[[duckdb.DuckDBPyConnection], pa.Table]",
) -> Manifest:
    from qilin_dagster.answer_effect import CODE_VERSION

    return publish_from(
        lakehouse,
        table,
        READS,
        CODE_VERSION,
        lambda connection, folder: write_rows(rows(connection), folder),
    )


@table_asset(
    "evaluation.answer_effects",
    "One row per (outcome, estimator, effect_on, query_form): what showing a direct answer changes "
    "on average, over all requests of the answer sample or those shown one, in several ways, with "
    "95 % intervals over users and what it would take to explain it away; 'raw difference' is no "
    "effect.",
    READS,
    kinds=NUMPY_TABLE,
)
def answer_effects(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.answer_effect import answer_effects, read_study

    return _publish(lakehouse, table, lambda connection: answer_effects(read_study(connection))), {}


@table_asset(
    "evaluation.answer_balance",
    "One row per (covariate): how much requests with and without an answer differ in what was "
    "known before, in standard deviations: as they are, weighted, and matched.",
    READS,
    kinds=NUMPY_TABLE,
)
def answer_balance(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.answer_effect import answer_balance, read_study

    return _publish(lakehouse, table, lambda connection: answer_balance(read_study(connection))), {}


@table_asset(
    "evaluation.answer_overlap",
    "One row per (bin): requests by their chance of being shown an answer, as foretold from what "
    "was known before, and how many were.",
    READS,
    kinds=NUMPY_TABLE,
)
def answer_overlap(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.answer_effect import answer_overlap, read_study

    return _publish(lakehouse, table, lambda connection: answer_overlap(read_study(connection))), {}


@table_asset(
    "evaluation.answer_refutations",
    "One row per (outcome, refutation): attempts to prove the estimate wrong: with answers dealt "
    "out by chance, with an outcome of before, with a cause more, with fewer users.",
    READS,
    kinds=NUMPY_TABLE,
)
def answer_refutations(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.answer_effect import answer_refutations, read_study

    return _publish(
        lakehouse, table, lambda connection: answer_refutations(read_study(connection))
    ), {}


tables = [answer_effects, answer_balance, answer_overlap, answer_refutations]
