"""Audit checks for leaks: what in the data knows the click before it happens.

An AUC is the chance that a clicked impression has the higher value than one that is not clicked:
0.5 knows nothing. Missing values count as the lowest. Ties count half.
"""

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from qilin_dagster.audit_model import Findings, percent
from qilin_dagster.sources.layout import NOTE_COUNTERS, USER_DENSE

if TYPE_CHECKING:
    import duckdb
    import numpy as np

TASKS = ("search", "feed", "dqa")
IDS, COLUMNS, ORDER = "Leaks: note ids", "Leaks: single columns", "Leaks: order and history"
N_RANGES = 400
# A block narrower than this many ranges is chance, not numbering.
NARROWEST_BLOCK = 8
NOTE_NUMBERS = (
    *("note_type", "video_duration", "video_height", "video_width", "image_num"),
    *("content_length", "commercial_flag"),
)
NOTE_TEXTS = ("taxonomy1_id", "taxonomy2_id", "taxonomy3_id")
USER_NUMBERS = ("fans_num", "follows_num", *USER_DENSE)
USER_TEXTS = ("gender", "platform", "age", "location")


def auc(n: "np.ndarray", n_clicked: "np.ndarray") -> float | None:
    """AUC from counts by value, lowest value first; None when there is nothing to tell apart."""
    not_clicked = n - n_clicked
    pairs = float(n_clicked.sum()) * float(not_clicked.sum())
    if not pairs:
        return None
    below = not_clicked.cumsum() - not_clicked
    return float((n_clicked * (below + not_clicked / 2)).sum() / pairs)


def check_leaks(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    """All leak checks; needs the table ``exposures``."""
    _prepare(connection)
    clicks = dict(
        connection.execute(
            "select task, least(sum(n_clicked), sum(n) - sum(n_clicked)) from by_note group by task"
        ).fetchall()
    )
    has_blocks = _id_blocks(connection, found, clicks)
    _counters_against_blocks(connection, found, has_blocks)
    _counters_grow(connection, found)
    _columns(connection, found, clicks)
    _orders(connection, found)
    _history(connection, found, clicks)


def _prepare(connection: "duckdb.DuckDBPyConnection") -> None:
    """Counts by note, user and source: many columns are then judged on few rows."""
    connection.execute(
        f"""
        create or replace temp table by_note as
        select task, is_learnt_on, note_idx, count(*) as n,
            count(*) filter (where is_clicked) as n_clicked
        from exposures group by all;

        create or replace temp table note_values as
        select any_value(b.task) as task, any_value(b.is_learnt_on) as is_learnt_on,
            any_value(b.n) as n, any_value(b.n_clicked) as n_clicked,
            {
            ", ".join(
                f"any_value(o.{c}) as {c}" for c in (*NOTE_COUNTERS, *NOTE_NUMBERS, *NOTE_TEXTS)
            )
        }
        from by_note as b left join published.notes as o on b.note_idx = o.note_idx
        group by b.task, b.is_learnt_on, b.note_idx;

        create or replace temp table user_values as
        select b.*, u.* exclude (user_idx)
        from (
            select task, is_learnt_on, user_idx, count(*) as n,
                count(*) filter (where is_clicked) as n_clicked
            from exposures group by all
        ) as b
        left join (
            select user_idx, {
            ", ".join(f"any_value({c}) as {c}" for c in (*USER_NUMBERS, *USER_TEXTS))
        }
            from published.user_feat group by user_idx
        ) as u on b.user_idx = u.user_idx;

        create or replace temp table source_values as
        select task, is_learnt_on, query_source::varchar as query_source, count(*) as n,
            count(*) filter (where is_clicked) as n_clicked
        from exposures group by all
        """
    )


def _id_blocks(
    connection: "duckdb.DuckDBPyConnection", found: Findings, clicks: dict[str, int]
) -> bool:
    (n_ids,) = connection.execute(
        "select greatest(max(note_idx) + 1, 1) from published.notes"
    ).fetchall()[0]
    connection.execute(
        f"""
        create or replace temp table id_ranges as
        select task, is_learnt_on,
            least(floor(note_idx * {N_RANGES} / {n_ids}), {N_RANGES - 1})::int as id_range,
            sum(n) as n, sum(n_clicked) as n_clicked
        from by_note where note_idx >= 0 group by all
        """
    )
    for task in TASKS:
        value = _learnt_auc(connection, "id_ranges", "id_range", task)
        _judge_auc(
            found,
            IDS,
            f"id_block_rule.{task}",
            {task: value},
            clicks,
            found.number("bounds", "auc_id_block"),
            chance=_chance(clicks.get(task, 0) // 2),
            how=f"AUC of the click rate of {N_RANGES} id ranges, learnt on "
            + ("half of the rows" if task == "dqa" else "train"),
            advice="The note number tells which notes were clicked. Never give note_idx, or "
            "anything ordered by it, to a model: use the permuted note_key of core.notes, and "
            "print this rule beside every model as an anchor.",
        )
    return _block_edges(connection, found, n_ids, sum(clicks.values()))


def _block_edges(
    connection: "duckdb.DuckDBPyConnection", found: Findings, n_ids: int, n_clicks: int
) -> bool:
    """Find runs of poor and rich id ranges; leaves them in the table ``blocks``."""
    import numpy as np

    n, n_clicked = np.zeros(N_RANGES), np.zeros(N_RANGES)
    for id_range, count, clicked in connection.execute(
        "select id_range, sum(n)::bigint, sum(n_clicked)::bigint from id_ranges group by id_range"
    ).fetchall():
        n[id_range], n_clicked[id_range] = count, clicked
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
    connection.execute("create or replace temp table blocks (lo bigint, hi bigint, rich boolean)")
    words, totals = [], {True: [0.0, 0.0], False: [0.0, 0.0]}
    for first, last, rich in blocks:
        lo, hi = first * n_ids // N_RANGES, last * n_ids // N_RANGES
        connection.execute("insert into blocks values (?, ?, ?)", [lo, hi, rich])
        seen, clicked = n[first:last].sum(), n_clicked[first:last].sum()
        totals[rich][0] += seen
        totals[rich][1] += clicked
        words.append(f"{lo:,}-{hi:,}: {percent(clicked / seen if seen else None)}")
    poor, good = (totals[k][1] / max(totals[k][0], 1) for k in (False, True))
    has_blocks = bool(
        min(totals[True][0], totals[False][0]) >= 0.02 * n.sum()
        and poor < found.number("bounds", "block_rate_ratio") * good
    )
    enough = n_clicks >= found.number("judge", "min_clicks")
    found.add(
        IDS,
        "click_rate_by_id_block",
        expected="the same click rate at every note_idx",
        measured=("; ".join(words) if has_blocks else "no blocks stand out")
        if enough
        else f"only {n_clicks:,} clicks, too few to tell",
        is_good=not has_blocks if enough else None,
        advice="Notes are numbered in blocks by whether they were clicked. Sort, shard, hash and "
        "split by note_key, never by note_idx; negatives drawn at random over ids come half from "
        "blocks nobody clicks and are too easy.",
    )
    return has_blocks and enough


def _counters_against_blocks(
    connection: "duckdb.DuckDBPyConnection", found: Findings, has_blocks: bool
) -> None:
    # Without blocks the ids' halves are compared, which no honest counter tells apart either.
    row = connection.execute(
        "select "
        + ", ".join(
            f"abs(avg((o.{c} = 0)::int) filter (where b.rich)"
            f" - avg((o.{c} = 0)::int) filter (where not b.rich))"
            for c in NOTE_COUNTERS
        )
        + " from published.notes as o inner join blocks as b"
        " on o.note_idx >= b.lo and o.note_idx < b.hi"
    ).fetchall()[0]
    differences = sorted(
        ((d, c) for d, c in zip(row, NOTE_COUNTERS, strict=True) if d is not None), reverse=True
    )
    bound = found.number("bounds", "counter_zero_difference")
    bad = [(d, c) for d, c in differences if d > bound]
    found.add(
        IDS,
        "counters_against_id_blocks",
        expected=f"zeros as frequent in poor as in rich id blocks, within {bound:.2f}",
        measured="there are no id blocks to compare"
        if not has_blocks
        else f"{len(bad)} of {len(NOTE_COUNTERS)} counters differ"
        + (": " + ", ".join(f"{c} by {d:.2f}" for d, c in bad[:4]) if bad else "")
        + (" and more" if len(bad) > 4 else ""),
        is_good=not bad if has_blocks else None,
        advice="These counters are 0 where the id block says never clicked: they carry the same "
        "leak as the ids. Keep them out of features.",
    )


def _counters_grow(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    """Do counters hold the clicks of this log? Asked of notes, each shown once: how often a note is
    shown then explains nothing."""
    bound = found.number("bounds", "auc_counter_of_note")
    connection.execute(
        f"""
        create or replace temp table once_shown as
        select 'notes' as task, 1 as n, sum(v.n_clicked) as n_clicked,
            {", ".join(f"any_value(o.{c}) as {c}" for c in NOTE_COUNTERS)}
        from by_note as v inner join published.notes as o on v.note_idx = o.note_idx
        group by v.note_idx having sum(v.n) = 1
        """
    )
    n_clicked, n_other = connection.execute(
        "select count(*) filter (where n_clicked > 0), count(*) filter (where n_clicked = 0)"
        " from once_shown"
    ).fetchall()[0]
    n = min(n_clicked, n_other)
    enough = n >= found.number("judge", "min_clicks")
    # Feed counters are left to the check against the id blocks, whose zeros they follow.
    whole = [c for c in NOTE_COUNTERS if c.startswith(("imp_", "click_"))]
    values = {c: _raw_aucs(connection, "once_shown", c, ("notes",))["notes"] for c in whole}
    limit = bound + found.number("judge", "n_standard_errors") * _chance(n)
    bad = [c for c, value in values.items() if value is not None and abs(value - 0.5) > limit]
    found.add(
        IDS,
        "counters_grow_with_clicks",
        expected="impression and click counters of notes shown once as high with as without a "
        f"click: AUC within 0.5 +- {bound:.2f}",
        measured=", ".join(f"{c} {v:.3f}" for c, v in values.items() if v is not None)
        if enough
        else "too few clicks to tell",
        is_good=not bad if enough else None,
        advice=f"{', '.join(bad)}: taken after this log, so they hold the very clicks to be "
        "predicted. Keep them out of features, or take counters from before the log day.",
    )


def _columns(
    connection: "duckdb.DuckDBPyConnection", found: Findings, clicks: dict[str, int]
) -> None:
    users = dict(
        connection.execute(
            "select task, count(distinct user_idx) from user_values group by task"
        ).fetchall()
    )
    bound = found.number("bounds", "auc_column")
    groups = (
        ("notes", "note_values", NOTE_COUNTERS, False),
        ("notes", "note_values", NOTE_NUMBERS, False),
        ("notes", "note_values", NOTE_TEXTS, True),
        ("user_feat", "user_values", USER_NUMBERS, False),
        ("user_feat", "user_values", USER_TEXTS, True),
        ("requests", "source_values", ("query_source",), True),
    )
    for table, relation, columns, is_text in groups:
        for column in columns:
            values = (
                {task: _learnt_auc(connection, relation, column, task) for task in TASKS}
                if is_text
                else _raw_aucs(connection, relation, column)
            )
            is_counter = column in NOTE_COUNTERS
            # A user's column is the same for all their impressions: users count, not impressions.
            fewest = min((users if table != "notes" else clicks).values(), default=0)
            _judge_auc(
                found,
                COLUMNS,
                f"auc.{table}.{column}",
                values,
                clicks,
                bound,
                chance=_chance(fewest // 2),
                how="AUC of its click rate, learnt on train" if is_text else "AUC",
                advice="This counter alone tells clicked from unclicked impressions: it counts the "
                "clicks of this log, or follows the id blocks. Do not use it as a feature."
                if is_counter
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
        expected=f"{how} within 0.5 +- {bound:.2f}",
        measured=", ".join(f"{task} {value:.3f}" for task, value in judged.items())
        or "too few clicks to tell",
        is_good=all(abs(value - 0.5) <= bound + margin for value in judged.values())
        if judged
        else None,
        advice=advice,
    )


def _chance(n_each: int) -> float:
    """Standard error of an AUC of n clicked and n other independent rows that knows nothing."""
    return math.sqrt(1 / (6 * n_each)) if n_each else 0.5


def _raw_aucs(
    connection: "duckdb.DuckDBPyConnection",
    relation: str,
    column: str,
    tasks: tuple[str, ...] = TASKS,
) -> dict[str, float | None]:
    import numpy as np

    rows = connection.execute(
        f"""
        select task, sum(n)::double as n, sum(n_clicked)::double as n_clicked
        from (select task, n, n_clicked, case when not isnan({column}) then {column} end as value
              from {relation})
        group by task, value order by task, value nulls first
        """
    ).fetchnumpy()
    of = np.asarray(rows["task"])
    return {
        task: auc(np.asarray(rows["n"])[of == task], np.asarray(rows["n_clicked"])[of == task])
        for task in tasks
    }


def _learnt_auc(
    connection: "duckdb.DuckDBPyConnection", relation: str, column: str, task: str
) -> float | None:
    """AUC on the later rows of the click rate by value, learnt on the earlier ones."""
    import numpy as np

    rows = connection.execute(
        f"""
        with mean as (
            select sum(n_clicked) / sum(n) as rate
            from {relation} where task = $task and is_learnt_on
        ),
        learnt as (
            -- Twenty impressions at the mean rate: a value seen once says little.
            select {column} as value,
                (sum(n_clicked) + 20 * any_value(rate)) / (sum(n) + 20) as rate
            from {relation} cross join mean
            where task = $task and is_learnt_on group by value
        ),
        judged as (
            select {column} as value, sum(n) as n, sum(n_clicked) as n_clicked
            from {relation} where task = $task and not is_learnt_on group by value
        )
        select sum(n)::double as n, sum(n_clicked)::double as n_clicked
        from judged as j left join learnt as l on j.value is not distinct from l.value
        cross join mean as m
        group by coalesce(l.rate, m.rate) order by coalesce(l.rate, m.rate)
        """,
        {"task": task},
    ).fetchnumpy()
    return auc(np.asarray(rows["n"]), np.asarray(rows["n_clicked"]))


def _orders(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    bound = found.number("bounds", "auc_order")
    tables = [
        row[0]
        for row in connection.execute(
            "select distinct source_table from exposures order by all"
        ).fetchall()
    ]
    by_display = _order_aucs(connection, "exposures", "shown_rank")
    by_entry = _order_aucs(connection, "exposures", "impression_n")
    swaps: dict[str, dict[bool, tuple[int, float]]] = {}
    for table, is_swapped, n, share in connection.execute(
        """
        with neighbours as (
            select source_table, is_clicked, impression_n, "position",
                lead(is_clicked) over shown as next_clicked,
                lead(impression_n) over shown as next_n,
                lead("position") over shown as next_position
            from exposures
            -- One page load at a time: a page loaded twice counts its places from 1 again.
            window shown as (partition by request_id, exposed_at order by shown_rank)
        )
        select source_table, next_n < impression_n as is_swapped, count(*) as n,
            avg(case when next_n < impression_n then is_clicked else next_clicked end::int)
        from neighbours
        where is_clicked <> next_clicked and "position" < next_position
        group by all
        """
    ).fetchall():
        swaps.setdefault(table, {})[is_swapped] = (n, share)
    for table in tables:
        value = by_display.get(table)
        found.add(
            ORDER,
            f"display_order.{table}",
            expected="earlier places are clicked more (position bias): a fact, no leak",
            measured="too few clicks to tell"
            if value is None
            else f"AUC in the request {value:.3f}",
            is_good=None,
            advice="",
        )
        straight, swapped = (swaps.get(table, {}).get(k, (0, 0.5)) for k in (False, True))
        # Both kinds weigh the same, so that position bias alone gives exactly one half.
        score = (straight[1] + swapped[1]) / 2
        enough = min(straight[0], swapped[0]) >= 30
        chance = (
            math.sqrt(1 / straight[0] + 1 / swapped[0])
            / 4
            * found.number("judge", "n_standard_errors")
            if enough
            else 0.0
        )
        in_order = f"; AUC of the entry number {by_entry[table]:.3f}" if by_entry.get(table) else ""
        found.add(
            ORDER,
            f"list_order.{table}",
            expected="of two neighbours, the clicked one stands later in the published list half "
            "the time",
            measured=f"{percent(score)} of the time{in_order}"
            if enough
            else f"list follows the display, or too few pairs{in_order}",
            is_good=abs(score - 0.5) <= bound + chance if enough else not swapped[0] or None,
            advice="The published list puts clicked notes in other places than it shows them: its "
            "order knows the click. Never use the entry number, row_number() over the list or its "
            "first n; order by position and shuffle candidates.",
        )
    _candidate_lists(connection, found, bound)


def _order_aucs(
    connection: "duckdb.DuckDBPyConnection", relation: str, column: str
) -> dict[str, float]:
    """Share of (clicked, unclicked) pairs of a request in which the clicked one comes first."""
    return dict(
        connection.execute(
            f"""
            with counted as (
                select source_table, request_id, is_clicked,
                    count(*) filter (where not is_clicked) over (
                        partition by request_id order by {column} desc
                        rows between unbounded preceding and current row
                    ) as n_after,
                    count(*) filter (where not is_clicked) over (partition by request_id) as n_all
                from {relation}
            )
            select source_table, sum(n_after) / sum(n_all)
            from counted where is_clicked group by source_table having sum(n_all) > 0
            """
        ).fetchall()
    )


def _candidate_lists(
    connection: "duckdb.DuckDBPyConnection", found: Findings, bound: float
) -> None:
    for table, column in (
        ("search_test", "search_results"),
        ("recommendation_test", "rec_results"),
    ):
        connection.execute(
            f"""
            create or replace temp table candidates as
            with listed as (
                select row_number, generate_subscripts({column}, 1) as place,
                    unnest({column}) as note_idx
                from published.{table}
            ),
            shown as (
                select source_table, row_number, request_id, note_idx,
                    bool_or(is_clicked) as is_clicked
                from exposures where source_table = '{table}' group by all
            )
            select s.*, l.place
            from listed as l
            inner join shown as s on l.row_number = s.row_number and l.note_idx = s.note_idx
            """
        )
        value = _order_aucs(connection, "candidates", "place").get(table)
        n = connection.execute("select count(*) from candidates where is_clicked").fetchall()[0][0]
        enough = value is not None and n >= found.number("judge", "min_clicks")
        is_display = table == "search_test"
        limit = bound + found.number("judge", "n_standard_errors") * _chance(n // 2)
        found.add(
            ORDER,
            f"candidate_order.{column}",
            expected="the display order, so position bias: a fact, no leak"
            if is_display
            else f"no order: AUC in the request within 0.5 +- {bound:.2f}",
            measured=f"AUC in the request {value:.3f}" if enough else "too few clicks to tell",
            is_good=None
            if is_display or value is None or not enough
            else abs(value - 0.5) <= limit,
            advice=f"The order of {column} knows the clicks. Treat it as a set, and scramble the "
            "candidates before a stable sort.",
        )


def _history(
    connection: "duckdb.DuckDBPyConnection", found: Findings, clicks: dict[str, int]
) -> None:
    bound = found.number("bounds", "history_in_request")
    column_bound = found.number("bounds", "auc_column")
    for task, n, n_in, n_clicked, n_clicked_in in connection.execute(
        """
        select task, count(*), count(*) filter (where in_history),
            count(*) filter (where is_clicked), count(*) filter (where is_clicked and in_history)
        from exposures group by task order by task
        """
    ).fetchall():
        share = n_clicked_in / n_clicked if n_clicked else None
        other = (n_in - n_clicked_in) / (n - n_clicked) if n > n_clicked else None
        value = 0.5 + (share - other) / 2 if share is not None and other is not None else None
        enough = clicks.get(task, 0) >= found.number("judge", "min_clicks")
        found.add(
            ORDER,
            f"history_in_request.{task}",
            expected=f"clicks are in the request's own history at most {percent(bound)} more often "
            f"than the rest; AUC of membership within 0.5 +- {column_bound:.2f}",
            measured=f"{percent(share)} of clicks, {percent(other)} of the rest"
            + (f"; AUC {value:.3f}" if value is not None else ""),
            is_good=None
            if share is None or other is None or value is None or not enough
            else share - other <= bound + found.margin(share, n_clicked)
            and abs(value - 0.5) <= column_bound,
            advice="The history of a request holds notes clicked in that very request. Drop "
            "history entries that are candidates of the request before any feature is made of it.",
        )
    newest, n_pairs = connection.execute(
        """
        with entries as (
            select request_id, user_idx, started_at, unnest(history_list) as note_idx,
                generate_subscripts(history_list, 1) as place
            from core.requests where started_at is not null
        ),
        clicked as (
            select user_idx, note_idx, task = 'feed' as is_feed, max(exposed_at) as clicked_at
            from exposures where is_clicked group by all
        ),
        matched as (
            select e.request_id, c.is_feed, e.place, min(c.clicked_at) as clicked_at
            from entries as e
            inner join clicked as c
                on e.user_idx = c.user_idx and e.note_idx = c.note_idx
                and c.clicked_at < e.started_at
            group by all
        ),
        steps as (
            select clicked_at,
                lag(clicked_at) over (partition by request_id, is_feed order by place) as before
            from matched
        )
        select avg((before > clicked_at)::int), count(*) from steps where before <> clicked_at
        """
    ).fetchall()[0]
    least = found.number("bounds", "history_newest_first")
    enough = n_pairs >= found.number("judge", "min_clicks")
    found.add(
        ORDER,
        "history_newest_first",
        expected=f"newest first: of two neighbours the first is the later click in "
        f"{percent(least)} or more",
        measured=f"{percent(newest)} of {n_pairs:,} neighbours with known times"
        if n_pairs
        else "no history entry is an earlier click of this log",
        is_good=newest >= least - found.margin(newest, n_pairs) if enough else None,
        advice="Histories do not stand newest first. Find out their order before keeping the first "
        "n entries or weighting by recency.",
    )
    n_entries, n_future = connection.execute(
        """
        with entries as (
            select distinct request_id, user_idx, started_at, unnest(history_list) as note_idx
            from core.requests where started_at is not null
        ),
        first_click as (
            select user_idx, note_idx, min(exposed_at) as clicked_at
            from exposures where is_clicked group by all
        )
        select count(*), count(*) filter (where c.clicked_at >= e.started_at)
        from entries as e
        left join first_click as c on e.user_idx = c.user_idx and e.note_idx = c.note_idx
        """
    ).fetchall()[0]
    most = found.number("bounds", "history_from_future")
    share = n_future / n_entries if n_entries else 0.0
    found.add(
        ORDER,
        "history_from_future",
        expected=f"at most {percent(most)} of entries first clicked after the request began",
        measured=f"{percent(share)} of {n_entries:,} entries",
        is_good=share <= most + found.margin(share, n_entries)
        if n_entries >= found.number("judge", "min_rows")
        else None,
        advice="Histories hold clicks of the future: they were written after the request. Build "
        "them anew from earlier clicks.",
    )
