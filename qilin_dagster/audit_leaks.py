"""Audit checks for leaks: what in the data knows the click before it happens.

An AUC is the chance that a clicked impression has the higher value than one that is not clicked:
0.5 knows nothing. Missing values count as the lowest. Ties count half.

Rows are counted once by note, by request and by user, in parts; every column is then judged on
those counts.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from qilin_dagster.audit_model import (
    CANDIDATE_LISTS,
    COLUMNS,
    IDS,
    LOG_TABLES,
    ORDER,
    Findings,
    percent,
)
from qilin_dagster.sources.layout import NOTE_COUNTERS, USER_DENSE

if TYPE_CHECKING:
    import duckdb
    import numpy as np

# Each task is learnt on one part and judged on another; the answer sample has no test of its own
# and is cut by even and odd rows.
PARTS = (
    *("search_train", "search_test", "recommendation_train", "recommendation_test"),
    *("dqa", "dqa"),
)
TASKS = {"search": (0, 1), "feed": (2, 3), "dqa": (4, 5)}
N_RANGES = 400
# A block narrower than this many ranges is chance, not numbering.
NARROWEST_BLOCK = 8
NOTE_NUMBERS = (
    *("note_type", "video_duration", "video_height", "video_width", "image_num"),
    *("content_length", "commercial_flag"),
)
NOTE_TEXTS = ("taxonomy1_id", "taxonomy2_id", "taxonomy3_id")
USER_NUMBERS = ("user_idx", "fans_num", "follows_num", *USER_DENSE)
USER_TEXTS = ("gender", "platform", "age", "location")
REQUEST_NUMBERS = ("published_idx", "app_session_idx", "row_number", "n_history")
# What follows a click, and the sign of it in core.impressions.
OUTCOMES = {
    "page_time": "dwell_s is not null",
    "like": "coalesce(is_liked, false)",
    "collect": "coalesce(is_collected, false)",
    "comment": "coalesce(is_commented, false)",
    "share": "coalesce(is_shared, false)",
}


def auc(n: "np.ndarray", n_clicked: "np.ndarray") -> float | None:
    """AUC from counts by value, lowest value first; None when there is nothing to tell apart."""
    not_clicked = n - n_clicked
    pairs = float(n_clicked.sum()) * float(not_clicked.sum())
    if not pairs:
        return None
    below = not_clicked.cumsum() - not_clicked
    return float((n_clicked * (below + not_clicked / 2)).sum() / pairs)


@dataclass(frozen=True)
class Counts:
    """Impressions and clicks by value of a column; arrays of shape (parts, values)."""

    n: "np.ndarray"
    n_clicked: "np.ndarray"

    def learnt_auc(self, task: str) -> float | None:
        """AUC on the judged part of the click rate by value, learnt on the other part."""
        learnt, judged = TASKS[task]
        n, n_clicked = self.n[learnt], self.n_clicked[learnt]
        mean = n_clicked.sum() / max(n.sum(), 1)
        # Twenty impressions at the mean rate: a value seen once says little.
        rate = (n_clicked + 20 * mean) / (n + 20)
        order = rate.argsort(kind="stable")
        # Values of one rate are one: what was learnt does not tell them apart.
        ends = (rate[order][1:] != rate[order][:-1]).nonzero()[0]
        starts = [0, *(ends + 1).tolist()] if len(rate) else []
        return auc(
            _sums(self.n[judged][order], starts), _sums(self.n_clicked[judged][order], starts)
        )


def _sums(values: "np.ndarray", starts: list[int]) -> "np.ndarray":
    import numpy as np

    return np.add.reduceat(values, starts) if starts else values


def check_leaks(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    """All leak checks; needs the tables of audit.py: ``asked``, ``exposures``, ``lists``."""
    _prepare(connection)
    clicks = {
        task: min(n_clicked, n - n_clicked)
        for task, (n, n_clicked) in _by_task(connection, ("n", "n_clicked")).items()
    }
    users = dict(
        zip(
            TASKS,
            connection.execute(
                "select " + ", ".join(f"count_if(n_{t} > 0)" for t in TASKS) + " from user_values"
            ).fetchall()[0],
            strict=True,
        )
    )
    has_blocks = _note_ids(connection, found, clicks)
    _counters_grow(connection, found)
    _columns(connection, found, clicks, users, has_blocks)
    _outcomes(connection, found, clicks)
    _orders(connection, found)
    _candidate_lists(connection, found)
    _history_in_request(connection, found, clicks, users)
    _history_of_clicks(connection, found)


def _prepare(connection: "duckdb.DuckDBPyConnection") -> None:
    """Columns beside the counts they are judged by: a row per note, per request, per user."""
    of_notes = ", ".join(
        f"count_if(part = {p})::int as n{p}, count_if(part = {p} and is_clicked)::int as c{p}"
        for p in range(len(PARTS))
    )
    of_requests = ", ".join(
        f"sum(case when l.part = {p} then l.n else 0 end)::int as n{p},"
        f" sum(case when l.part = {p} then l.n_clicked else 0 end)::int as c{p}"
        for p in range(len(PARTS))
    )
    by_task = ", ".join(
        f"n{a} + n{b} as n_{task}, c{a} + c{b} as c_{task}" for task, (a, b) in TASKS.items()
    )
    columns = ", ".join(f"o.{c}" for c in (*NOTE_COUNTERS, *NOTE_NUMBERS, *NOTE_TEXTS))
    for statement in (
        f"""
        create or replace temp table note_clicks as
        select note_idx, {of_notes} from exposures group by note_idx
        """,
        f"""
        create or replace temp table note_values as
        select c.*, {by_task}, o.note_idx is not null as is_known, {columns}
        from note_clicks as c left join published.notes as o on c.note_idx = o.note_idx
        """,
        f"""
        create or replace temp table request_values as
        with counted as (
            select l.request_id, {of_requests} from lists as l group by l.request_id
        )
        select c.*, {by_task}, a.published_idx, a.app_session_idx, a.row_number, a.query_source,
            len(a.history_list) as n_history
        from counted as c inner join asked as a on c.request_id = a.request_id
        """,
        f"""
        create or replace temp table user_values as
        with counted as (
            select a.user_idx, {of_requests}
            from lists as l inner join asked as a on l.request_id = a.request_id
            group by a.user_idx
        )
        select c.*, {by_task}, u.* exclude (user_idx)
        from counted as c left join published.user_feat as u on c.user_idx = u.user_idx
        """,
    ):
        connection.execute(statement)


def _by_task(
    connection: "duckdb.DuckDBPyConnection", columns: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """Sums of columns of ``lists`` by task."""
    rows = connection.execute(
        f"""
        select (part // 2)::int as task, {", ".join(f"sum({c})::bigint" for c in columns)}
        from lists group by task order by task
        """
    ).fetchall()
    names = list(TASKS)
    return {names[task]: tuple(sums) for task, *sums in rows}


def _counts(connection: "duckdb.DuckDBPyConnection", relation: str, column: str) -> Counts:
    import numpy as np

    sums = ", ".join(f"sum(n{p})::double as n{p}, sum(c{p})::double as c{p}" for p in _parts())
    rows = connection.execute(
        f"select {sums} from {relation} group by {column} order by {column} nulls first"
    ).fetchnumpy()
    return Counts(
        np.stack([np.asarray(rows[f"n{p}"]) for p in _parts()]),
        np.stack([np.asarray(rows[f"c{p}"]) for p in _parts()]),
    )


def _parts() -> range:
    return range(len(PARTS))


def _raw_aucs(
    connection: "duckdb.DuckDBPyConnection", relation: str, column: str
) -> dict[str, float | None]:
    import numpy as np

    sums = ", ".join(f"sum(n_{t})::double as n_{t}, sum(c_{t})::double as c_{t}" for t in TASKS)
    rows = connection.execute(
        f"""
        select coalesce(case when not isnan({column}::double) then {column}::double end,
                '-inf'::double) as value, {sums}
        from {relation} group by value
        """
    ).fetchnumpy()
    order = np.asarray(rows["value"]).argsort(kind="stable")
    return {
        t: auc(np.asarray(rows[f"n_{t}"])[order], np.asarray(rows[f"c_{t}"])[order]) for t in TASKS
    }


def _note_ids(
    connection: "duckdb.DuckDBPyConnection", found: Findings, clicks: dict[str, int]
) -> bool:
    """The id as a predictor, blocks of ids, and counters against them; True with blocks."""
    import numpy as np

    # A few absurd ids must not squeeze all others together: the last range takes what is above.
    (n_ids,) = connection.execute(
        "select greatest(coalesce(quantile_disc(note_idx, 0.99), 0) + 1, 1) from note_clicks"
    ).fetchall()[0]
    id_range = f"greatest(least(note_idx * {N_RANGES} // {n_ids}, {N_RANGES - 1}), 0)"
    by_range = _counts(connection, "note_clicks", id_range)
    ranges = [
        row[0]
        for row in connection.execute(
            f"select {id_range} as r from note_clicks group by r order by r nulls first"
        ).fetchall()
    ]
    for task in TASKS:
        _judge_auc(
            found,
            IDS,
            f"id_block_rule.{task}",
            {task: by_range.learnt_auc(task)},
            clicks,
            found.number("bounds", "auc_id_block"),
            chance=_chance(clicks.get(task, 0) // 2),
            about=f"Does the note's number alone tell the clicks of {task}? Each of {N_RANGES} "
            "ranges of note_idx is scored by its click rate, learnt on "
            + (
                "one half of the rows and judged on the other."
                if task == "dqa"
                else "train, judged on test."
            ),
            how="AUC",
            advice="The note number tells which notes were clicked. Never give note_idx, or "
            "anything ordered by it, to a model: use the permuted note_key of core.notes, and "
            "print this rule beside every model as an anchor.",
        )
    n, n_clicked = np.zeros((len(PARTS), N_RANGES)), np.zeros((len(PARTS), N_RANGES))
    for column, place in enumerate(ranges):
        if place is not None:
            n[:, place], n_clicked[:, place] = by_range.n[:, column], by_range.n_clicked[:, column]
    blocks = _blocks(n.sum(axis=0), n_clicked.sum(axis=0))
    has_blocks = _judge_blocks(found, blocks, n_ids, n, n_clicked)
    _counters_against_blocks(connection, found, blocks if has_blocks else [], id_range)
    return has_blocks


def _blocks(n: "np.ndarray", n_clicked: "np.ndarray") -> list[tuple[int, int, bool]]:
    """Runs of poor and rich id ranges: (first, last + 1, is rich)."""
    import numpy as np

    window = np.ones(5)
    rate = np.convolve(n_clicked, window, "same") / np.maximum(np.convolve(n, window, "same"), 1)
    is_rich = rate > n_clicked.sum() / max(n.sum(), 1) / 2
    edges = [0, *(np.flatnonzero(np.diff(is_rich)) + 1).tolist(), N_RANGES]
    blocks: list[tuple[int, int, bool]] = []
    for first, last in pairwise(edges):
        rich = bool(is_rich[first])
        if blocks and (last - first < NARROWEST_BLOCK or blocks[-1][2] == rich):
            blocks[-1] = (blocks[-1][0], last, blocks[-1][2])
        else:
            blocks.append((first, last, rich))
    return blocks


def _judge_blocks(
    found: Findings,
    blocks: list[tuple[int, int, bool]],
    n_ids: int,
    n: "np.ndarray",
    n_clicked: "np.ndarray",
) -> bool:
    most = found.number("bounds", "block_rate_ratio")

    def ratio(parts: list[int]) -> float | None:
        """Click rate of the poor blocks divided by that of the rich; None where one is empty."""
        sums = {True: [0.0, 0.0], False: [0.0, 0.0]}
        for first, last, rich in blocks:
            sums[rich][0] += n[parts, first:last].sum()
            sums[rich][1] += n_clicked[parts, first:last].sum()
        if min(sums[True][0], sums[False][0]) < 0.02 * n[parts].sum() or not sums[True][1]:
            return None
        return (sums[False][1] / sums[False][0]) / (sums[True][1] / sums[True][0])

    def is_leak(parts: list[int]) -> bool:
        value = ratio(parts)
        return value is not None and value < most

    enough = n_clicked.sum() >= found.number("judge", "min_clicks")
    has_blocks = bool(enough and is_leak(list(_parts())))
    for table in LOG_TABLES:
        parts = [part for part, of in enumerate(PARTS) if of == table]
        seen, clicked = n[parts].sum(), n_clicked[parts].sum()
        words = [
            f"from {first * n_ids // N_RANGES:,} on: "
            + percent(n_clicked[parts, first:last].sum() / max(n[parts, first:last].sum(), 1))
            for first, last, _ in blocks
        ]
        few = clicked < found.number("judge", "min_clicks")
        found.add(
            IDS,
            f"click_rate_by_id_block.{table}",
            about=f"Is the click rate of {table} the same over all of note_idx? Neighbouring "
            "ranges of alike rate are put together into blocks, over all tables.",
            expected=f"no block of ids clicked less than {most:g} times as often as the rest",
            measured=f"only {clicked:,.0f} clicks, too few to tell"
            if few
            else "; ".join(words)
            if has_blocks
            else f"no blocks stand out from {percent(clicked / max(seen, 1))}",
            value=ratio(parts) if has_blocks and not few else None,
            is_good=None if few else not (has_blocks and is_leak(parts)),
            advice="Notes are numbered in blocks by whether they were clicked. Sort, shard, hash "
            "and split by note_key, never by note_idx; negatives drawn at random over ids come "
            "half from blocks nobody clicks and are too easy.",
        )
    return has_blocks


def _counters_against_blocks(
    connection: "duckdb.DuckDBPyConnection",
    found: Findings,
    blocks: list[tuple[int, int, bool]],
    id_range: str,
) -> None:
    import numpy as np

    bad: list[tuple[float, str]] = []
    largest = None
    bound = found.number("bounds", "counter_zero_difference")
    if blocks:
        zeros = ", ".join(f"count_if({c} = 0), count({c})" for c in NOTE_COUNTERS)
        is_rich = [rich for first, last, rich in blocks for _ in range(first, last)]
        # Of each counter, zeros and known values, in the poor and in the rich ranges.
        sums = np.zeros((2, 2 * len(NOTE_COUNTERS)))
        for place, *counts in connection.execute(
            f"select {id_range} as r, {zeros} from published.notes"
            " where note_idx is not null group by r"
        ).fetchall():
            sums[int(is_rich[place])] += counts
        shares = sums[:, 0::2] / np.maximum(sums[:, 1::2], 1)
        differences = sorted(zip(abs(shares[1] - shares[0]), NOTE_COUNTERS, strict=True))[::-1]
        largest = float(differences[0][0])
        bad = [(d, c) for d, c in differences if d > bound]
    found.add(
        IDS,
        "counters_against_id_blocks",
        about="Are the notes' counters 0 just where the id blocks say never clicked?",
        expected=f"zeros as frequent in poor as in rich id blocks, within {bound:.2f}",
        measured=f"{len(bad)} of {len(NOTE_COUNTERS)} counters differ"
        + (": " + ", ".join(f"{c} by {d:.2f}" for d, c in bad) if bad else "")
        if blocks
        else "there are no id blocks to compare",
        value=largest,
        is_good=not bad if blocks else None,
        advice="These counters are 0 where the id block says never clicked: they carry the same "
        "leak as the ids. Keep them out of features.",
    )


def _counters_grow(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    """Do counters hold the clicks of this log? Asked of notes, each shown once: how often a note is
    shown then explains nothing."""
    import numpy as np

    bound = found.number("bounds", "auc_counter_of_note")
    # Feed counters are left to the check against the id blocks, whose zeros they follow.
    whole = [c for c in NOTE_COUNTERS if c.startswith(("imp_", "click_"))]
    n_shown, n_clicked = (" + ".join(f"{kind}_{task}" for task in TASKS) for kind in ("n", "c"))
    values: dict[str, float] = {}
    fewest = 0
    for counter in whole:
        rows = connection.execute(
            f"""
            select count(*)::double as n, sum({n_clicked})::double as c from note_values
            where {n_shown} = 1 group by {counter} order by {counter} nulls first
            """
        ).fetchnumpy()
        n, c = np.asarray(rows["n"]), np.asarray(rows["c"])
        fewest = int(min(c.sum(), n.sum() - c.sum()))
        value = auc(n, c)
        if value is not None:
            values[counter] = value
    enough = fewest >= found.number("judge", "min_clicks")
    limit = bound + found.number("judge", "n_standard_errors") * _chance(fewest)
    bad = [c for c, value in values.items() if abs(value - 0.5) > limit]
    found.add(
        IDS,
        "counters_grow_with_clicks",
        about="Do the notes' impression and click counters hold the clicks of this very log? "
        "Asked of notes that it shows once, clicked or not.",
        expected=f"AUC of each counter within {bound:.2f} of 0.5",
        measured=", ".join(f"{c} {v:.3f}" for c, v in values.items())
        if enough
        else "too few clicks to tell",
        value=max(values.values(), key=lambda v: abs(v - 0.5)) if enough else None,
        is_good=not bad if enough else None,
        advice=f"{', '.join(bad)}: taken after this log, so they hold the very clicks to be "
        "predicted. Keep them out of features, or take counters from before the log day.",
    )


def _columns(
    connection: "duckdb.DuckDBPyConnection",
    found: Findings,
    clicks: dict[str, int],
    users: dict[str, int],
    has_blocks: bool,
) -> None:
    bound = found.number("bounds", "auc_column")
    groups = (
        ("notes", "note_values", NOTE_COUNTERS, False, clicks),
        ("notes", "note_values", NOTE_NUMBERS, False, clicks),
        ("notes", "note_values", NOTE_TEXTS, True, clicks),
        # A user's column is the same for all their impressions: users count, not impressions.
        ("user_feat", "user_values", USER_NUMBERS, False, users),
        ("user_feat", "user_values", USER_TEXTS, True, users),
        ("requests", "request_values", REQUEST_NUMBERS, False, users),
        ("requests", "request_values", ("query_source",), True, users),
    )
    for table, relation, columns, is_text, units in groups:
        fewest = min(units.values(), default=0)
        for column in columns:
            if is_text:
                counts = _counts(connection, relation, column)
                values = {task: counts.learnt_auc(task) for task in TASKS}
            else:
                values = _raw_aucs(connection, relation, column)
            _judge_auc(
                found,
                COLUMNS,
                f"auc.{table}.{column}",
                values,
                clicks,
                bound,
                chance=_chance(fewest // 2),
                about=f"Does {column} of {table} alone tell clicked impressions from the others?",
                how="AUC of its click rate, learnt on train," if is_text else "AUC",
                advice="This counter alone tells clicked from unclicked impressions: it counts the "
                "clicks of this log"
                + (", or follows the id blocks" if has_blocks else "")
                + ". Do not use it as a feature."
                if column in NOTE_COUNTERS
                else "One column alone tells clicked from unclicked impressions. Find out when it "
                "was written; keep it out of features until you know.",
            )


def _judge_auc(
    found: Findings,
    subject: str,
    name: str,
    values: dict[str, float | None],
    clicks: dict[str, int],
    bound: float,
    *,
    chance: float,
    about: str,
    how: str,
    advice: str,
) -> None:
    judged = {
        task: value
        for task, value in values.items()
        if value is not None and clicks.get(task, 0) >= found.number("judge", "min_clicks")
    }
    margin = found.number("judge", "n_standard_errors") * chance
    found.add(
        subject,
        name,
        about=about,
        expected=f"{how} within {bound:.2f} of 0.5",
        measured=", ".join(f"{task} {value:.3f}" for task, value in judged.items())
        or "too few clicks to tell",
        value=max(judged.values(), key=lambda v: abs(v - 0.5)) if judged else None,
        is_good=all(abs(value - 0.5) <= bound + margin for value in judged.values())
        if judged
        else None,
        advice=advice,
    )


def _chance(n_each: int) -> float:
    """Standard error of an AUC of n clicked and n other independent rows that knows nothing."""
    return math.sqrt(1 / (6 * n_each)) if n_each else 0.5


def _outcomes(
    connection: "duckdb.DuckDBPyConnection", found: Findings, clicks: dict[str, int]
) -> None:
    names = [f"n_{o}{suffix}" for o in OUTCOMES for suffix in ("", "_clicked")]
    sums = _by_task(connection, ("n", "n_clicked", *names))
    for i, outcome in enumerate(OUTCOMES):
        values = {}
        for task, (n, n_clicked, *rest) in sums.items():
            n_with, n_with_clicked = rest[2 * i : 2 * i + 2]
            if clicks[task] >= found.number("judge", "min_clicks"):
                values[task] = (
                    0.5
                    + (n_with_clicked / n_clicked - (n_with - n_with_clicked) / (n - n_clicked)) / 2
                )
        found.add(
            COLUMNS,
            f"auc.impressions.{outcome}",
            about=f"How well does {outcome}, which happens after a click, tell the click?",
            expected="close to 1 where the click makes it: an outcome, never a feature",
            measured=", ".join(f"{task} {value:.3f}" for task, value in values.items())
            or "too few clicks to tell",
            value=max(values.values(), default=None),
            is_good=None,
            advice="",
        )


def _orders(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    bound = found.number("bounds", "auc_order")
    # Of a request's pairs (clicked, not clicked), how many have the clicked one first: the places
    # after each clicked one, less those taken by the clicked ones themselves.
    rows = connection.execute(
        """
        select source_table,
            sum(n_clicked * n - sum_rank - n_clicked * (n_clicked - 1) / 2)
                / nullif(sum(n_clicked * (n - n_clicked)), 0) as by_display,
            sum(n_clicked * n_entries - sum_entry - n_clicked * (n_clicked - 1) / 2)
                / nullif(sum(n_clicked * (n_entries - n_clicked)), 0) as by_entry,
            sum(n_clicked), sum(n_straight) filter (where n_same_place = 0),
            sum(n_straight_later) filter (where n_same_place = 0),
            sum(n_swapped) filter (where n_same_place = 0),
            sum(n_swapped_later) filter (where n_same_place = 0)
        from lists group by source_table order by source_table
        """
    ).fetchall()
    for table, by_display, by_entry, n_clicked, *pairs in rows:
        n_straight, n_straight_later, n_swapped, n_swapped_later = (int(n or 0) for n in pairs)
        few = by_display is None or n_clicked < found.number("judge", "min_clicks")
        found.add(
            ORDER,
            f"display_order.{table}",
            about=f"How well does the displayed place in the request tell the clicks of {table}?",
            expected="over 0.5: earlier places are clicked more (position bias), a fact, no leak",
            measured="too few clicks to tell" if few else f"AUC in the request {by_display:.3f}",
            value=None if few else by_display,
            is_good=None,
            advice="",
        )
        enough = min(n_straight, n_swapped) >= 30
        # Both kinds weigh the same, so that position bias alone gives exactly one half.
        score = (n_straight_later / n_straight + n_swapped_later / n_swapped) / 2 if enough else 0.5
        chance = (
            math.sqrt(1 / n_straight + 1 / n_swapped)
            / 4
            * found.number("judge", "n_standard_errors")
            if enough
            else 0.0
        )
        in_order = "" if few else f"; AUC of the entry number {by_entry:.3f}"
        found.add(
            ORDER,
            f"list_order.{table}",
            about=f"Does the order of the published list in {table} know the clicks, beyond what "
            "the displayed places explain? Asked of neighbours on the display with one click.",
            expected="the clicked one stands later in the list half the time",
            measured=f"{percent(score)} of the time{in_order}"
            if enough
            else f"list follows the display, or too few pairs{in_order}",
            value=score if enough else None,
            is_good=abs(score - 0.5) <= bound + chance if enough else not n_swapped or None,
            advice="The published list puts clicked notes in other places than it shows them: its "
            "order knows the click. Never use the entry number, row_number() over the list or its "
            "first n; order by position and shuffle candidates.",
        )


def _candidate_lists(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    bound = found.number("bounds", "auc_order")
    for table, column in CANDIDATE_LISTS.items():
        value, n = connection.execute(
            f"""
            with listed as (
                select row_number, generate_subscripts({column}, 1) as place,
                    unnest({column}) as note_idx
                from published.{table}
            ),
            shown as (
                select a.row_number, e.note_idx, bool_or(e.is_clicked) as is_clicked
                from exposures as e inner join asked as a on e.request_id = a.request_id
                where a.source_table = '{table}' group by all
            ),
            candidates as (
                select s.is_clicked,
                    count(*) filter (where not s.is_clicked) over (
                        partition by s.row_number order by l.place desc
                        rows between unbounded preceding and current row
                    ) as n_after,
                    count(*) filter (where not s.is_clicked) over (
                        partition by s.row_number
                    ) as n_all
                from listed as l
                inner join shown as s
                    on l.row_number = s.row_number and l.note_idx = s.note_idx
            )
            select sum(n_after) / nullif(sum(n_all), 0), count(*)
            from candidates where is_clicked
            """
        ).fetchall()[0]
        enough = value is not None and n >= found.number("judge", "min_clicks")
        is_display = table == "search_test"
        limit = bound + found.number("judge", "n_standard_errors") * _chance(n // 2)
        found.add(
            ORDER,
            f"candidate_order.{column}",
            about=f"Does the order of {column} tell the clicks of {table}?",
            expected="the display order, so position bias: a fact, no leak"
            if is_display
            else f"no order: AUC in the request within {bound:.2f} of 0.5",
            measured=f"AUC in the request {value:.3f}" if enough else "too few clicks to tell",
            value=value if enough else None,
            is_good=None
            if is_display or value is None or not enough
            else abs(value - 0.5) <= limit,
            advice=f"The order of {column} knows the clicks. Treat it as a set, and scramble the "
            "candidates before a stable sort.",
        )


def _history_in_request(
    connection: "duckdb.DuckDBPyConnection",
    found: Findings,
    clicks: dict[str, int],
    users: dict[str, int],
) -> None:
    bound = found.number("bounds", "history_in_request")
    column_bound = found.number("bounds", "auc_column")
    sums = _by_task(connection, ("n", "n_clicked", "n_in_history", "n_in_history_clicked"))
    for task, (n, n_clicked, n_in, n_clicked_in) in sums.items():
        share = n_clicked_in / n_clicked if n_clicked else None
        other = (n_in - n_clicked_in) / (n - n_clicked) if n > n_clicked else None
        value = 0.5 + (share - other) / 2 if share is not None and other is not None else None
        enough = clicks[task] >= found.number("judge", "min_clicks")
        found.add(
            ORDER,
            f"history_in_request.{task}",
            about=f"Do histories of {task} hold notes clicked in the very same request?",
            expected=f"clicks are in the request's own history at most {percent(bound)} more often "
            f"than the rest; AUC of membership within {column_bound:.2f} of 0.5",
            measured=f"{percent(share)} of clicks, {percent(other)} of the rest"
            + (f"; AUC {value:.3f}" if value is not None else ""),
            value=value,
            is_good=None
            if share is None or other is None or value is None or not enough
            # A user's requests share one history: users count, not clicks.
            else share - other <= bound + found.margin(share, users[task])
            and abs(value - 0.5) <= column_bound,
            advice="The history of a request holds notes clicked in that very request. Drop "
            "history entries that are candidates of the request before any feature is made of it.",
        )


def _history_of_clicks(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    """Histories against the clicks of this log; each channel's are ordered by themselves."""
    connection.execute(
        """
        create or replace temp table history as
        with entries as (
            select request_id, user_idx, started_at, unnest(history_list) as note_idx,
                generate_subscripts(history_list, 1) as place
            from asked where started_at is not null
        ),
        of_user as (
            select a.user_idx, e.note_idx, min(e.exposed_at) as first_at,
                min(e.exposed_at) filter (where a.channel = 'search') as first_search_at,
                max(e.exposed_at) filter (where a.channel = 'search') as last_search_at,
                min(e.exposed_at) filter (where a.channel <> 'search') as first_feed_at,
                max(e.exposed_at) filter (where a.channel <> 'search') as last_feed_at
            from exposures as e inner join asked as a on e.request_id = a.request_id
            where e.is_clicked group by a.user_idx, e.note_idx
        )
        select e.request_id, e.place, c.first_at >= e.started_at as is_future,
            case when c.last_search_at < e.started_at then c.last_search_at
                when c.first_search_at < e.started_at then c.first_search_at end as searched_at,
            case when c.last_feed_at < e.started_at then c.last_feed_at
                when c.first_feed_at < e.started_at then c.first_feed_at end as fed_at
        from entries as e
        inner join of_user as c on e.user_idx = c.user_idx and e.note_idx = c.note_idx
        """
    )
    newest, n_pairs = connection.execute(
        """
        with earlier as (
            select request_id, 'search' as channel, place, searched_at as clicked_at
            from history where searched_at is not null
            union all
            select request_id, 'feed' as channel, place, fed_at as clicked_at
            from history where fed_at is not null
        ),
        steps as (
            select clicked_at,
                lag(clicked_at) over (partition by request_id, channel order by place) as before
            from earlier
        )
        select avg((before > clicked_at)::int), count(*) from steps where before <> clicked_at
        """
    ).fetchall()[0]
    least = found.number("bounds", "history_newest_first")
    enough = n_pairs >= found.number("judge", "min_clicks")
    found.add(
        ORDER,
        "history_newest_first",
        about="In which order do histories stand? Asked of neighbours whose clicks this log holds.",
        expected=f"newest first: of two neighbours the first is the later click in "
        f"{percent(least)} or more",
        measured=f"{percent(newest)} of {n_pairs:,} neighbours with known times"
        if n_pairs
        else "no history entry is an earlier click of this log",
        value=newest,
        is_good=newest >= least - found.margin(newest, n_pairs) if enough else None,
        advice="Histories do not stand newest first. Find out their order before keeping the first "
        "n entries or weighting by recency.",
    )
    n_entries, n_future = connection.execute(
        """
        select (select sum(len(history_list)) from asked where started_at is not null),
            (select count_if(is_future) from history)
        """
    ).fetchall()[0]
    most = found.number("bounds", "history_from_future")
    share = n_future / n_entries if n_entries else 0.0
    found.add(
        ORDER,
        "history_from_future",
        about="Do histories hold notes that the user clicked only after the request began?",
        expected=f"at most {percent(most)} of entries first clicked after the request began",
        measured=f"{percent(share)} of {n_entries or 0:,} entries",
        value=share,
        is_good=share <= most + found.margin(share, n_entries)
        if (n_entries or 0) >= found.number("judge", "min_rows")
        else None,
        advice="Histories hold clicks of the future: they were written after the request. Build "
        "them anew from earlier clicks.",
    )
