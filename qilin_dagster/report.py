"""The report a person reads: lake tables in, one self-contained HTML page and its Markdown out.

Nothing is computed here that a table of the lake should hold; this file chooses words, order and
plots. It knows DuckDB and templates, not Dagster. The page is a list of sections, each a list of
blocks; both templates walk that list, so the two files cannot tell different stories.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from qilin_dagster import report_quarantine, report_runs
from qilin_dagster.catalog import load_catalog
from qilin_dagster.report_answer_texts import answers_section
from qilin_dagster.report_answers import effect_section
from qilin_dagster.report_audit import AUDIT_QUERY, audit_section
from qilin_dagster.report_bias import (
    answers,
    bias_lab,
    engagement_table,
    positions,
    session_positions,
    transitions,
)
from qilin_dagster.report_blocks import (
    CHANNELS,
    HEADLINE_METRIC,
    NOTHING,
    Block,
    Bullets,
    Cell,
    Chart,
    Column,
    Heading,
    Numbers,
    Relation,
    Row,
    Section,
    Table,
    Text,
    channel_label,
    count,
    interval,
    is_number,
    metric_label,
    metric_order,
    missing,
    number,
    percent,
    percent_interval,
    run_label,
    slug,
)
from qilin_dagster.report_charts import (
    DARK,
    FONT,
    LIGHT,
    charts_javascript,
    leaderboard_chart,
    position_chart,
    printed_spec,
    session_position_chart,
)
from qilin_dagster.report_checks import checks_section
from qilin_dagster.report_cold_start import cold_start_section
from qilin_dagster.report_context import context_section
from qilin_dagster.report_drift import drift_section
from qilin_dagster.report_images import IMAGES_QUERY, images_section
from qilin_dagster.report_paper import paper_beside_ours
from qilin_dagster.report_unbiased import unbiased_section

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"

# Rows of the published release (arXiv 2503.00501), to say how much of it a lake holds.
PUBLISHED_REQUESTS = {
    "search_train": 44_024,
    "search_test": 6_192,
    "dqa": 6_972,
    "recommendation_train": 83_437,
    "recommendation_test": 11_115,
}
# Text rankers, whose runs hold more than the text says.
WEIGHED_RUNS = {"bi_encoder", "cross_encoder"}
TEST_TABLE = {"search": "search_test", "recommendation": "recommendation_test"}

# Table 10 of the paper: MRR@10, MRR@100, MAP@10, MAP@100.
PAPER_METRICS = ("mrr@10", "mrr@100", "map@10", "map@100")
PAPER_TABLE_10 = {
    "search": {
        "BM25, as printed": (0.3388, 0.3467, 0.2399, 0.3139),
        "BERT bi-encoder": (0.5320, 0.5359, 0.3855, 0.4536),
        "BERT cross-encoder": (0.5336, 0.5386, 0.3848, 0.4533),
        "DCN-V2": (0.5600, 0.5653, 0.4014, 0.4683),
        "VLM": (0.5523, 0.5563, 0.3937, 0.4601),
    },
    "recommendation": {
        "BM25, as printed": (0.5379, 0.5418, 0.3933, 0.4634),
        "BERT bi-encoder": (0.6067, 0.6087, 0.4548, 0.5183),
        "BERT cross-encoder": (0.6346, 0.6362, 0.4786, 0.5394),
        "DCN-V2": (0.6307, 0.6321, 0.4651, 0.5278),
        "VLM": (0.6394, 0.6409, 0.4890, 0.5477),
    },
}

# Below this a rate of one position rests on a few dozen impressions.
FEW_REQUESTS = 1_000
ABLATIONS = ("image_worth", "context_worth", "cold_start")
RATE_COLUMNS = ("click_rate", "click_rate_low", "click_rate_high")
MODE_TITLES = {
    "full": "full: every test request, ties counted in expectation",
    "official": "official: the first 1,000 test rows, ties broken by the given order",
}


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the rows came from; everything a page must say about itself."""

    data_name: str
    is_twin: bool
    data_fingerprint: str
    code_version: str
    created_at: datetime
    versions: dict[str, str]
    models_not_trained: dict[str, str]  # asset key -> a sentence that says why
    clock_evidence: list[str]
    data_path_note: str
    # asset key -> what is other than in its recipe, by the launchpad, the seed or a checkpoint
    recipes_changed: dict[str, str] = field(default_factory=dict)
    # What decides all that is drawn at random: weights, order, intervals.
    seed: int | None = None


def write_report(connection: duckdb.DuckDBPyConnection, out: Path, provenance: Provenance) -> None:
    """Write report.html and report.md into the existing folder `out`."""
    numbers = read_numbers(connection)
    write_page(
        out,
        provenance,
        title=page_title(provenance),
        summary=summary(numbers, provenance),
        facts=facts(numbers),
        sections=sections(numbers, provenance),
    )


def write_page(
    out: Path,
    provenance: Provenance,
    *,
    title: str,
    summary: str,
    facts: list[tuple[str, str]],
    sections: list[Section],
) -> None:
    """Write these sections as report.html and report.md into the existing folder `out`."""
    rendered = render_page(provenance, title=title, summary=summary, facts=facts, sections=sections)
    markdown = (
        _markdown_environment()
        .get_template("report.md.j2")
        .render(provenance=provenance, title=title, summary=summary, sections=sections)
    )
    (out / "report.html").write_text(rendered, encoding="utf-8")
    (out / "report.md").write_text(markdown, encoding="utf-8")


def render_page(
    provenance: Provenance,
    *,
    title: str,
    summary: str,
    facts: list[tuple[str, str]],
    sections: list[Section],
    tab: str = "",
    pages: Sequence[Any] = (),
    before: Any = None,
    after: Any = None,
    has_charts: bool = True,
) -> str:
    """One self-contained HTML page.

    ``pages`` are the links (file, title, is_current) of the site it belongs to, if any, ``before``
    and ``after`` its neighbours there; ``tab`` is the title of the browser's tab where it is not
    that of the page. Scripts for plots are part of a page that ``has_charts`` only.
    """
    return (
        _html_environment()
        .get_template("report.html.j2")
        .render(
            provenance=provenance,
            title=title,
            tab=tab or title,
            summary=summary,
            facts=facts,
            sections=sections,
            pages=pages,
            before=before,
            after=after,
            light=LIGHT,
            dark=DARK,
            font=FONT,
            metric_label=metric_label,
            javascript=charts_javascript() if has_charts else "",
        )
    )


def figures(connection: duckdb.DuckDBPyConnection) -> dict[str, bytes]:
    """PNG of each bias plot that has rows, by the name of its view."""
    import vl_convert

    by_position, by_session_position = read_numbers(
        connection, ("bias.click_rate_by_position", "bias.click_rate_by_session_position")
    ).values()
    charts = {
        "click_rate_by_position": position_chart(by_position.rows),
        "click_rate_by_session_position": session_position_chart(by_session_position.rows),
    }
    return {
        name: vl_convert.vegalite_to_png(printed_spec(spec), scale=2)
        for name, spec in charts.items()
        if spec is not None
    }


# ---------------------------------------------------------------------------------------------
# Reading: every relation once; a missing one becomes a sentence, not an error.


BIAS_VIEWS = {view.qualified: view for view in load_catalog().views if view.schema == "bias"}

# What the page asks of the lake, by the relation it must have.
QUERIES = {
    "core.requests": """
        select channel, source_table, count(*) as n_requests
        from core.requests group by all
    """,
    "core.impressions": "select count(*) as n_impressions from core.impressions",
    **{name: f"from {name}" for name in BIAS_VIEWS},
    "quarantine.all_rows": report_quarantine.QUERY,
    "evaluation.leaderboard": "from evaluation.leaderboard",
    **{
        f"evaluation.{name}": f"from evaluation.{name}"
        for name in (
            *("comparisons", "slices", "calibration", "examples", "retrieval", "history"),
            *("unbiased", "cold_start"),
        )
    },
    "core.images": IMAGES_QUERY,
    **{f"ablation.{name}": f"from ablation.{name}" for name in ABLATIONS},
    **{
        f"evaluation.answer_{name}": f"from evaluation.answer_{name}"
        for name in (
            *("effects", "balance", "overlap", "refutations"),
            *("metrics", "feedback"),
        )
    },
    "evaluation.checks": "from evaluation.checks",
    "evaluation.audit": AUDIT_QUERY,
    "evaluation.data_drift": "from evaluation.data_drift",
}


def read_numbers(
    connection: duckdb.DuckDBPyConnection, names: Iterable[str] = tuple(QUERIES)
) -> Numbers:
    # Asked first, because DuckDB takes an unknown name for a Python variable and scans that.
    known = connection.execute(
        "select distinct table_schema || '.' || table_name from information_schema.tables"
    ).fetchall()
    return {
        name: _read(connection, name, QUERIES[name])
        if (name,) in known
        else Relation(name, (), f"The table {name} has not been built.", is_built=False)
        for name in names
    }


def _read(connection: duckdb.DuckDBPyConnection, name: str, query: str) -> Relation:
    try:
        cursor = connection.execute(query)
    except (duckdb.BinderException, duckdb.CatalogException) as error:
        # A column lacks, or the parent of a view is gone.
        reason = str(error).splitlines()[0]
        return Relation(name, (), f"The table {name} cannot be read: {reason}", is_built=False)
    columns = [column[0] for column in cursor.description or []]
    rows = tuple(dict(zip(columns, row, strict=True)) for row in cursor.fetchall())
    return Relation(name, rows, "" if rows else f"The table {name} holds no rows.")


# ---------------------------------------------------------------------------------------------
# The top of the page


def page_title(provenance: Provenance) -> str:
    if provenance.is_twin:
        name = provenance.data_name
        return f"Rehearsal of the Qilin log: {name if 'twin' in name else f'synthetic twin {name}'}"
    return f"Reading the Qilin log: {provenance.data_name}"


def facts(numbers: Numbers) -> list[tuple[str, str]]:
    """A few large numbers, each with what it counts."""
    found = []
    requests = numbers["core.requests"].rows
    if requests:
        found.append((count(sum(row["n_requests"] for row in requests)), "requests"))
    impressions = numbers["core.impressions"].rows
    if impressions and impressions[0]["n_impressions"]:
        found.append((count(impressions[0]["n_impressions"]), "impressions"))
    by_channel = {row["channel"]: row for row in numbers["bias.engagement_by_channel"].rows}
    for channel in CHANNELS:
        if channel in by_channel and is_number(by_channel[channel]["click_rate"]):
            text = percent(by_channel[channel]["click_rate"])
            found.append((text, f"click rate, {channel_label(channel).lower()}"))
    return found


def summary(numbers: Numbers, provenance: Provenance) -> str:
    """What a reader should take away, made of the numbers and no stronger than their intervals."""
    return " ".join(findings(numbers, provenance))


def findings(numbers: Numbers, provenance: Provenance) -> list[str]:
    """The summary, sentence by sentence."""
    sentences = []
    if provenance.is_twin:
        sentences.append("These rows are synthetic; the numbers show that the pipeline runs.")
    requests = numbers["core.requests"].rows
    if requests:
        total = sum(row["n_requests"] for row in requests)
        per_channel = ", ".join(
            f"{count(n)} {channel}"
            for channel in CHANNELS
            if (n := sum(r["n_requests"] for r in requests if r["channel"] == channel))
        )
        sentences.append(f"The log read here holds {count(total)} requests ({per_channel}).")
        if total < FEW_REQUESTS:
            sentences.append("With so few, no number on this page is a finding.")
    else:
        sentences.append("No requests have been read.")
    for channel in CHANNELS:
        sentences.extend(_position_sentence(numbers, channel))
    for task in CHANNELS:
        sentences.extend(_leaderboard_sentences(numbers, task))
    if any("(" in sentence for sentence in sentences[1:]):
        sentences.append("Ranges in parentheses are 95% intervals.")
    failed = [row for row in numbers["evaluation.checks"].rows if row["passed"] is False]
    if numbers["evaluation.checks"].rows:
        n_checks = len(numbers["evaluation.checks"].rows)
        sentences.append(
            f"{_plural(len(failed), 'data check')} of {n_checks} failed; see the data checks."
            if failed
            else f"All {n_checks} data checks passed."
        )
    return sentences


def _plural(n: int, noun: str) -> str:
    return f"{count(n)} {noun}{'' if n == 1 else 's'}"


def _position_sentence(numbers: Numbers, channel: str) -> list[str]:
    bins = sorted(
        (
            row
            for row in numbers["bias.click_rate_by_position"].rows
            if row["channel"] == channel
            and 1 <= row["position_bin"] <= 10
            and all(is_number(row[name]) for name in RATE_COLUMNS)
        ),
        key=lambda row: row["position_bin"],
    )
    if len(bins) < 2:
        return []
    first, last = bins[0], bins[-1]
    low_first, high_first = first["click_rate_low"], first["click_rate_high"]
    low_last, high_last = last["click_rate_low"], last["click_rate_high"]
    if low_first > high_last:
        verb, hedge = "falls", ""
    elif high_first < low_last:
        verb, hedge = "rises", ""
    else:
        verb, hedge = "goes", "; the intervals overlap, so these rows do not show a fall"
    at_first = f"{percent(first['click_rate'])} ({percent_interval(low_first, high_first)})"
    at_last = f"{percent(last['click_rate'])} ({percent_interval(low_last, high_last)})"
    first_bin, last_bin = first["position_bin"], last["position_bin"]
    change = f"from {at_first} at position {first_bin} to {at_last} at position {last_bin}"
    return [f"In {channel} the click rate {verb} {change}{hedge}."]


def _leaderboard_sentences(numbers: Numbers, task: str) -> list[str]:
    rows = [
        row
        for row in numbers["evaluation.leaderboard"].rows
        if row["task"] == task
        and row["mode"] == "full"
        and row["metric"] == HEADLINE_METRIC
        and is_number(row["value"])
    ]
    anchors = {row["run"]: row for row in rows if row["kind"] == "anchor"}
    models = sorted(
        (row for row in rows if row["kind"] == "model"), key=lambda row: -float(row["value"])
    )
    if "random" not in anchors or "display_order" not in anchors:
        return []
    random, shown = anchors["random"], anchors["display_order"]
    sentence = (
        f"Ranking {task} test notes in the order the app showed them gives MRR@10 "
        f"{_with_interval(shown)}, a random order {_with_interval(random)}"
    )
    if not models:
        return [f"{sentence}; no model has been evaluated there."]
    best = models[0]
    against_random = _compared(best, random, "random")
    against_shown = _compared(best, shown, "the shown order")
    model = f"and the highest model, {run_label(best['run'])}, {_with_interval(best)}"
    return [f"{sentence}, {model}: {against_random} and {against_shown}."]


def _with_interval(row: Row) -> str:
    limits = interval(row["low"], row["high"])
    return f"{number(row['value'], 3)} ({limits})" if limits else number(row["value"], 3)


def _compared(row: Row, anchor: Row, name: str) -> str:
    """How a model stands to an anchor, as far as two separate intervals can say."""
    limits = (row["low"], row["high"], anchor["low"], anchor["high"])
    if not all(is_number(value) for value in limits):
        return f"{'above' if row['value'] > anchor['value'] else 'not above'} {name}"
    if row["low"] > anchor["high"]:
        return f"clearly above {name}"
    if row["high"] < anchor["low"]:
        return f"clearly below {name}"
    return f"not distinguishable from {name} by these intervals"


# ---------------------------------------------------------------------------------------------
# The sections, in story order


def sections(numbers: Numbers, provenance: Provenance) -> list[Section]:
    return [
        rows_read(numbers),
        quarantine(numbers),
        audit_section(numbers["evaluation.audit"].rows, numbers["evaluation.audit"].why_empty),
        paper_beside_ours(numbers, provenance.is_twin),
        positions(numbers),
        session_positions(numbers),
        answers(numbers),
        effect_section(numbers),
        answers_section(numbers),
        transitions(numbers),
        *bias_lab(numbers, BIAS_VIEWS),
        *([anchors()] if numbers["evaluation.leaderboard"].rows else []),
        *(leaderboard(numbers, provenance, task) for task in CHANNELS),
        report_runs.retrieval(numbers),
        unbiased_section(numbers),
        cold_start_section(numbers),
        context_section(numbers),
        images_section(numbers),
        drift_section(numbers["evaluation.data_drift"]),
        checks_section(numbers["evaluation.checks"].rows, numbers["evaluation.checks"].why_empty),
        provenance_section(provenance),
    ]


def quarantine(numbers: Numbers) -> Section:
    relation = numbers["quarantine.all_rows"]
    # A quarantine without rows is good news, not a table that lacks.
    return report_quarantine.quarantine(
        relation.rows, "" if relation.is_built else relation.why_empty
    )


def rows_read(numbers: Numbers) -> Section:
    relation = numbers["core.requests"]
    blocks: list[Block] = []
    if not relation.rows:
        blocks.append(missing(relation))
    else:
        by_table = {row["source_table"]: row for row in relation.rows}
        names = [name for name in PUBLISHED_REQUESTS if name in by_table]
        names += sorted(str(name) for name in by_table if name not in PUBLISHED_REQUESTS)
        body: list[tuple[Cell, ...]] = []
        for name in names:
            n, published = by_table[name]["n_requests"], PUBLISHED_REQUESTS.get(name)
            body.append(
                (
                    Cell(name),
                    Cell(channel_label(by_table[name]["channel"])),
                    Cell(count(n)),
                    Cell(count(published)),
                    Cell(percent(n / published, 2) if published else NOTHING),
                )
            )
        n_here = sum(row["n_requests"] for row in relation.rows)
        n_published = sum(PUBLISHED_REQUESTS.values())
        totals = (
            "All tables",
            "",
            count(n_here),
            count(n_published),
            percent(n_here / n_published, 2),
        )
        body.append(tuple(Cell(text, tone="total") for text in totals))
        blocks.append(
            Table(
                "requests-by-source-table",
                "Requests by published table, beside the size of the full release.",
                (
                    Column("Table", is_number=False),
                    Column("Channel", is_number=False),
                    Column("Requests here"),
                    Column("In the release"),
                    Column("Share"),
                ),
                tuple(body),
            )
        )
    impressions = numbers["core.impressions"]
    if impressions.rows and impressions.rows[0]["n_impressions"]:
        n_impressions = count(impressions.rows[0]["n_impressions"])
        blocks.append(
            Text(
                f"These requests returned {n_impressions} impressions. An impression is a note the "
                "log returned; whether the user scrolled to it is not logged. Outside the direct "
                "answer table the release keeps only requests with at least one click, so every "
                "click rate below is conditional on that."
            )
        )
    elif impressions.rows:
        blocks.append(Text("The table core.impressions holds no rows.", tone="missing"))
    else:
        blocks.append(missing(impressions))
    engagement = numbers["bias.engagement_by_channel"]
    if engagement.rows:
        by_channel = {row["channel"]: row for row in engagement.rows}
        blocks.append(
            engagement_table(
                "engagement-by-channel",
                "Browsing and engagement by channel. Like, collect, share and comment rates are "
                "shares of clicked notes.",
                [(channel_label(c), by_channel[c]) for c in CHANNELS if c in by_channel],
            )
        )
    else:
        blocks.append(missing(engagement))
    return Section("rows", "Rows read", tuple(blocks))


MAP_SENTENCE = (
    " MAP divides by the smaller of the clicked notes and the depth, MAP/R by the clicked notes."
)
ANCHOR_SENTENCES = (
    "Display order is an upper anchor for clicks, not for relevance: users click what they are "
    + "shown first, so the shown order predicts clicks better than it would predict what they "
    + "would have liked. A model that comes close to it may have learned the position and little "
    + "else.",
    "The id-block rule is a leak, drawn so that nobody takes it for skill: the published note ids "
    + "are numbered in blocks, two of which hold nearly all clicked notes, so an id alone, "
    + "without a word of the note, ranks the clicked ones first.",
    "Popularity is the number of clicks a note got in the training rows; notes that were not "
    + "clicked there are tied.",
    "Random is the mean over all orders, the floor that a working model must leave; the oracle "
    + "ranks clicked notes first and is the highest value the metric allows.",
)


def anchors() -> Section:
    title = "How to read the leaderboards"
    lead = Text(
        "A model is never shown alone. Beside it stand anchors, none of which reads a note."
    )
    return Section("anchors", title, (lead, Bullets(ANCHOR_SENTENCES)))


def leaderboard(numbers: Numbers, provenance: Provenance, task: str) -> Section:
    relation = numbers["evaluation.leaderboard"]
    section_id, title = f"leaderboard-{task}", f"Leaderboard: {channel_label(task).lower()}"
    rows = [row for row in relation.rows if row["task"] == task]
    blocks: list[Block] = []
    if not relation.rows:
        blocks.append(missing(relation))
    elif not rows:
        blocks.append(Text(f"No run has been evaluated for {task}.", tone="missing"))
    else:
        blocks.append(
            Text(
                "Each run orders the notes of a test request anew and is scored against its "
                "clicks. Intervals are over users; two runs whose intervals overlap may still "
                "differ when compared request by request."
            )
        )
    for mode in sorted({row["mode"] for row in rows}, key=lambda mode: (mode != "full", mode)):
        blocks += _leaderboard_mode(task, mode, [row for row in rows if row["mode"] == mode])
    not_trained = {
        key: why for key, why in provenance.models_not_trained.items() if _is_about(key, task)
    }
    if not_trained:
        blocks.append(Heading("Models without a result", f"{section_id}-not-trained"))
        blocks.append(Bullets(tuple(f"{key}: {why}" for key, why in not_trained.items())))
    changed = {k: why for k, why in provenance.recipes_changed.items() if _is_about(k, task)}
    if changed:
        blocks.append(Heading("Trained otherwise than their recipes say", f"{section_id}-changed"))
        blocks.append(Bullets(tuple(f"{key}: {what}" for key, what in changed.items())))
    blocks += report_runs.under_the_leaderboard(numbers, task)
    if rows:
        blocks += _paper_table_10(numbers, provenance, task)
    return Section(section_id, title, tuple(blocks))


def _is_about(asset_key: str, task: str) -> bool:
    """Keys that name neither task are about both."""
    named = [name for name in CHANNELS if name in asset_key]
    return task in named or not named


def _leaderboard_mode(task: str, mode: str, rows: list[Row]) -> list[Block]:
    mode_id = f"leaderboard-{task}-{slug(mode)}"
    mode_title = MODE_TITLES.get(mode, mode)
    blocks: list[Block] = [Heading(f"Mode {mode_title}", mode_id)]
    if not any(row["kind"] == "anchor" for row in rows):
        blocks.append(
            Text(
                "These runs came without anchors. A model alone cannot be read, so none is shown.",
                tone="missing",
            )
        )
        return blocks
    metrics = sorted({row["metric"] for row in rows}, key=metric_order)
    headline = HEADLINE_METRIC if HEADLINE_METRIC in metrics else metrics[0]
    by_key = {(row["run"], row["metric"]): row for row in rows}
    kinds = {row["run"]: row["kind"] for row in rows}

    def headline_value(run: str) -> float:
        value: Any = by_key.get((run, headline), {}).get("value")
        return float(value) if is_number(value) else -math.inf

    runs = sorted(kinds, key=lambda run: (-headline_value(run), run))
    n_requests = {run: next(r["n_requests"] for r in rows if r["run"] == run) for run in runs}
    scored = sorted(set(n_requests.values()), key=lambda n: (n is None, n))
    scored_text = " or ".join(count(n) for n in scored)
    description = "; ".join(
        f"{run_label(run)} ({kinds[run]}) {_with_interval(by_key[run, headline])}"
        for run in runs
        if (run, headline) in by_key
    )
    spans = (
        "bars are 95% intervals"
        if any(is_number(row["low"]) for row in rows)
        else "no intervals were computed"
    )
    blocks.append(
        Chart(
            f"chart-{mode_id}",
            f"{channel_label(task)}, mode {mode}, {scored_text} requests. Models are coloured "
            f"diamonds, anchors grey circles; {spans}.",
            f"Dot plot of {headline} by run, highest first. {description}.",
            leaderboard_chart(task, rows, runs, headline),
            metrics=(headline, *(metric for metric in metrics if metric != headline)),
        )
    )
    if WEIGHED_RUNS & kinds.keys():
        blocks.append(
            Text(
                "Bi-encoder and cross-encoder are weighed with what can be counted: BM25 and other "
                "matches, what a note's words tell of its clicks, what it is made of. Their model "
                "cards say by how much, and what the encoder and the rest reach alone; with "
                "interpolates: false in the launchpad they are the encoder alone."
            )
        )
    body = []
    for run in runs:
        # A run that lacks requests is scored on them as if it had found nothing, or not at all.
        lacking = max(int(r.get("n_missing") or 0) for r in rows if r["run"] == run)
        kind = f"{kinds[run]}, lacks {_plural(lacking, 'request')}" if lacking else kinds[run]
        cells = [Cell(run_label(run), detail=kind, tone=kinds[run])]
        for metric in metrics:
            row = by_key.get((run, metric), {})
            text = number(row.get("value"), 4)
            cells.append(Cell(text, detail=interval(row.get("low"), row.get("high"), "–")))
        body.append(tuple(cells))
    blocks.append(
        Table(
            f"table-{mode_id}",
            f"{channel_label(task)}, mode {mode}, all metrics; "
            + spans.replace("bars", "small figures")
            + "."
            + (MAP_SENTENCE if any(metric.startswith("map_r@") for metric in metrics) else ""),
            (
                Column("Run", is_number=False),
                *(Column(metric_label(metric)) for metric in metrics),
            ),
            tuple(body),
        )
    )
    return blocks


def _paper_table_10(numbers: Numbers, provenance: Provenance, task: str) -> list[Block]:
    heading = Heading("The paper's baselines", f"leaderboard-{task}-paper")
    if provenance.is_twin:
        text = (
            "The paper's Table 10 is not printed here: its values and those of a synthetic twin "
            "are not comparable."
        )
        return [heading, Text(text, tone="note")]
    test_table = TEST_TABLE[task]
    n_test = sum(
        row["n_requests"]
        for row in numbers["core.requests"].rows
        if row["source_table"] == test_table
    )
    if n_test == PUBLISHED_REQUESTS[test_table]:
        standing = (
            "Protocol of the table: the first 1,000 test requests under the public evaluator, that "
            "is mode official above and not mode full. Inputs and training data of the paper's "
            "models differ from those here."
        )
    else:
        standing = (
            f"For orientation only, not comparable: the paper scored the first 1,000 of "
            f"{count(PUBLISHED_REQUESTS[test_table])} published test requests, these rows hold "
            f"{count(n_test)} of them."
        )
    if task == "search":
        standing += (
            " The printed BM25 row lies below a random order and matches the reverse of the shown "
            "list, which is what constant scores give; a working BM25 must lie above random."
        )
    body = tuple(
        (Cell(name, tone="muted"), *(Cell(number(value, 4), tone="muted") for value in values))
        for name, values in PAPER_TABLE_10[task].items()
    )
    columns = (
        Column("Printed in the paper", is_number=False),
        *(Column(metric_label(metric)) for metric in PAPER_METRICS),
    )
    caption = f"Table 10 of the paper, {task}: official protocol, first 1,000 test requests."
    table = Table(f"paper-table-10-{task}", caption, columns, body)
    return [heading, Text(standing), table]


def provenance_section(provenance: Provenance) -> Section:
    facts_of_origin = {
        "Data": provenance.data_name,
        "Kind": "synthetic twin" if provenance.is_twin else "rows of the published log",
        "Data fingerprint": provenance.data_fingerprint,
        "Where from": provenance.data_path_note,
        "Code version": provenance.code_version,
        "Seed": "" if provenance.seed is None else str(provenance.seed),
        "Written": provenance.created_at.isoformat(sep=" ", timespec="seconds"),
        **{f"Version of {name}": v for name, v in sorted(provenance.versions.items())},
    }
    blocks: list[Block] = [
        Table(
            "provenance-table",
            "What made this page.",
            (Column("What", is_number=False), Column("Value", is_number=False)),
            tuple((Cell(k), Cell(v or NOTHING, tone="code")) for k, v in facts_of_origin.items()),
        )
    ]
    if provenance.clock_evidence:
        blocks.append(Heading("Clocks", "provenance-clocks"))
        blocks.append(Bullets(tuple(provenance.clock_evidence)))
    return Section("provenance", "Provenance", tuple(blocks))


# ---------------------------------------------------------------------------------------------
# Templates


def _html_environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _markdown_environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Every value that a template prints passes markdown_text: names of data sets are foreign text.
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=False,
        finalize=markdown_text,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def markdown_text(value: Any) -> str:
    """Text that Markdown shows as it is, on one line, also inside a table."""
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;")
    for character in "\\`*[]|":
        text = text.replace(character, f"\\{character}")
    return text
