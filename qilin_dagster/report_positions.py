"""The page on position bias: what a place is worth, how far to trust that, what to do with it.

Nothing is estimated here: the tables of propensity are. By itself
``python -m qilin_dagster.report_positions RUN QRELS OUT`` draws the page for lists that are known
by a run with the column shown_rank and the labels, where there is no lake.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from qilin_dagster.click_sessions import ALL, RECOMMENDED, lists_of_ranks
from qilin_dagster.report import Provenance, write_page
from qilin_dagster.report_blocks import (
    CHANNELS,
    NOTHING,
    Block,
    Bullets,
    Cell,
    Chart,
    Column,
    Row,
    Section,
    Table,
    Text,
    channel_label,
    count,
    interval,
    is_number,
    number,
    percent,
)
from qilin_dagster.report_charts import curve_chart

if TYPE_CHECKING:
    import duckdb

CODE_VERSION = "3"
NAMES = ("by_position", "click_models", "bias_factors", "overlap", "trust")
SERIES = (
    (RECOMMENDED, "Examination", "text", "circle"),
    ("click rate", "Click rate", "muted", "square"),
)
COMPARED_AT = (2, 5, 10, 20)

Tables = dict[str, Sequence[Row]]


def write_position_page(
    connection: duckdb.DuckDBPyConnection, out: Path, provenance: Provenance
) -> None:
    """Write report.html and report.md of the lake's propensity tables into the folder ``out``."""
    draw(read_propensities(connection), out, provenance)


def read_propensities(connection: duckdb.DuckDBPyConnection) -> Tables:
    """The rows of the tables of propensity; raises duckdb.CatalogException where one lacks."""
    tables: Tables = {}
    for name in NAMES:
        cursor = connection.execute(f"from propensity.{name}")
        columns = [column[0] for column in cursor.description or []]
        tables[name] = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    return tables


def draw(tables: Tables, out: Path, provenance: Provenance) -> None:
    """Write the page of these rows."""
    twin = "Rehearsal: " if provenance.is_twin else ""
    write_page(
        out,
        provenance,
        title=f"{twin}What a place is worth: {provenance.data_name}",
        summary=position_summary(tables),
        facts=_facts(tables),
        sections=position_sections(tables),
    )


def position_summary(tables: Tables) -> str:
    """What position 10 is worth in both channels, in words."""
    return (
        " ".join(_sentence(tables, channel) for channel in CHANNELS).strip()
        or "No curve has been estimated: there are too few requests."
    )


def position_sections(tables: Tables) -> list[Section]:
    """All there is to say of examination by place, in order."""
    return [
        _caveats(tables),
        *(_channel(tables, channel) for channel in CHANNELS if _curve(tables, channel)),
        _use(tables),
        _factors(tables),
        _trust(tables),
        _parts(tables),
        _estimators(tables),
        _swaps(tables),
    ]


def _curve(
    tables: Tables, channel: str, estimator: str = RECOMMENDED, surface: str = ALL
) -> dict[int, Row]:
    """Rows of a curve by position."""
    return {
        row["position_from"]: row
        for row in tables["by_position"]
        if row["channel"] == channel
        and row["estimator"] == estimator
        and row["surface"] == surface
        and is_number(row["estimate"])
    }


def _sentence(tables: Tables, channel: str) -> str:
    curve, rate = _curve(tables, channel), _curve(tables, channel, "click rate")
    if 10 not in curve or 10 not in rate:
        return ""
    row = curve[10]
    return (
        f"In {channel_label(channel).lower()} a note at position 10 is examined "
        f"{percent(row['estimate'], 0)} as often as one at position 1 ({_interval(row)}); its "
        f"click rate is {percent(rate[10]['estimate'], 0)} of that at position 1, and the rest is "
        "what the ranker put there."
    )


def _interval(row: Row) -> str:
    limits = interval(row["lower"], row["upper"])
    return f"95% interval {limits}" if limits else "no interval"


def _facts(tables: Tables) -> list[tuple[str, str]]:
    found = []
    for channel in CHANNELS:
        curve = _curve(tables, channel)
        if 10 in curve:
            label = channel_label(channel).lower()
            found.append((number(curve[10]["estimate"]), f"examination at position 10, {label}"))
    return found


def _caveats(tables: Tables) -> Section:
    said = [
        "Nobody logged what was looked at. Examination is inferred from which clicks came, under "
        "the hypothesis that a click needs a place that is examined and a note that attracts, "
        "independently of each other.",
        "The curve is relative: position 1 is 1. How often position 1 itself is examined is not "
        "known and not needed for weights.",
        "Place and attraction are told apart by lists of different length, pages that begin deep, "
        "and gaps in the numbering: attraction follows how high a note stands in its list, "
        "examination where it stands on the page. If readers with long lists examine the same "
        "place more than readers with short ones, the curve is wrong, and nothing here would show "
        "it.",
        "Only requests with a click are in the log (outside the answer sample). The likelihood is "
        "that of the clicks given that there is at least one; requests differ in how much is "
        "clicked, by a normal effect of their own.",
        "The page has two columns: a position is a place in reading order, not a height. A note "
        "was returned, which is not to say that it was on the screen.",
        "A curve is that of this app, this page and this ranker's time. It does not move to "
        "another.",
    ]
    found = [
        f"{channel_label(row['channel'])}, {row['surface']}: {row['caveat']}"
        for row in tables["click_models"]
        if row["estimator"] == RECOMMENDED and row["caveat"]
    ]
    blocks: list[Block] = [Bullets(tuple(said))]
    if found:
        blocks += [Text("What these very rows cannot tell:", tone="note"), Bullets(tuple(found))]
    return Section("caveats", "Before you use this", tuple(blocks))


def _channel(tables: Tables, channel: str) -> Section:
    rows = [
        row
        for row in tables["by_position"]
        if row["channel"] == channel
        and row["surface"] == ALL
        and 1 <= row["position_from"] <= 28
        and row["estimator"] in (RECOMMENDED, "click rate")
    ]
    # The click rate is counted; only the estimate has an interval to draw.
    drawn = [
        row
        if is_number(row["lower"])
        else {**row, "lower": row["estimate"], "upper": row["estimate"]}
        for row in rows
    ]
    title = channel_label(channel)
    blocks: list[Block] = []
    chart = curve_chart(
        drawn,
        "position_from",
        "Position on the page",
        "Position",
        y=("estimate", "Relative to position 1"),
        limits=("lower", "upper"),
        series=("estimator", SERIES),
        pooled=False,
        most=1.15,
    )
    if chart is not None:
        blocks.append(
            Chart(
                f"examination-{channel}",
                f"{title}: examination by position with 95% intervals, beside the click rate, both "
                "relative to position 1. The gap between them is what the ranker put there.",
                f"Two falling curves over positions 1 to 28 of {title.lower()}.",
                chart,
            )
        )
    curve, rate = _curve(tables, channel), _curve(tables, channel, "click rate")
    body = [
        (
            Cell(_place(row)),
            Cell(number(row["estimate"], 3), interval(row["lower"], row["upper"])),
            Cell(number(1 / row["estimate"])),
            Cell(number(rate[place]["estimate"], 3) if place in rate else NOTHING),
            Cell(count(row["n_impressions"])),
            Cell(count(row["n_clicks"])),
        )
        for place, row in sorted(curve.items())
    ]
    blocks.append(
        Table(
            f"curve-{channel}",
            f"{title}: examination relative to position 1, and the weight of a click there.",
            (
                Column("Position", is_number=False),
                Column("Examination"),
                Column("Weight"),
                Column("Click rate"),
                Column("Impressions"),
                Column("Clicks"),
            ),
            tuple(body),
            folded="Every position",
        )
    )
    return Section(f"curve-of-{channel}", title, tuple(blocks))


def _place(row: Row) -> str:
    first, last = row["position_from"], row["position_to"]
    if last is None:
        return f"{first} and deeper"
    return str(first) if first == last else f"{first} to {last}"


def _use(tables: Tables) -> Section:
    items = [
        "Training: weigh a click at a place by one over its examination, clipped (ten is far "
        "beyond any weight above), or give the place to the model in training only. Read the "
        "interval first: a weight is known no better than the curve.",
        "Judging: evaluation.unbiased puts self-normalised metrics beside the raw ones, with the "
        "effective sample size, and pairs of neighbours that need no curve. A ranker that gains on "
        "raw clicks and loses on these has learnt the old order.",
        "A ranker trained with weights will look worse on raw clicks of the old ranker's log. That "
        "is what the weights are for; it is no proof that it is better, either. Swap a few results "
        "at random for a day, and the curve is measured and not inferred.",
        "Weights pay where the old ranker preferred something that attracts nobody and that the "
        "new one sees, such as what it was told to promote: naive training takes the places for "
        "attraction, wins on raw clicks and carries the preference on. If the old ranker is strong "
        "and prefers nothing, weights buy little: where what attracts already stands first, naive "
        "training finds it, too. Report no gain as no gain.",
        "Do not use a click-rate curve as propensity: it holds the ranker's own judgement, and "
        "dividing by it pushes good notes down.",
    ]
    for channel in CHANNELS:
        curve = [row for place, row in _curve(tables, channel).items() if 1 <= place <= 20]
        if curve:
            least = min(row["estimate"] for row in curve)
            items.append(
                f"{channel_label(channel)}: weights at positions 1 to 20 reach {number(1 / least)}"
                + ("; little to correct." if least > 0.75 else ".")
            )
    return Section("use", "What to do with it", (Bullets(tuple(items)),))


def _factors(tables: Tables) -> Section:
    rows = [
        (
            Cell(channel_label(row["channel"])),
            Cell(row["factor"]),
            Cell(row["scale"]),
            Cell(number(row["estimate"]), interval(row["lower"], row["upper"])),
        )
        for row in tables["bias_factors"]
    ]
    blocks: tuple[Block, ...] = (
        Text(
            "Ratios: 1 is no effect. The page repeats every seven places, with a commercial slot "
            "in each block; a dip there that goes away once the commercial flag is known is the "
            "card's, not the place's."
        ),
        Table(
            "factors",
            "What moves clicks besides the place, with 95% intervals.",
            (
                Column("Channel", is_number=False),
                Column("Factor", is_number=False),
                Column("Acts on", is_number=False),
                Column("Ratio"),
            ),
            tuple(rows),
        ),
    )
    return Section("factors", "What else moves clicks", blocks if rows else (Text(NOTHING),))


def _trust(tables: Tables) -> Section:
    rows = [
        (
            Cell(channel_label(row["channel"])),
            Cell(_place(row)),
            Cell(number(row["trust"], 3), interval(row["lower"], row["upper"])),
            Cell(count(row["n_requests"])),
        )
        for row in tables["trust"]
    ]
    found = [
        f"{channel_label(row['channel'])} {_place(row)}"
        for row in tables["trust"]
        if is_number(row["lower"]) and row["lower"] > 0
    ]
    said = (
        f"Told apart from none at: {', '.join(found)}. There a click says less than its weight by "
        "examination; train with the affine correction, and expect the gap to plain weights to be "
        "as large as these numbers."
        if found
        else "Nowhere is it told apart from none: dividing by examination is all there is to do."
    )
    blocks: tuple[Block, ...] = (
        Text(
            "Readers may click upper places because they are upper places, also what does not "
            "attract them. Of notes that are examined and do not attract, so many are clicked, "
            "relative to places below the tenth: what all places have in common cannot be seen. "
            "It shows in clicks that depend less on what is attractive where there is more of it."
        ),
        Text(said, tone="note"),
        Table(
            "trust",
            "Trust by position, with 95% intervals.",
            (
                Column("Channel", is_number=False),
                Column("Position", is_number=False),
                Column("Trust"),
                Column("Requests"),
            ),
            tuple(rows),
            folded="Every position",
        ),
    )
    return Section("trust", "Clicks whatever stands there", blocks if rows else (Text(NOTHING),))


def _parts(tables: Tables) -> Section:
    surfaces = dict.fromkeys((row["channel"], row["surface"]) for row in tables["by_position"])
    rows = []
    for channel, surface in surfaces:
        curve = _curve(tables, channel, surface=surface)
        cells = [
            Cell(number(curve[place]["estimate"]), _limits(curve[place]))
            if place in curve
            else Cell(NOTHING)
            for place in COMPARED_AT
        ]
        rows.append((Cell(channel_label(channel)), Cell(surface), *cells))
    blocks = (
        Text(
            "The same estimator on parts of the log. Pages with an answer are few, and those that "
            "number their places anew are left out: read their intervals."
        ),
        Table(
            "parts",
            "Examination at a few positions, by part of the log.",
            (
                Column("Channel", is_number=False),
                Column("Part", is_number=False),
                *(Column(f"Position {place}") for place in COMPARED_AT),
            ),
            tuple(rows),
        ),
    )
    return Section("parts", "By session position and answer module", blocks)


def _limits(row: Row) -> str:
    return interval(row["lower"], row["upper"])


def _estimators(tables: Tables) -> Section:
    rows = []
    for row in tables["click_models"]:
        if row["surface"] != ALL:
            continue
        curve = _curve(tables, row["channel"], row["estimator"])
        name = row["estimator"]
        rows.append(
            (
                Cell(channel_label(row["channel"])),
                Cell(name, tone="model" if name == RECOMMENDED else ""),
                Cell(number(row["log_likelihood"], 3)),
                Cell(number(row["perplexity"], 4)),
                Cell(number(row["calibration_error"], 4)),
                *(
                    Cell(number(curve[place]["estimate"]), _limits(curve[place]))
                    if place in curve
                    else Cell(NOTHING)
                    for place in COMPARED_AT[1:]
                ),
                Cell(row["caveat"] or "", tone="prose-cell muted"),
            )
        )
    blocks = (
        Text(
            "Held out are a fifth of the users. Likelihood is in nats per request, perplexity per "
            "exposure (1 is certainty, 2 a coin), both given the clicks above and that the request "
            "has a click. A model may foretell clicks well and have the wrong curve: harvesting "
            "and click rates are shown because they are used elsewhere, not because they agree. "
            "Estimators that are slow were fitted on a sample of the users."
        ),
        Table(
            "estimators",
            "Click models beside each other; the one in use is in bold.",
            (
                Column("Channel", is_number=False),
                Column("Estimator", is_number=False),
                Column("Log-likelihood"),
                Column("Perplexity"),
                Column("Calibration error"),
                *(Column(f"Position {place}") for place in COMPARED_AT[1:]),
                Column("Caveat", is_number=False),
            ),
            tuple(rows),
        ),
    )
    return Section("estimators", "Estimators beside each other", blocks)


def _swaps(tables: Tables) -> Section:
    rows = []
    for channel in CHANNELS:
        pairs = {
            (row["position_from"], row["other_position_from"]): row["n_notes"]
            for row in tables["overlap"]
            if row["channel"] == channel
        }
        if pairs:
            chosen = ((1, 2), (1, 5), (1, 10), (1, 20), (9, 10), (19, 20))
            rows.append(
                (Cell(channel_label(channel)), *(Cell(count(pairs.get(one, 0))) for one in chosen))
            )
    blocks: tuple[Block, ...] = (
        Text(
            "Harvesting takes a note that stood at two places, in two requests, for an experiment. "
            "It needs such notes, and reasons for the change of rank that have nothing to do with "
            "who asked; a ranker that knows the query and the user has none."
        ),
        Table(
            "swaps",
            "Notes shown at both of two positions.",
            (
                Column("Channel", is_number=False),
                *(Column(title) for title in ("1, 2", "1, 5", "1, 10", "1, 20", "9, 10", "19, 20")),
            ),
            tuple(rows),
        ),
    )
    return Section("swaps", "Could it be harvested?", blocks if rows else (Text(NOTHING),))


def draw_files(run_file: Path, qrels_file: Path, out: Path) -> None:
    """The page for the lists of a run, see the head of this module.

    Raises:
        InputError: files that cannot be read, a run without shown_rank.
    """
    import polars as pl

    from qilin_dagster import propensities
    from qilin_dagster.errors import InputError
    from qilin_dagster.evaluation import read_qrels, read_run

    run, qrels = read_run(run_file), read_qrels(qrels_file)
    if run.shown_rank is None:
        raise InputError(f"{run_file}: no column shown_rank; without it there are no places")
    clicked = pl.DataFrame({"qid": qrels.qid, "pid": qrels.pid, "click": 1}).unique()
    shown = pl.DataFrame({"qid": run.qid, "pid": run.pid, "shown_rank": run.shown_rank})
    table = shown.join(clicked, on=["qid", "pid"], how="left").with_columns(
        pl.col("click").fill_null(0)
    )
    lists = lists_of_ranks(table)
    rows = propensities.Estimates.none()
    propensities.estimate_channel("search", lists, 0, rows, lambda _: None)
    tables: Tables = {name: getattr(rows, name) for name in NAMES}
    known = (
        f"{run_file.name} holds ranks and clicks of {lists.sessions.n_requests:,} requests and "
        "nothing else: no gaps, no pages that begin deep, no form, no commercial flag, no users. "
        "The curve rests on the lengths of the lists alone, requests count as users, and the dip "
        "of a commercial slot passes for one of examination."
    )
    for row in rows.click_models:
        if row["estimator"] == RECOMMENDED:
            row["caveat"] = f"{known} {row['caveat'] or ''}".strip()
    out.mkdir(parents=True, exist_ok=True)
    provenance = Provenance(
        data_name=run_file.stem,
        is_twin=False,
        data_fingerprint="a file of lists",
        code_version=CODE_VERSION,
        created_at=datetime.now(UTC),
        versions={},
        models_not_trained={},
        clock_evidence=[],
        data_path_note="",
    )
    draw(tables, out, provenance)


def main(arguments: Sequence[str]) -> int:
    from qilin_dagster.errors import InputError

    if len(arguments) != 3:
        print("usage: python -m qilin_dagster.report_positions RUN QRELS OUT", file=sys.stderr)
        return 2
    run, qrels, out = (Path(one) for one in arguments)
    try:
        draw_files(run, qrels, out)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(out / "report.html")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
