"""Stage 6, reports: what a person reads, from the lake's tables alone."""

import base64
import importlib.metadata
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from qilin_dagster.assets.tables import WRITER, written_in
from qilin_dagster.assets.training import RECIPES
from qilin_dagster.lake import Lake, Written
from qilin_dagster.outcomes import OUTCOMES
from qilin_dagster.resources import CATALOG, Lakehouse

if TYPE_CHECKING:
    import duckdb

    from qilin_dagster.report import Provenance

log = logging.getLogger("qilin")

READS = (
    "quarantine.all_rows",
    "core.requests",
    "core.impressions",
    *(view.qualified for view in CATALOG.views if view.schema == "bias"),
    "evaluation.leaderboard",
    "evaluation.comparisons",
    "evaluation.slices",
    "evaluation.calibration",
    "evaluation.examples",
    "evaluation.retrieval",
    "evaluation.history",
    "evaluation.audit",
    "core.images",
    "evaluation.unbiased",
    "evaluation.cold_start",
    "ablation.image_worth",
    "evaluation.data_drift",
    "evaluation.answer_effects",
    "evaluation.answer_balance",
    "evaluation.answer_overlap",
    "evaluation.answer_refutations",
    "evaluation.answer_metrics",
    "evaluation.answer_feedback",
)
# Shown where they were asked for.
READS_ON_DEMAND = ("ablation.context_worth", "ablation.cold_start")
POSITION_READS = tuple(
    f"propensity.{name}"
    for name in ("by_position", "click_models", "bias_factors", "overlap", "trust")
)
FACTS = ("published.data_set", "published.clock")
PACKAGES = ("qilin-lakehouse", "duckdb", "polars", "dagster", "torch", "great-expectations")
# Raise when the page changes for the same tables.
CODE_VERSION = "8"


@dg.asset(
    key=["reports", "overview"],
    deps=[dg.AssetKey(relation.split(".")) for relation in (*READS, *READS_ON_DEMAND, *FACTS)],
    group_name="reports",
    kinds={"html"},
    pool=WRITER,
    metadata=written_in(__file__),
    description="The report as a site of linked pages that needs no network: what was read, the "
    "paper's values beside ours, the bias lab, leaderboards with anchors, single requests, "
    "ablations, audit and provenance; and all of it on one page.",
)
def overview(lakehouse: Lakehouse) -> dg.MaterializeResult[None]:
    engine = lakehouse.engine()
    lake = lakehouse.store
    inputs = engine.inputs((*READS, *FACTS))
    # Shown as they are, and not waited for: a failed check of theirs must not hide all the rest.
    for table in (OUTCOMES, *POSITION_READS, *READS_ON_DEMAND):
        if (manifest := lake.manifest(table)) is not None:
            inputs[table] = manifest.snapshot_id
    manifest = lake.publish(
        "reports.overview",
        inputs=inputs,
        code_version=CODE_VERSION,
        write=lambda folder: _write(lakehouse, folder),
    )
    folder = lake.snapshot_folder("reports.overview")
    metadata = _page(folder, "index.html")
    for figure in sorted(folder.glob("*.png")):
        picture = base64.b64encode(figure.read_bytes()).decode()
        metadata[figure.stem] = dg.MetadataValue.md(
            f"![{figure.stem}](data:image/png;base64,{picture})"
        )
    return dg.MaterializeResult(
        metadata=metadata, data_version=dg.DataVersion(manifest.snapshot_id)
    )


@dg.asset(
    key=["reports", "position_bias"],
    deps=[dg.AssetKey(relation.split(".")) for relation in (*POSITION_READS, *FACTS)],
    group_name="reports",
    kinds={"html"},
    pool=WRITER,
    metadata=written_in(__file__),
    description="A page for whoever trains or judges a ranker on these clicks: how far each place "
    "is examined, what the estimate rests on, and what to do with it.",
)
def position_bias(lakehouse: Lakehouse) -> dg.MaterializeResult[None]:
    from qilin_dagster.report_positions import CODE_VERSION, write_position_page

    engine = lakehouse.engine()

    def write(folder: Path) -> Written:
        connection = engine.connect([*POSITION_READS, *FACTS])
        try:
            provenance = _provenance(lakehouse, connection, "core.impressions")
            write_position_page(connection, folder, provenance)
        finally:
            connection.close()
        return Written(n_rows=0, columns=())

    manifest = lakehouse.store.publish(
        "reports.position_bias",
        inputs=engine.inputs((*POSITION_READS, *FACTS)),
        code_version=CODE_VERSION,
        write=write,
    )
    folder = lakehouse.store.snapshot_folder("reports.position_bias")
    return dg.MaterializeResult(
        metadata=_page(folder), data_version=dg.DataVersion(manifest.snapshot_id)
    )


def _page(folder: Path, first: str = "report.html") -> dict[str, dg.MetadataValue]:
    """Where the page to open first is, and all of it as text."""
    return {
        "report": dg.MetadataValue.path(str(folder / first)),
        "page": dg.MetadataValue.md((folder / "report.md").read_text(encoding="utf-8")),
    }


def _provenance(
    lakehouse: Lakehouse, connection: "duckdb.DuckDBPyConnection", made_from: str
) -> "Provenance":
    from qilin_dagster.report import Provenance

    name, is_twin, fingerprint, note = connection.execute(
        "select name, is_twin, fingerprint, note from published.data_set"
    ).fetchall()[0]
    evidence = connection.execute(
        "select source_table || ': ' || evidence from published.clock order by 1"
    ).fetchall()
    return Provenance(
        data_name=name,
        is_twin=is_twin,
        data_fingerprint=fingerprint,
        code_version=lakehouse.engine().version(made_from),
        seed=lakehouse.settings.seed,
        created_at=datetime.now(UTC),
        versions={package: importlib.metadata.version(package) for package in PACKAGES},
        models_not_trained=_facts_of_runs(lakehouse.store, "not_trained"),
        recipes_changed={
            run: ", ".join(changed)
            for run, changed in _facts_of_runs(lakehouse.store, "other").items()
        },
        clock_evidence=[line for (line,) in evidence],
        data_path_note=note,
    )


def _write(lakehouse: Lakehouse, folder: Path) -> Written:
    from qilin_dagster.report import figures, write_report
    from qilin_dagster.report_site import write_site

    connection = lakehouse.engine().connect()
    try:
        provenance = _provenance(lakehouse, connection, "bias.paper_values")
        write_report(connection, folder, provenance)
        write_site(connection, folder, provenance)
        for figure, png in figures(connection).items():
            (folder / f"{figure}.png").write_bytes(png)
    finally:
        connection.close()
    return Written(n_rows=0, columns=())


def _facts_of_runs(lake: Lake, name: str) -> dict[str, Any]:
    """A fact of the runs' manifests, of those that have it, by asset key."""
    found = {}
    for recipe in RECIPES:
        manifest = lake.manifest(f"training.{recipe.name}")
        if manifest is not None and name in manifest.facts:
            found[f"training/{recipe.name}"] = manifest.facts[name]
    return found
