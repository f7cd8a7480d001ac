"""What the report is made of: blocks of a section, and numbers as text. Knows no DuckDB."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
NOTHING = "–"
CHANNELS = ("search", "recommendation")
CHANNEL_LABELS = {"search": "Search", "recommendation": "Recommendation"}
TRANSITION_LABELS = {
    "S->S": "Search → search",
    "R->S": "Recommendation → search",
    "R->R": "Recommendation → recommendation",
    "S->R": "Search → recommendation",
}
# In the order of the report: counts last, as in the paper.
MEASURE_LABELS = {
    "browsing_depth_mean": "Browsing depth, mean",
    "first_click_position_mean": "First clicked position, mean",
    "clicks_per_request": "Clicks per request",
    "click_rate": "Click rate",
    "like_rate": "Like rate, of clicks",
    "collect_rate": "Collect rate, of clicks",
    "share_rate": "Share rate, of clicks",
    "comment_rate": "Comment rate, of clicks",
    "transition_share": "Share of transitions",
    "request_share": "Share of searches",
    "user_share": "Share of users",
    "known_user_share": "Share of users with a known place",
    "video_share": "Share of video",
    "n_entities": "Number",
    "n_requests": "Requests",
    "n_transitions": "Transitions",
}
RUN_LABELS = {
    "random": "Random order",
    "display_order": "Display order",
    "reverse_display_order": "Reverse display order",
    "popularity": "Popularity in train",
    "id_block_rule": "Id-block rule (leak)",
    "oracle": "Oracle",
    "bm25": "BM25",
    "bi_encoder": "Bi-encoder",
    "cross_encoder": "Cross-encoder",
    "dcn_v2": "DCN-V2",
    "dcn_v2_ips": "DCN-V2, inverse propensities",
    "dcn_v2_doubly_robust": "DCN-V2, doubly robust",
    "dcn_v2_affine": "DCN-V2, clicks less trust",
    "dcn_v2_position_input": "DCN-V2, place in training only",
    "dcn_v2_with_ids": "DCN-V2 with note ids",
    "dcn_v2_without_ids": "DCN-V2 without note ids",
    "vlm": "Vision-language",
}
HEADLINE_METRIC = "mrr@10"
METRIC_LABELS = {
    "mrr": "MRR",
    "map": "MAP",
    "map_r": "MAP/R",
    "ndcg": "NDCG",
    "recall": "Recall",
    "precision": "Precision",
    "auc": "AUC",
    "gauc": "GAUC",
    "log_loss": "Log loss",
}
METRIC_ORDER = (
    *("mrr@10", "map@10", "ndcg@10", "recall@10", "precision@10", "auc", "gauc"),
    *("mrr@100", "map@100", "map_r@10", "map_r@100", "ndcg@100", "recall@100", "precision@100"),
)


@dataclass(frozen=True)
class Text:
    """A paragraph; tone 'missing' says that numbers are absent, 'note' is an aside."""

    text: str
    tone: str = ""
    kind: str = field(default="text", init=False)


@dataclass(frozen=True)
class Heading:
    text: str
    id: str
    kind: str = field(default="heading", init=False)


@dataclass(frozen=True)
class Bullets:
    items: tuple[str, ...]
    kind: str = field(default="bullets", init=False)


@dataclass(frozen=True)
class Column:
    title: str
    is_number: bool = True
    group: str = ""


@dataclass(frozen=True)
class Cell:
    """One table cell: the value, a small second line, and a bar of that share of its width.

    ``id`` makes it the target of links; ``image`` is a data address of a picture to stand beside.
    """

    text: str
    detail: str = ""
    bar: float | None = None
    tone: str = ""
    id: str = ""
    image: str = ""


@dataclass(frozen=True)
class Table:
    id: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    folded: str = ""  # the summary line under which the table is folded away, if any
    # The place of each row in orders that a reader may choose in an Explorer, by the order's name.
    orders: tuple[dict[str, int | None], ...] = ()
    kind: str = field(default="table", init=False)

    @property
    def column_groups(self) -> list[tuple[str, int]]:
        """(title, width) of the upper head line; empty when no column is in a group."""
        groups: list[tuple[str, int]] = []
        for column in self.columns:
            if groups and column.group and groups[-1][0] == column.group:
                groups[-1] = (column.group, groups[-1][1] + 1)
            else:
                groups.append((column.group, 1))
        return groups if any(name for name, _ in groups) else []


@dataclass(frozen=True)
class Chart:
    id: str
    caption: str
    description: str  # for those who do not see it
    spec: dict[str, Any]
    metrics: tuple[str, ...] = ()  # offered in a menu that sets the chart's parameter `metric`
    kind: str = field(default="chart", init=False)


@dataclass(frozen=True)
class Explored:
    """One of the tables of an Explorer: what the menu calls it, and a line above it."""

    label: str
    lead: str
    table: Table


@dataclass(frozen=True)
class Explorer:
    """Tables of which one is shown at a time, in an order chosen of ``orders``: (name, title).

    Without a script all of them are shown.
    """

    id: str
    shown: tuple[Explored, ...]
    orders: tuple[tuple[str, str], ...]
    kind: str = field(default="explorer", init=False)


@dataclass(frozen=True)
class Card:
    """A link to a page, with what it answers and how much there is on it."""

    file: str
    title: str
    text: str
    holds: str


@dataclass(frozen=True)
class Cards:
    cards: tuple[Card, ...]
    kind: str = field(default="cards", init=False)


Block = Text | Heading | Bullets | Table | Chart | Explorer | Cards


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Relation:
    """Rows of one relation of the lake, or the reason why there are none."""

    name: str
    rows: tuple[Row, ...] = ()
    why_empty: str = ""
    is_built: bool = True


Numbers = dict[str, Relation]


def missing(relation: Relation) -> Text:
    return Text(f"Nothing to show here yet. {relation.why_empty}", tone="missing")


def is_number(value: Any) -> bool:
    return value is not None and not math.isnan(float(value))


def count(value: Any) -> str:
    return f"{int(value):,}" if is_number(value) else NOTHING


def number(value: Any, digits: int = 2) -> str:
    return f"{float(value):,.{digits}f}".replace("-", "−") if is_number(value) else NOTHING


def percent(value: Any, digits: int = 1) -> str:
    return f"{number(100 * float(value), digits)}%" if is_number(value) else NOTHING


def signed(text: str) -> str:
    """With its sign, except nothing and zero."""
    return text if text.startswith(("−", NOTHING)) or not text.strip("0.% p") else f"+{text}"


def p_value(value: Any) -> str:
    return "< 0.001" if is_number(value) and value < 0.001 else number(value, 3)


def measured(measure: str, value: Any) -> str:
    """A measure in its own unit: counts whole, shares in percent, means with two digits."""
    if measure.startswith("n_"):
        return count(value)
    if measure.endswith(("_rate", "_share")):
        return percent(value, 2)
    return number(value)


def difference_text(measure: str, value: Any) -> str:
    """In the measure's unit; none between counts, which only say how large two samples are."""
    if measure.startswith("n_"):
        return NOTHING
    if measure.endswith(("_rate", "_share")):
        return signed(f"{number(100 * float(value))} pp") if is_number(value) else NOTHING
    return signed(number(value))


def interval(low: Any, high: Any, joint: str = " to ") -> str:
    if not (is_number(low) and is_number(high)):
        return ""
    return f"{number(low, 3)}{joint}{number(high, 3)}"


def percent_interval(low: Any, high: Any) -> str:
    if not (is_number(low) and is_number(high)):
        return ""
    return f"{number(100 * float(low), 1)} to {percent(high)}"


def slug(text: str) -> str:
    """The text as an anchor of the page."""
    return "".join(c if c.isalnum() else "-" for c in text.lower())


def cut_label(cut: str) -> str:
    """A group of a table in words."""
    return TRANSITION_LABELS.get(cut, cut[:1].upper() + cut[1:])


def channel_label(channel: str) -> str:
    return CHANNEL_LABELS.get(channel, channel)


def run_label(run: str) -> str:
    return RUN_LABELS.get(run, run)


def bin_label(value: int) -> str:
    return ">10" if value == 11 else str(value)


def metric_label(metric: str) -> str:
    name, at, depth = metric.partition("@")
    return f"{METRIC_LABELS.get(name, name)}{at}{depth}"


def metric_order(metric: str) -> tuple[int, str]:
    known = metric in METRIC_ORDER
    return (METRIC_ORDER.index(metric) if known else len(METRIC_ORDER), metric)
