"""The numbers of the published log that the twin aims at, at scale 1, each with its source.

Sources: "paper" is arXiv 2503.00501 (tables and figures by number); "files" are counts over the
published files and label lists; "invented" marks values nobody has published.
"""

from dataclasses import dataclass
from typing import Final

# Rows per table (files).
NOTES: Final = 1_983_938
USERS: Final = 15_482
ROWS: Final[dict[str, int]] = {
    "search_train": 44_024,
    "search_test": 6_192,
    "dqa": 6_972,
    "recommendation_train": 83_437,
    "recommendation_test": 11_115,
}
ANSWERS_SHOWN: Final = 2_932  # paper, table 2
TRANSITIONS: Final[dict[str, int]] = {  # paper, table 6
    "S->S": 29_295,
    "R->S": 2_476,
    "R->R": 49_815,
    "S->R": 2_387,
}
# Second request of a transition: clicks, exposures = clicks / click rate (paper, table 6). The
# first requests of sessions are what remains of table 5 after these.
SECOND_CLICKS: Final = {"S->S": 4.0014, "R->S": 3.9782, "R->R": 2.9745, "S->R": 4.4466}
SECOND_CTR: Final = {"S->S": 0.2018, "R->S": 0.2298, "R->R": 0.2320, "S->R": 0.2501}
# Clicks and exposures per request by table (files, table 5). dqa rows are set by what is known
# before an answer is chosen, factual or plain, such that rows with an answer come to 2.50 clicks of
# 12.06 exposures (table 5) and those without to 2.96 (label list) of 14.2 (invented).
STATE_CLICKS: Final = {
    "search_train": 3.975,
    "search_test": 4.457,
    "plain": 2.99,
    "factual": 2.42,
    "recommendation_train": 3.623,
    "recommendation_test": 4.020,
}
STATE_EXPOSURES: Final = {
    "search_train": 19.0,
    "search_test": 20.5,
    "plain": 14.18,
    "factual": 11.83,
    "recommendation_train": 15.05,
    "recommendation_test": 16.43,
}
DEPTH: Final = {"S": 22.75, "R": 18.80, "S-DQA": 23.41, "S+DQA": 10.61}  # paper, table 5
FIRST_CLICK: Final = {"S": 3.01, "R": 4.97, "S-DQA": 3.03, "S+DQA": 2.50}
# Rates given a click (paper, table 5): like, collect, share, comment.
RATES: Final = {
    "S": (0.0411, 0.0187, 0.0057, 0.0032),
    "R": (0.0707, 0.0147, 0.0063, 0.0099),
    "S-DQA": (0.0419, 0.0188, 0.0057, 0.0032),
    "S+DQA": (0.0129, 0.0126, 0.0052, 0.0021),
}
# Query length in characters: up to 3, 4..10, more (paper, table 7): share, click rate, clicks.
LENGTH_SHARE: Final = (0.0032, 0.1364, 0.1394, 0.1727, 0.1407, 0.1242, 0.0954, 0.0689, 0.1191)
LENGTH_CTR: Final = (0.1967, 0.1962, 0.2047, 0.2051, 0.2111, 0.2150, 0.2199, 0.2272, 0.2216)
LENGTH_CLICKS: Final = (2.9892, 4.0276, 3.9303, 4.0338, 3.9446, 3.8180, 3.6971, 3.7497, 3.7010)
# Reformulation of consecutive queries in search-only sessions (paper, table 8).
REFORMULATION_NAMES: Final = ("Add", "Delete", "Change", "Repeat", "Others")
REFORMULATION: Final = (0.1357, 0.0253, 0.4716, 0.0757, 0.2917)
# query_from_type 1..8 (paper, table 9).
SOURCES: Final = (0.3370, 0.5097, 0.0578, 0.0397, 0.0302, 0.0137, 0.0063, 0.0055)
# Click rate by place. Search up to place 12: by shown rank, first 1,000 test requests (files); the
# rest is invented so that the sum agrees with table 5. Feed: place 1 from the labels of figure 3f,
# the rest invented to agree with table 5.
SEARCH_CURVE: Final[dict[int, float]] = {
    1: 0.614,
    2: 0.400,
    3: 0.241,
    4: 0.334,
    5: 0.274,
    6: 0.283,
    7: 0.236,
    8: 0.227,
    9: 0.215,
    10: 0.202,
    12: 0.200,
    15: 0.185,
    20: 0.170,
    30: 0.140,
    40: 0.125,
    80: 0.105,
}
FEED_CURVE: Final[dict[int, float]] = {
    1: 0.467,
    2: 0.367,
    3: 0.311,
    4: 0.288,
    5: 0.273,
    6: 0.202,
    7: 0.265,
    8: 0.259,
    10: 0.248,
    12: 0.238,
    18: 0.218,
    25: 0.200,
    40: 0.180,
    80: 0.166,
}
SEARCH_DIPS: Final = (3,)  # paper, figure 3a
FEED_DIPS: Final = (6, 13, 20, 27)  # figure 3a for 6; users' studies for the others
VIDEO_SHARE: Final = {"S": 0.21, "R": 0.41}  # paper, figures 3c and 3d
# Video share of feed exposures at places 1 to 10 and beyond: the labels of figure 3d put in rising
# order, as its text says; the last value makes the whole 41 %.
FEED_VIDEO: Final = (0.19, 0.21, 0.26, 0.30, 0.44, 0.46, 0.51, 0.51, 0.55, 0.58, 0.445)
WITH_IMAGE: Final = 0.54  # files
BLOCK_EDGES: Final = (0.391, 0.878, 0.9695, 1.0)  # ends of A, B, C, D as shares of the notes
REQUESTS_PER_APP_SESSION: Final = 1.61  # users' studies
GENDER: Final = (("female", 0.7653), ("male", 0.2147), ("unknown", 0.02))  # paper; rest split
PLATFORM: Final = (("iOS", 0.5356), ("Android", 0.3879), ("Harmony", 0.0565), ("unknown", 0.02))
AGE: Final = (  # paper: under 16 3.88 %, 16 to 40 74.5 %, over 40 7.27 %; split inside invented
    *(("1-12", 0.0118), ("13-15", 0.0270), ("16-18", 0.0830), ("19-22", 0.1650)),
    *(("23-25", 0.1400), ("26-30", 0.1720), ("31-35", 0.1250), ("36-40", 0.0600)),
    *(("40+", 0.0727), ("unknown", 0.1235), ("", 0.0200)),
)


@dataclass(frozen=True)
class Sizes:
    """Row counts at one scale; ``firsts`` are first requests of 30-minute sessions."""

    notes: int
    users: int
    rows: dict[str, int]
    shown: int
    transitions: dict[str, int]

    @property
    def searches(self) -> int:
        return self.rows["search_train"] + self.rows["search_test"] + self.rows["dqa"]

    @property
    def feeds(self) -> int:
        return self.rows["recommendation_train"] + self.rows["recommendation_test"]

    @property
    def first_searches(self) -> int:
        return self.searches - self.transitions["S->S"] - self.transitions["R->S"]

    @property
    def first_feeds(self) -> int:
        return self.feeds - self.transitions["R->R"] - self.transitions["S->R"]


def sizes(scale: float) -> Sizes:
    """Row counts at ``scale``, never so small that a table is empty or a list has no notes."""
    rows = {name: max(12, round(count * scale)) for name, count in ROWS.items()}
    searches = rows["search_train"] + rows["search_test"] + rows["dqa"]
    feeds = rows["recommendation_train"] + rows["recommendation_test"]
    all_searches = sum(ROWS[name] for name in ("search_train", "search_test", "dqa"))
    all_feeds = ROWS["recommendation_train"] + ROWS["recommendation_test"]
    of = {"S->S": searches / all_searches, "R->S": searches / all_searches}
    of |= {"R->R": feeds / all_feeds, "S->R": feeds / all_feeds}
    return Sizes(
        notes=max(2_000, round(NOTES * scale)),
        users=max(24, round(USERS * scale)),
        rows=rows,
        shown=max(4, round(rows["dqa"] * ANSWERS_SHOWN / ROWS["dqa"])),
        transitions={name: max(1, round(count * of[name])) for name, count in TRANSITIONS.items()},
    )


# Users by country, of those whose place is known (paper, section 4.1; of whom is an assumption).
COUNTRY_SHARE: Final = {
    "中国": 0.8432,
    "安道尔": 0.0145,
    "澳大利亚": 0.0122,
    "冰岛": 0.0119,
    "马来西亚": 0.0114,
    "elsewhere": 0.1068,
}
