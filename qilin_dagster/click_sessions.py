"""Result lists for the click models, from core tables. Knows no Dagster.

What is left out, because its places are not those the reader saw: requests that returned a note
twice (a page looked at again), that have one position twice (a page with an answer numbered anew),
or an impression without position. A list keeps its cut: requests with an answer stand apart.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.click_models.sessions import BoolArray, IntArray, Sessions, relative_rank

if TYPE_CHECKING:
    import duckdb
    import polars as pl

# The curve to use, by its estimator and the part of the log it is of.
RECOMMENDED = "mixed position-based"
# The curve of the model that also knows of trust.
WITH_TRUST = "position-based with trust"
ALL = "all pages"
# First positions of the places: each place of the first four blocks of seven for itself.
PLACES = (*range(29), 29, 36, 50, 99)
COVARIATES = (
    *("one", "video", "commercial", "unknown_note", "test"),
    *("log_length", "log_length_squared", "first_of_session"),
    *("relative_rank", "relative_rank_squared", "relative_rank_by_length"),
    "relative_rank_by_commercial",
)
ANSWER_SAMPLE = "answer_sample"
MEAN_LOG_LENGTH = 2.5

QUERY = """
select
    i.request_id,
    r.user_idx,
    i."position",
    i.note_idx,
    coalesce(i.is_clicked, false) as is_clicked,
    i.is_repeat,
    coalesce(n.note_type = 2, false) as is_video,
    coalesce(n.is_commercial, false) as is_commercial,
    n.note_idx is null as is_unknown,
    r.split,
    coalesce(r.session_n, 1) = 1 as is_first_of_session,
    coalesce(r.has_answer, false) as has_answer
from core.impressions as i
inner join core.requests as r on i.request_id = r.request_id
left join core.notes as n on i.note_idx = n.note_idx
where i.channel = $channel
order by i.request_id, i.shown_rank
"""


@dataclass(frozen=True)
class Lists:
    """The lists of a channel, ready for the click models, and what goes along with each.

    Attributes:
        sessions: the lists.
        note: (N,), the note of each exposure.
        kind: (N,), notes of one kind at one height of the list: what the tables of the
            position-based model without covariates hold attraction for.
        n_kinds: how many kinds there are.
        has_answer, is_first_of_session: (R,).
        n_left_out: requests that are not among them, by reason.
    """

    sessions: Sessions
    note: IntArray
    kind: IntArray
    n_kinds: int
    has_answer: BoolArray
    is_first_of_session: BoolArray
    n_left_out: dict[str, int]

    def take(self, requests: BoolArray) -> "Lists":
        """Some requests, whole, by a mask (R,)."""
        rows = requests[self.sessions.request]
        return Lists(
            self.sessions.take(requests),
            self.note[rows],
            self.kind[rows],
            self.n_kinds,
            self.has_answer[requests],
            self.is_first_of_session[requests],
            self.n_left_out,
        )


def read_lists(connection: "duckdb.DuckDBPyConnection", channel: str) -> Lists:
    """The lists of a channel; reads core.impressions, core.requests and core.notes."""
    return lists_of(connection.sql(QUERY, params={"channel": channel}).pl())


def lists_of_ranks(table: "pl.DataFrame") -> Lists:
    """The lists of a file with the columns qid, shown_rank, pid and click, and no more.

    The rank is taken for the position, users for as many as requests, and nothing is known of the
    notes: a curve from such lists rests on their lengths alone.
    """
    import polars as pl

    return lists_of(
        table.sort("qid", "shown_rank").select(
            request_id="qid",
            user_idx="qid",
            position="shown_rank",
            note_idx="pid",
            is_clicked=pl.col("click") > 0,
            is_repeat=pl.lit(False),
            is_video=pl.lit(False),
            is_commercial=pl.lit(False),
            is_unknown=pl.lit(False),
            split=pl.lit("test"),
            is_first_of_session=pl.lit(False),
            has_answer=pl.lit(False),
        )
    )


def lists_of(table: "pl.DataFrame") -> Lists:
    """The lists of exposures with the columns of QUERY, in its order."""
    request = table["request_id"].to_numpy()
    ids, index = np.unique(request, return_inverse=True)
    position = table["position"].fill_null(-1).to_numpy().astype(np.int64)
    same = np.zeros(len(request), dtype=bool)
    same[1:] = (request[1:] == request[:-1]) & (position[1:] == position[:-1])
    unfit = np.zeros(len(ids), dtype=bool)
    n_left_out = {}
    for reason, rows in (
        ("a position is missing", position < 0),
        ("a note was returned twice", table["is_repeat"].to_numpy()),
        ("a position stands twice", same),
    ):
        found = np.bincount(index, rows, minlength=len(ids)) > 0
        n_left_out[reason] = int((found & ~unfit).sum())
        unfit |= found
    kept = ~unfit[index]
    table, position = table.filter(kept), position[kept]
    ids, starts, index = np.unique(
        table["request_id"].to_numpy(), return_index=True, return_inverse=True
    )
    offsets = np.append(starts, len(table)).astype(np.int64)
    firsts = table[starts]
    is_video, is_commercial = table["is_video"].to_numpy(), table["is_commercial"].to_numpy()
    length = np.diff(offsets)[index]
    height = _height(offsets, index, is_video)
    log_length = np.log(length) - MEAN_LOG_LENGTH
    split = firsts["split"].to_numpy()
    names: tuple[str, ...] = COVARIATES
    columns = {
        "one": np.ones(len(table)),
        "video": is_video,
        "commercial": is_commercial,
        "unknown_note": table["is_unknown"].to_numpy(),
        "test": (split == "test")[index],
        "log_length": log_length,
        "log_length_squared": log_length**2,
        "first_of_session": firsts["is_first_of_session"].to_numpy()[index],
        "relative_rank": height,
        "relative_rank_squared": height**2 - 1,
        "relative_rank_by_length": height * log_length,
        "relative_rank_by_commercial": height * is_commercial,
    }
    if (split == "dqa").any():
        names = (*names, ANSWER_SAMPLE)
        columns[ANSWER_SAMPLE] = (split == "dqa")[index]
    # A column that is 0 everywhere, such as unknown notes where all are known, tells nothing.
    names = tuple(name for name in names if len(table) == 0 or np.any(columns[name]))
    sessions = Sessions(
        offsets=offsets,
        place=np.searchsorted(PLACES, position, side="right") - 1,
        is_clicked=table["is_clicked"].to_numpy(),
        covariates=np.stack([columns[name] for name in names], axis=1).astype(np.float64),
        # The answer sample is published with and without clicks.
        is_selected=_has_click(table["is_clicked"].to_numpy(), index, len(ids)) & (split != "dqa"),
        user=firsts["user_idx"].to_numpy(),
        place_names=tuple(str(place) for place in PLACES),
        covariate_names=names,
        reference=1,
    )
    kind, n_kinds = _kinds(height, length, is_video, is_commercial)
    return Lists(
        sessions,
        table["note_idx"].to_numpy(),
        kind,
        n_kinds,
        firsts["has_answer"].to_numpy(),
        firsts["is_first_of_session"].to_numpy(),
        n_left_out,
    )


def _has_click(is_clicked: BoolArray, index: IntArray, n_requests: int) -> BoolArray:
    """A request without a click outside the answer sample is there for another reason."""
    return np.asarray(np.bincount(index, is_clicked, minlength=n_requests) > 0)


def _height(offsets: IntArray, index: IntArray, is_video: BoolArray) -> "np.ndarray":
    """The relative rank of each exposure among those of its form (the app mixes two rankings)."""
    rank = np.arange(len(index)) - offsets[index] + 1
    videos = np.cumsum(is_video)
    before = (videos - is_video)[offsets[:-1]] if len(offsets) > 1 else np.zeros(0, dtype=int)
    video_rank = videos - before[index]
    n_videos = np.bincount(index, is_video, minlength=len(offsets) - 1).astype(np.int64)[index]
    n = np.diff(offsets)[index]
    return relative_rank(
        np.where(is_video, video_rank, rank - video_rank),
        np.where(is_video, n_videos, n - n_videos),
    )


def _kinds(
    height: "np.ndarray", length: IntArray, is_video: BoolArray, is_commercial: BoolArray
) -> tuple[IntArray, int]:
    """Kinds of exposures: ten heights, five lengths of the list, form, commercial or not."""
    edges = np.quantile(height, np.linspace(0, 1, 11)[1:-1]) if len(height) else np.zeros(9)
    tenth, size = np.digitize(height, edges), np.digitize(length, [6, 12, 24, 48])
    return ((tenth * 5 + size) * 2 + is_video) * 2 + is_commercial, 200
