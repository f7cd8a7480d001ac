"""The report as a site: one page for each thing a person comes for, linked, all of it offline.

A page is a list of sections of the report, by their ids; `report.sections` stays the one list of
them. To place a new section, add its id, or what its id begins with, to a page of `PAGES`; until
then it stands on the page "More". report.html beside the site has everything on one page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from qilin_dagster.report import (
    Provenance,
    facts,
    findings,
    page_title,
    read_numbers,
    render_page,
    sections,
)
from qilin_dagster.report_bias import positions
from qilin_dagster.report_blocks import (
    Block,
    Bullets,
    Card,
    Cards,
    Chart,
    Heading,
    Numbers,
    Section,
    Text,
    count,
)
from qilin_dagster.report_positions import (
    NAMES,
    position_sections,
    position_summary,
    read_propensities,
)
from qilin_dagster.report_requests import explorer_sections

if TYPE_CHECKING:
    import duckdb

HOME = "index.html"
ALL_ON_ONE = "report.html"


@dataclass(frozen=True)
class Page:
    """One page: its file, what it is called, what it answers, and which sections stand on it.

    ``begins`` are ids of sections or what they begin with.
    """

    file: str
    title: str
    question: str
    begins: tuple[str, ...] = ()


PAGES = (
    Page(HOME, "Overview", "What was read, and what it says.", ("short", "rows")),
    Page(
        "paper.html",
        "Paper beside ours",
        "Do these rows give the numbers that the paper printed?",
        ("paper",),
    ),
    Page(
        "bias.html",
        "Bias lab",
        "What else than the note moves a click: its place, the session, the query, the user.",
        ("positions", "session-positions", "transitions", "lab-"),
    ),
    Page(
        "places.html",
        "What a place is worth",
        "How far is each place examined, how well is that known, and what to do with it?",
        ("place-",),
    ),
    Page(
        "leaderboard.html",
        "Leaderboard",
        "Which ranker orders test requests best, beside what anchors, and which differences are "
        "real?",
        ("anchors", "leaderboard-", "retrieval", "unbiased", "cold-start"),
    ),
    Page(
        "requests.html",
        "Requests",
        "What was asked, shown and clicked in single requests, and where does each run put it?",
        ("requests-",),
    ),
    Page(
        "answers.html",
        "Answers",
        "What goes along with a direct answer above the results?",
        ("answers", "answer-"),
    ),
    Page(
        "ablations.html",
        "Ablations",
        "What is each part of a ranker's input worth?",
        ("images", "ablation", "context"),
    ),
    Page(
        "audit.html",
        "Audit",
        "What is wrong with the data, what was set aside, what has moved, which checks failed?",
        ("audit", "quarantine", "drift", "checks"),
    ),
    Page(
        "provenance.html",
        "Provenance",
        "Which data, which code, which seeds and versions made these numbers?",
        ("provenance",),
    ),
)
# Sentences of the summary that say what was read; the others are findings.
N_LEAD = 2
MORE = Page("more.html", "More", "What has not found its page yet.")


@dataclass(frozen=True)
class Link:
    """An entry of the navigation."""

    file: str
    title: str
    is_current: bool = False


def write_site(connection: duckdb.DuckDBPyConnection, out: Path, provenance: Provenance) -> None:
    """Write the pages of the site into the existing folder ``out``."""
    numbers = read_numbers(connection)
    told = findings(numbers, provenance)
    by_page = placed(
        [
            *_short(numbers, told[N_LEAD:]),
            *(without_examples(section) for section in sections(numbers, provenance)),
            *explorer_sections(numbers),
            *place_sections(connection, numbers),
        ]
    )
    by_page[PAGES[0]].insert(1, _contents(by_page))
    for page, on_it in by_page.items():
        links = [Link(p.file, p.title, p is page) for p in by_page]
        at = links.index(next(link for link in links if link.is_current))
        is_home = page.file == HOME
        (out / page.file).write_text(
            render_page(
                provenance,
                title=page_title(provenance) if is_home else page.title,
                tab=page_title(provenance)
                if is_home
                else f"{page.title}: {page_title(provenance)}",
                summary=" ".join(told[:N_LEAD]) if is_home else page.question,
                facts=facts(numbers) if is_home else [],
                sections=on_it,
                pages=links,
                before=links[at - 1] if at else None,
                after=links[at + 1] if at + 1 < len(links) else None,
                has_charts=_has_charts(on_it),
            ),
            encoding="utf-8",
        )


def placed(found: Sequence[Section]) -> dict[Page, list[Section]]:
    """The sections by page, pages without any left out but for the first."""
    by_page: dict[Page, list[Section]] = {page: [] for page in (*PAGES, MORE)}
    for section in found:
        by_page[page_of(section.id)].append(section)
    return {page: on_it for page, on_it in by_page.items() if on_it or page.file == HOME}


def page_of(section_id: str) -> Page:
    """The page of a section: the one that names the longest beginning of its id."""
    matches = [
        (len(begin), page)
        for page in PAGES
        for begin in page.begins
        if section_id == begin
        or (section_id.startswith(begin) and begin.endswith("-"))
        # "ablation" takes "ablation-search", not "ablations".
        or section_id.startswith(f"{begin}-")
    ]
    return max(matches, key=lambda match: match[0])[1] if matches else MORE


def without_examples(section: Section) -> Section:
    """Without the requests note by note, which have a page of their own here."""
    kept: list[Block] = []
    is_kept = True
    for block in section.blocks:
        if isinstance(block, Heading):
            is_kept = not block.id.startswith("examples-")
        if is_kept:
            kept.append(block)
    return replace(section, blocks=tuple(kept))


def _short(numbers: Numbers, told: list[str]) -> list[Section]:
    """The findings, and the plot that everything else is about."""
    plots = [
        replace(block, id="chart-overview")
        for block in positions(numbers).blocks
        if isinstance(block, Chart)
    ]
    return [Section("short", "In short", (Bullets(tuple(told)), *plots))] if told else []


def _contents(by_page: dict[Page, list[Section]]) -> Section:
    cards = tuple(
        Card(page.file, page.title, page.question, _holds(on_it))
        for page, on_it in by_page.items()
        if page.file != HOME
    )
    everything = Card(
        ALL_ON_ONE, "All on one page", "The same sections one below the other, for print.", ""
    )
    return Section("pages", "Where to read on", (Cards((*cards, everything)),))


def _holds(on_it: list[Section]) -> str:
    n_charts = sum(isinstance(block, Chart) for section in on_it for block in section.blocks)
    plots = f", {count(n_charts)} plot{'s' * (n_charts != 1)}" if n_charts else ""
    return f"{count(len(on_it))} section{'s' * (len(on_it) != 1)}{plots}"


def _has_charts(on_it: list[Section]) -> bool:
    return any(isinstance(block, Chart) for section in on_it for block in section.blocks)


def place_sections(connection: duckdb.DuckDBPyConnection, numbers: Numbers) -> list[Section]:
    """Examination by place, where it was estimated and nothing is known to be wrong with it.

    No other page waits for these tables, so they may be of an earlier build, or not there.
    """
    broken = [
        row["check_name"]
        for row in numbers["evaluation.checks"].rows
        if row["passed"] is False
        and str(row["asset"]).replace("/", ".").startswith("propensity.")
        and str(row["severity"]).lower() in ("error", "critical")
    ]
    if broken:
        text = f"Not shown: the estimates failed {', '.join(broken)}; see the audit."
        return [Section("place-broken", "Examination by place", (Text(text, tone="missing"),))]
    if not _are_there(connection):
        text = "Nothing to show here yet. The tables of propensity have not been built."
        return [Section("place-missing", "Examination by place", (Text(text, tone="missing"),))]
    tables = read_propensities(connection)
    said = Section("place-said", "In short", (Text(position_summary(tables)),))
    return [
        said,
        *(replace(section, id=f"place-{section.id}") for section in position_sections(tables)),
    ]


def _are_there(connection: duckdb.DuckDBPyConnection) -> bool:
    ((n,),) = connection.execute(
        "select count(*) from information_schema.tables "
        "where table_schema = 'propensity' and list_contains(?, table_name)",
        [list(NAMES)],
    ).fetchall()
    return bool(n == len(NAMES))
