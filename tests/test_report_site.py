"""The site: each section has its page, pages link to each other, a browser has no complaint."""

import re
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from qilin_dagster.report import read_numbers, sections
from qilin_dagster.report_blocks import Bullets, Heading, Section, Text
from qilin_dagster.report_requests import explorer_sections
from qilin_dagster.report_site import (
    HOME,
    MORE,
    PAGES,
    page_of,
    place_sections,
    placed,
    without_examples,
    write_site,
)
from tests.browser import CHROMIUM, Browser, browser
from tests.test_report import (  # noqa: F401  # Fixtures among them.
    RELATIONS,
    Page,
    build_lab,
    fill,
    lab,
    lake,
    provenance,
)

FILES = [page.file for page in PAGES]


@pytest.fixture(scope="module")
def site(lab: dict[str, pa.Table], tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    out = tmp_path_factory.mktemp("site")
    with duckdb.connect() as connection:
        connection.execute(RELATIONS)
        fill(connection)
        build_lab(connection, lab)
        write_site(connection, out, provenance(is_twin=True, data_name="twin_hundredth"))
    return out


def test_every_section_has_a_page_and_every_page_a_section(
    lake: duckdb.DuckDBPyConnection,  # noqa: F811
) -> None:
    numbers = read_numbers(lake)
    found = [*sections(numbers, provenance()), *explorer_sections(numbers)]
    assert [section.id for section in found if page_of(section.id) is MORE] == []
    empty = set(PAGES) - set(placed([*found, Section("place-said", "", ())]))
    assert empty == set()


@pytest.mark.parametrize(
    ("section_id", "file"),
    [
        ("positions", "bias.html"),
        ("place-use", "places.html"),
        ("lab-notes-and-users", "bias.html"),
        ("leaderboard-search", "leaderboard.html"),
        ("answer-effect", "answers.html"),
        ("ablation-context", "ablations.html"),
        ("something-new", "more.html"),
    ],
)
def test_a_section_goes_by_what_its_id_begins_with(section_id: str, file: str) -> None:
    assert page_of(section_id).file == file


def test_what_has_no_page_is_not_lost() -> None:
    new = Section("something-new", "New", (Text("seen"),))
    assert placed([new])[MORE] == [new]
    assert MORE not in placed([])


def test_requests_note_by_note_are_told_once() -> None:
    blocks = (
        Heading("Slices", "slices-search"),
        Text("kept"),
        Heading("Some requests", "examples-search"),
        Text("moved"),
        Heading("More", "more-search"),
        Bullets(("kept, too",)),
    )
    kept = without_examples(Section("leaderboard-search", "", blocks)).blocks
    assert kept == (*blocks[:2], *blocks[4:])


def test_pages_link_to_each_other_and_to_nothing_else(site: Path) -> None:
    assert sorted(path.name for path in site.iterdir()) == sorted(FILES)
    for file in FILES:
        html = (site / file).read_text("utf-8")
        page = Page(html)
        assert page.open_tags == []
        assert "Synthetic twin: nothing on this page is a result on Qilin" in page.text
        identifiers = [a["id"] for _, a in page.elements if "id" in a]
        assert len(identifiers) == len(set(identifiers)), file
        links = [a["href"] for tag, a in page.elements if tag == "a"]
        assert set(FILES) <= set(links)
        for link in links:
            if link.startswith("#"):
                assert link[1:] in identifiers, (file, link)
            else:
                assert link in (*FILES, "report.html"), (file, link)
        (current,) = [a for _, a in page.elements if a.get("aria-current") == "page"]
        assert current["href"] == file
        assert bool(page.specs) == ("window.vegaEmbed=" in html), "scripts where there are plots"
        for tag, attributes in page.elements:
            for name in ("src", "href", "action", "poster", "srcset", "xlink:href"):
                assert not re.match(r"\s*(https?:)?//", attributes.get(name, "")), (tag, file)


def test_an_empty_lake_has_its_pages_too(tmp_path: Path) -> None:
    with duckdb.connect() as nothing:
        write_site(nothing, tmp_path, provenance())
    text = Page((tmp_path / HOME).read_text("utf-8")).text
    assert "No requests have been read" in text
    places = Page((tmp_path / "places.html").read_text("utf-8")).text
    assert "The tables of propensity have not been built." in places


def test_estimates_that_failed_their_checks_are_not_drawn() -> None:
    with duckdb.connect() as nothing:
        nothing.execute(RELATIONS)
        nothing.execute(
            "insert into evaluation.checks values ('propensity.by_position', "
            "'estimates_are_positive', 'critical', false, 5, 'why', '5 rows')"
        )
        (section,) = place_sections(nothing, read_numbers(nothing, ["evaluation.checks"]))
    assert section.id == "place-broken"
    (text,) = section.blocks
    assert "the estimates failed estimates_are_positive" in text.text


# What must be read on which page: numbers of the lake, not of the page.
NUMBERS = {
    "index.html": ("1,517", "21.14%", "58.0%"),
    "paper.html": ("57,188", "−0.44"),
    "bias.html": ("59.3%", "Click rate by position"),
    "leaderboard.html": ("0.5613", "0.542–0.580", "27.0%"),
    "requests.html": ("上海 咖啡", "标题|一"),
    "answers.html": ("−0.14 pp", "Answer shown"),
    "ablations.html": ("cover on, against off",),
    "audit.html": ("5 of 21,306", "search 0.790", "the click rate in search went from"),
    "provenance.html": ("5f2c91d0a7b34e61", "2.13.0", "4711"),
}


@pytest.mark.skipif(CHROMIUM is None, reason="PAGES NOT OPENED: no chromium on this machine")
def test_a_browser_opens_every_page_without_a_complaint(site: Path, tmp_path: Path) -> None:
    with browser(tmp_path / "profile") as chromium:
        for file in FILES:
            for width, dark in ((1200, False), (390, True)):
                chromium.open(site / file, width=width, dark=dark)
                text = chromium.ask("document.body.innerText.replace(/\\s+/g, ' ')")
                for number in NUMBERS.get(file, ()):
                    assert number in text, (file, number)
                wider = (
                    "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                assert chromium.ask(wider) == 0, (file, width)
                luminance = _luminance(
                    chromium.ask("getComputedStyle(document.body).backgroundColor")
                )
                assert (luminance < 60) == dark, (file, dark)
        assert chromium.said == []
        outside = [url for url in chromium.asked if not url.startswith(("file:", "data:"))]
        assert outside == [], "the site needs no network"
        _walk_by_keyboard(chromium, site)
        _explore(chromium, site)


def _luminance(colour: str) -> float:
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
    return 0.3 * red + 0.6 * green + 0.1 * blue


def _walk_by_keyboard(chromium: Browser, site: Path) -> None:
    """The first Tab reaches the skip link, which leads to the content; then the pages."""
    chromium.open(site / HOME)
    chromium.press("Tab")
    assert chromium.ask("document.activeElement.className") == "skip"
    chromium.press("Tab")
    assert chromium.ask("document.activeElement.textContent") == "Overview"
    chromium.press("Tab")
    chromium.press("Enter")
    chromium.until("document.title.startsWith('Paper beside ours')")


def _explore(chromium: Browser, site: Path) -> None:
    """The explorer orders the notes of a request by a run."""
    chromium.open(site / "requests.html")
    rows = (
        "[...document.querySelectorAll('[data-explored]:not([hidden]) tbody th')]"
        ".map(title => title.innerText)"
    )
    shown = chromium.ask(rows)
    assert [row.split()[0] for row in shown] == ["标题|一", "另一个"]
    chromium.ask(
        "(() => { const s = document.querySelector('select[data-order]'); s.value = 'bm25'; "
        "s.dispatchEvent(new Event('change')); })()"
    )
    assert chromium.ask(rows) == shown[::-1]


@pytest.mark.skipif(CHROMIUM is None, reason="PAGES NOT OPENED: no chromium on this machine")
def test_an_error_of_a_page_is_heard(tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text("<script>nothing.here()</script>", encoding="utf-8")
    with browser(tmp_path / "profile") as chromium:
        chromium.open(page)
        assert "nothing is not defined" in chromium.said[0]
