"""Audit checks of the log itself: sizes, ids, labels, times, positions, types, cold start."""

from typing import TYPE_CHECKING

from qilin_dagster.audit_model import Findings, percent
from qilin_dagster.sources.clock import TableClock
from qilin_dagster.sources.layout import QRELS_FILES, TABLES, TIME_FIELD

if TYPE_CHECKING:
    import duckdb

    from qilin_dagster.sources.published import DataFolder

SIZE, LABELS, TIME = "Size and ids", "Clicks and labels", "Time"
POSITIONS, TYPES, COLD = "Positions and lists", "Types and missing values", "New in test"
LOG_TABLES = tuple(TIME_FIELD)
NOT_JUDGED = "not judged: this data set is smaller than the real log"
QUERY_SOURCES = (
    *("active search", "auto-completion", "history", "suggestion on the page"),
    *("suggestion in a result", "filter", "hot list", "other"),
)


def check_log(
    connection: "duckdb.DuckDBPyConnection",
    found: Findings,
    data: "DataFolder",
    clocks: list[TableClock],
) -> None:
    """All checks that are not about leaks; needs the table ``exposures``."""
    _sizes(connection, found, data)
    _ids(connection, found)
    _labels(connection, found)
    _times(connection, found, clocks)
    _positions(connection, found)
    _types(connection, found, data)
    _cold_start(connection, found)


def _count(connection: "duckdb.DuckDBPyConnection", sql: str) -> int:
    return int(connection.execute(sql).fetchall()[0][0] or 0)


def _exact(found: Findings, subject: str, name: str, expected: int, n: int, advice: str) -> None:
    """A count of the real log: judged only where the data set has its size."""
    found.add(
        subject,
        name,
        expected=f"{expected:,}"
        + ("" if found.is_full_size else f" in the real log ({NOT_JUDGED})"),
        measured=f"{n:,}",
        is_good=n == expected if found.is_full_size else None,
        advice=advice,
    )


def _sizes(connection: "duckdb.DuckDBPyConnection", found: Findings, data: "DataFolder") -> None:
    for table in TABLES:
        _exact(
            found,
            SIZE,
            f"rows.{table}",
            int(found.number("rows", table)),
            data.tables[table].n_rows,
            "Shards are missing or there are too many, or this is another release. Compare the "
            "file "
            "names, train-0000k-of-0000n, with the data card.",
        )
    n = _count(connection, "select count(*) from exposures")
    expected = int(found.number("counts", "impressions"))
    tolerance = found.number("counts", "impressions_tolerance")
    found.add(
        SIZE,
        "impressions",
        expected=f"{expected:,}, within {percent(tolerance)}"
        if found.is_full_size
        else f"{expected:,} in the real log ({NOT_JUDGED})",
        measured=f"{n:,}",
        is_good=abs(n - expected) <= tolerance * expected if found.is_full_size else None,
        advice="The log has other lists than the paper counted. Compare the release.",
    )


def _ids(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    n_bad = _count(
        connection,
        "select count(*) from published.notes where note_idx is distinct from row_number",
    )
    found.add(
        SIZE,
        "note_idx_is_row_number",
        expected="note_idx equals the row of notes, counted from 0 over all files",
        measured=f"{n_bad:,} rows differ",
        is_good=n_bad == 0,
        advice="Shards are missing or in another order. Never take a note by row number; join by "
        "note_idx.",
    )
    ids = {
        "note_idx": ["notes"],
        "user_idx": ["user_feat"],
        "search_idx": ["search_train", "search_test", "dqa"],
        "request_idx": ["recommendation_train", "recommendation_test"],
    }
    for column, tables in ids.items():
        union = " union all ".join(f"select {column} from published.{table}" for table in tables)
        n_twice = _count(connection, f"select count(*) - count(distinct {column}) from ({union})")
        found.add(
            SIZE,
            f"unique.{column}",
            expected=f"no {column} twice (or missing) in {', '.join(tables)}",
            measured=f"{n_twice:,} rows too many",
            is_good=n_twice == 0,
            advice=f"Rows of one {column} would be joined with each other and counted more than "
            "once. "
            "Find the doubled rows and keep one of each.",
        )
    for column, table, rows, what in (
        ("note_idx", "notes", "exposures", "impressions"),
        ("user_idx", "user_feat", "core.requests", "requests"),
    ):
        n_unknown = _count(
            connection,
            f"select count(*) from {rows} as r anti join published.{table} as t"
            f" on r.{column} = t.{column}",
        )
        found.add(
            SIZE,
            f"known.{column}",
            expected=f"every {column} of the log is in {table}",
            measured=f"{n_unknown:,} {what} without",
            is_good=n_unknown == 0,
            advice=f"Rows whose {column} is not in {table} are lost in an inner join. Join left, "
            "or "
            "find the missing shard.",
        )
    n_users = _count(
        connection,
        "select count(*) from (select app_session_idx from core.requests"
        " group by app_session_idx having count(distinct user_idx) > 1)",
    )
    found.add(
        SIZE,
        "session_has_one_user",
        expected="no session_idx belongs to two users",
        measured=f"{n_users:,} do",
        is_good=n_users == 0,
        advice="session_idx alone is no key: group by (user_idx, session_idx).",
    )
    n_both, n_all = connection.execute(
        "select count(*) filter (where n > 1), count(*) from (select count(distinct channel) as n"
        " from core.requests group by user_idx, app_session_idx)"
    ).fetchall()[0]
    found.add(
        SIZE,
        "sessions_in_both_channels",
        expected="nothing published; sessions in both are needed for transitions between channels",
        measured=f"{n_both:,} of {n_all:,} sessions hold searches and feed requests",
        is_good=None,
        advice="",
    )


def _labels(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    for table, n, n_without in connection.execute(
        """
        select source_table, count(*), count(*) filter (where n_clicks = 0)
        from core.requests group by source_table order by source_table
        """
    ).fetchall():
        if table == "dqa":
            _exact(
                found,
                LABELS,
                "requests_without_click.dqa",
                int(found.number("counts", "requests_without_click_dqa")),
                n_without,
                "The answer sample is another than the one the paper describes.",
            )
            continue
        found.add(
            LABELS,
            f"requests_without_click.{table}",
            expected="0: the release keeps only requests with a click",
            measured=f"{n_without:,} of {n:,}",
            is_good=n_without == 0,
            advice="Click rates given at least one click do not compare with these rows. Leave "
            "them "
            "out, or name the selection beside every rate; metrics have no label for them.",
        )
    _repeats(connection, found)
    for table in QRELS_FILES:
        _qrels(connection, found, table)


def _repeats(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    most = found.number("bounds", "repeats")
    for table, n, n_repeats in connection.execute(
        """
        select source_table, count(*), count(*) filter (where is_repeat)
        from exposures group by source_table order by source_table
        """
    ).fetchall():
        share = n_repeats / n
        found.add(
            LABELS,
            f"repeats.{table}",
            expected=f"at most {percent(most)}"
            + ("; 1.7 to 2.8 % published" if table.startswith("rec") else "; nothing published"),
            measured=f"{percent(share)} ({n_repeats:,})",
            is_good=share <= most + found.margin(share, n)
            if n >= found.number("judge", "min_rows")
            else None,
            advice="The same note comes more than once in a request. Keep one row of each "
            "(request, note) with the highest label, or clicks count twice and a note is both "
            "right and wrong.",
        )


def _qrels(connection: "duckdb.DuckDBPyConnection", found: Findings, table: str) -> None:
    n_log, n_file, n_common = connection.execute(
        """
        with log as (
            select distinct row_number, note_idx from exposures
            where source_table = $t and is_clicked
        ),
        official as (
            select distinct row_number, note_idx from published.qrels where source_table = $t
        )
        select (select count(*) from log), (select count(*) from official),
            (select count(*) from log as l semi join official as o
             on l.row_number = o.row_number and l.note_idx = o.note_idx)
        """,
        {"t": table},
    ).fetchall()[0]
    _exact(
        found,
        LABELS,
        f"clicked_pairs.{table}",
        int(found.number("labels", table)),
        n_log,
        "The clicks of this table are not those the label files were made of. Compare the release.",
    )
    if not n_file:
        found.add(
            LABELS,
            f"official_labels.{table}",
            expected="the clicks of the log, pair by pair",
            measured=f"no {QRELS_FILES[table]} beside the data",
            is_good=None,
            advice="",
        )
        return
    # An older file holds the same sets of notes under other row numbers.
    n_sets, n_same_sets = connection.execute(
        """
        with log as (
            select list(distinct note_idx order by note_idx) as notes
            from exposures where source_table = $t and is_clicked group by row_number
        ),
        official as (
            select list(distinct note_idx order by note_idx) as notes
            from published.qrels where source_table = $t group by row_number
        ),
        counted as (select notes, count(*) as n from log group by notes),
        counted_official as (select notes, count(*) as n from official group by notes)
        select (select sum(n) from counted), coalesce(sum(least(c.n, o.n)), 0)
        from counted as c inner join counted_official as o on c.notes = o.notes
        """,
        {"t": table},
    ).fetchall()[0]
    is_equal = n_common == n_log == n_file
    is_reordered = not is_equal and n_same_sets == n_sets and n_file == n_log
    found.add(
        LABELS,
        f"official_labels.{table}",
        expected="the clicks of the log, pair by pair",
        measured="equal: all " + f"{n_log:,} pairs"
        if is_equal
        else f"{n_common:,} of {n_log:,} pairs"
        + (
            ", the same sets of notes in another row order: an OLDER FILE"
            if is_reordered
            else f", {n_file:,} in the file; {n_same_sets:,} of {n_sets or 0:,} rows have their "
            "set "
            "of notes"
        ),
        is_good=is_equal,
        advice=f"{QRELS_FILES[table]} numbers the rows of an earlier release (before 17 April "
        "2025): "
        "every metric would be near 0. Take the present file, or label from the clicks."
        if is_reordered
        else f"{QRELS_FILES[table]} does not label this table: qid must be the row of the table "
        "from "
        "0, in its published order. Was the table filtered or sorted? Label from the clicks.",
    )


def _times(
    connection: "duckdb.DuckDBPyConnection", found: Findings, clocks: list[TableClock]
) -> None:
    names = {1_000_000: "seconds", 1_000: "milliseconds", 1: "microseconds"}
    for clock in clocks:
        wanted = "milliseconds" if clock.source_table.startswith("rec") else "seconds"
        unit = names[clock.microseconds_per_tick]
        found.add(
            TIME,
            f"clock_unit.{clock.source_table}",
            expected=wanted,
            measured=unit,
            is_good=unit == wanted,
            advice="The unit differs from the published one. The build reads it by magnitude; code "
            "of your own that divides by a fixed 1000 is wrong here.",
        )
    search = next(clock for clock in clocks if clock.source_table == "search_test")
    ahead = found.number("time", "search_ahead_h")
    found.add(
        TIME,
        "search_clock_ahead",
        expected=f"{ahead:g} h before the feed's clock",
        measured=f"{search.ahead_s / 3600:g} h ({search.evidence})",
        is_good="UNDECIDED" not in search.evidence and search.ahead_s == round(ahead * 3600),
        advice="The two channels' clocks do not stand as expected: histories, sessions and "
        "transitions across channels depend on it. Find out, then give "
        "qilin build --search-clock-offset HOURS.",
    )
    day, hour = str(found.value("time", "log_day")), int(found.number("time", "test_begins_h"))
    rows = connection.execute(
        """
        select source_table, count(*),
            count(*) filter (where started_at is null),
            strftime(min(started_at) + interval 8 hours, '%d %b %H:%M'),
            strftime(max(started_at) + interval 8 hours, '%d %b %H:%M'),
            count(*) filter (where (started_at + interval 8 hours)::date <> $day::date),
            count(*) filter (where (started_at + interval 8 hours)
                < $day::timestamp + to_hours($hour))
        from core.requests group by source_table order by source_table
        """,
        {"day": day, "hour": hour},
    ).fetchall()
    stale, before = (
        found.number("bounds", "stale_times"),
        found.number("time", "test_before_share"),
    )
    enough = found.number("judge", "min_rows")
    for table, n, n_null, first, last, n_other_day, n_before in rows:
        found.add(
            TIME,
            f"log_day.{table}",
            expected=f"{day} in China, at most {percent(stale)} of requests on other days",
            measured=f"{first} to {last}, {percent(n_other_day / n)} on other days, "
            f"{n_null:,} without time",
            is_good=n_other_day / n <= stale + found.margin(n_other_day / n, n)
            if n >= enough
            else None,
            advice="Requests lie outside the log day: another release, or a wrong clock. Look at "
            "the "
            "hours before splitting by time.",
        )
        if table.endswith("_test"):
            found.add(
                TIME,
                f"test_after_{hour}h.{table}",
                expected=f"at most {percent(before)} of requests begin before {hour}:00",
                measured=percent(n_before / n),
                is_good=n_before / n <= before + found.margin(n_before / n, n)
                if n >= enough
                else None,
                advice="Test is not after train: what is learnt on train may know the test. Split "
                "by the start of the request instead of by the published tables.",
            )
    overlap = connection.execute(
        """
        select greatest(0, epoch(least(max(started_at) filter (where channel = 'search'),
                max(started_at) filter (where channel <> 'search'))
            - greatest(quantile_disc(started_at, 0.02) filter (where channel = 'search'),
                quantile_disc(started_at, 0.02) filter (where channel <> 'search'))) / 3600)
        from core.requests where split <> 'dqa'
        """
    ).fetchall()[0][0]
    found.add(
        TIME,
        "channels_overlap",
        expected="most of a day in which both channels have requests",
        measured=f"{overlap or 0:.1f} h",
        is_good=(overlap or 0) >= 12 if found.is_full_size else None,
        advice="Search and feed hardly overlap in time: a clock is wrong, or tables are of "
        "different "
        "days. Draw no transition between channels.",
    )
    longest = found.number("bounds", "requests_over_30_minutes")
    for table, n, n_long in connection.execute(
        """
        select source_table, count(*), count(*) filter (where span_s > 1800)
        from (select source_table, request_id,
                epoch(max(exposed_at)) - epoch(min(exposed_at)) as span_s
              from exposures group by all)
        group by source_table order by source_table
        """
    ).fetchall():
        found.add(
            TIME,
            f"requests_over_30_minutes.{table}",
            expected=f"at most {percent(longest)}; the true share is not published",
            measured=f"{percent(n_long / n)} of requests span more than 30 minutes",
            is_good=n_long / n <= longest + found.margin(n_long / n, n) if n >= enough else None,
            advice="Times inside a request are hours apart. Take the earliest as its time, and "
            "split "
            "whole requests, never impressions, by time.",
        )


def _positions(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    deepest = found.number("positions", "deepest")
    for table, n, n_null, n_negative, n_zero, first, last, n_gaps, n_steps in connection.execute(
        """
        with steps as (
            select source_table, "position",
                "position" - lag("position") over (
                    partition by request_id order by shown_rank
                ) as step
            from exposures
        )
        select source_table, count(*), count(*) filter (where "position" is null),
            count(*) filter (where "position" < 0), count(*) filter (where "position" = 0),
            min("position"), max("position"), count(*) filter (where step > 1), count(step)
        from steps group by source_table order by source_table
        """
    ).fetchall():
        found.add(
            POSITIONS,
            f"position.{table}",
            expected=f"0 to {deepest:,.0f}, none missing; gaps and zeros exist",
            measured=f"{first} to {last}, {n_null:,} missing, {n_negative:,} negative, {n_zero:,} "
            f"zeros, gaps in {percent(n_gaps / n_steps if n_steps else 0)} of {n:,}",
            is_good=not n_null and not n_negative and (last or 0) <= deepest,
            advice="Positions are missing or impossible. Set these impressions aside; position "
            "bias "
            "and display order cannot be computed with them.",
        )
    most = found.number("positions", "unordered_lists")
    for table, column in (
        ("search_test", "search_results"),
        ("recommendation_test", "rec_results"),
    ):
        n, n_listed, n_differ = connection.execute(
            f"""
            with shown as (
                select row_number, list(distinct note_idx order by note_idx) as notes
                from exposures where source_table = '{table}' group by row_number
            )
            select count(*), count(l.{column}),
                count(*) filter (where list_sort(list_distinct(l.{column}))
                    is distinct from s.notes and l.{column} is not null)
            from published.{table} as l left join shown as s on l.row_number = s.row_number
            """
        ).fetchall()[0]
        found.add(
            POSITIONS,
            f"candidates_are_shown.{column}",
            expected="the same notes as the impressions of the request",
            measured=f"{n_differ:,} of {n:,} requests differ"
            if n_listed
            else f"there is no column {column}",
            is_good=n_differ <= most * n if n_listed else None,
            advice=f"{column} holds other notes than were shown: clicked notes may be missing from "
            "the candidates, or unlabelled ones among them. Take candidates from the impressions.",
        )


def _types(connection: "duckdb.DuckDBPyConnection", found: Findings, data: "DataFolder") -> None:
    for table in LOG_TABLES:
        kind = table.partition("_")[0]
        details = next(c.name for c in TABLES[table] if c.kind == "impressions")
        types = dict(
            connection.execute(
                "select unnest(['click', 'position', 'page_time', 'time']),"
                f" unnest([typeof(d.click), typeof(d.position), typeof(d.page_time),"
                f" typeof(d.{TIME_FIELD[table]})])"
                f" from (select {details}[1] as d from published.{table} limit 1)"
            ).fetchall()
        )
        wanted = "DOUBLE" if kind == "search" else "BIGINT"
        found.add(
            TYPES,
            f"types.{table}",
            expected=f"click and position {'floats' if kind == 'search' else 'integers'}",
            measured=", ".join(f"{name} {type_.lower()}" for name, type_ in types.items())
            or "no rows",
            is_good=((types["click"] in ("DOUBLE", "FLOAT")) == (wanted == "DOUBLE"))
            if types
            else None,
            advice="Types differ from the published ones: the files were written again by other "
            "software. Ids written as floats do not join as text ('123.0').",
        )
        _page_time(connection, found, table, details, kind)
        _missing(connection, found, table)
    for table in ("notes", "user_feat"):
        _missing(connection, found, table)
    n, n_without = connection.execute(
        "select count(*), count(*) filter (where dqa_output = '-1') from published.dqa"
    ).fetchall()[0]
    _exact(
        found,
        TYPES,
        "dqa_without_answer",
        int(found.number("counts", "dqa_without_answer")),
        n_without,
        "The number of '-1' (no answer shown) differs. Look for another sentinel in dqa_output: "
        "null, empty text, 'None'.",
    )
    n_blank = _count(
        connection,
        "select count(*) from published.dqa where dqa_output is null"
        " or trim(dqa_output) in ('', 'nan', 'None')",
    )
    found.add(
        TYPES,
        "dqa_output_sentinel",
        expected="no answer is written '-1' and in no other way",
        measured=f"{n_blank:,} of {n:,} are null, empty, 'nan' or 'None'; {n_without:,} are '-1'",
        is_good=n_blank == 0,
        advice="A second way to write no answer: these rows would count as answers shown.",
    )
    _query_sources(connection, found)


def _page_time(
    connection: "duckdb.DuckDBPyConnection", found: Findings, table: str, details: str, kind: str
) -> None:
    absent = str(found.value("types", f"{kind}_page_time_absent"))
    rows = connection.execute(
        f"""
        select coalesce(d.click > 0, false) as is_clicked, count(*),
            count(*) filter (where isnan(d.page_time::double)),
            count(*) filter (where d.page_time = 0),
            count(*) filter (where d.page_time = -1), count(*) filter (where d.page_time is null)
        from (select unnest({details}) as d from published.{table})
        group by is_clicked order by is_clicked
        """
    ).fetchall()
    words, n_other, n_all = [], 0, 0
    for is_clicked, n, n_nan, n_zero, n_minus, n_null in rows:
        counts = {"NaN": n_nan, "0": n_zero, "-1": n_minus, "null": n_null}
        n_other += sum(count for name, count in counts.items() if name != absent)
        n_all += n
        shares = ", ".join(f"{k} {percent(v / n)}" for k, v in counts.items() if v)
        words.append(f"{'clicked' if is_clicked else 'not clicked'}: {shares or 'always a time'}")
    found.add(
        TYPES,
        f"page_time_absent.{table}",
        expected=f"absent page_time is written {absent}",
        measured="; ".join(words) or "no impressions",
        is_good=n_other <= 0.01 * n_all if n_all else None,
        advice=f"page_time is absent in another way than {absent}. Turn NaN, 0, -1 and null into "
        "one "
        "null before averaging; a missing time is no short visit.",
    )


def _missing(connection: "duckdb.DuckDBPyConnection", found: Findings, table: str) -> None:
    """Shares of null, NaN and words for nothing; nothing is published to compare them with."""
    parts = []
    columns = [c for c in TABLES[table] if c.kind in ("number", "text")]
    for column in columns:
        name = column.name
        if column.kind == "text":
            test = f"{name} is null or {name} in ('', 'nan', 'None')"
        elif column.type == "DOUBLE":
            test = f"{name} is null or isnan({name})"
        else:
            test = f"{name} is null"
        parts.append(f"coalesce(avg(({test})::int), 0)")
    row = connection.execute(f"select {', '.join(parts)} from published.{table}").fetchall()[0]
    shares = sorted(
        ((share, c.name) for share, c in zip(row, columns, strict=True) if share > 0), reverse=True
    )
    keys = [c.name for c in columns if c.type == "BIGINT"]
    bad = [name for _, name in shares if name in keys]
    found.add(
        TYPES,
        f"missing.{table}",
        expected="no key missing; other shares are not published",
        measured=", ".join(f"{name} {percent(share)}" for share, name in shares[:5])
        + (f" and {len(shares) - 5} columns more" if len(shares) > 5 else "")
        or "nothing missing",
        is_good=not bad,
        advice=f"Rows without {', '.join(bad)} cannot be joined. Set them aside.",
    )


def _query_sources(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    counts = dict(
        connection.execute(
            "select query_source, count(*) from core.requests where channel = 'search'"
            " and query_source is not null group by query_source"
        ).fetchall()
    )
    n = sum(counts.values())
    expected = found.value("query_source", "shares")
    shares = [counts.get(code, 0) / n if n else 0.0 for code in range(1, 9)]
    tolerance = found.number("query_source", "tolerance")
    far = [
        code
        for code, (share, want) in enumerate(zip(shares, expected, strict=True), 1)
        if abs(share - want) > tolerance + found.margin(share, n)
    ]
    found.add(
        TYPES,
        "query_source_shares",
        expected=", ".join(f"{i} {percent(s)}" for i, s in enumerate(expected, 1))
        + f"; each within {percent(tolerance)}",
        measured=", ".join(f"{i} {percent(s)}" for i, s in enumerate(shares, 1)),
        is_good=not far and sum(shares) > 0.999 if n >= found.number("judge", "min_rows") else None,
        advice="The codes do not mean what the paper's order suggests (or there are new ones): "
        "look "
        f"at {', '.join(f'code {c}, {QUERY_SOURCES[c - 1]}' for c in far) or 'codes above 8'}.",
    )


def _cold_start(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    low, high = (found.number("bounds", f"cold_positives_{end}") for end in ("low", "high"))
    for channel, train, test in (
        ("search", "search_train", "search_test"),
        ("feed", "recommendation_train", "recommendation_test"),
    ):
        n, n_new, n_users, n_new_users, n_requests, n_new_requests = connection.execute(
            f"""
            with seen as (select distinct note_idx from exposures where source_table = '{train}'),
            users as (select distinct user_idx from core.requests where source_table = '{train}'),
            clicked as (
                select distinct request_id, note_idx from exposures
                where source_table = '{test}' and is_clicked
            ),
            asked as (select user_idx from core.requests where source_table = '{test}')
            select (select count(*) from clicked),
                (select count(*) from clicked as c anti join seen as s on c.note_idx = s.note_idx),
                (select count(distinct user_idx) from asked),
                (select count(distinct a.user_idx) from asked as a
                 anti join users as u on a.user_idx = u.user_idx),
                (select count(*) from asked),
                (select count(*) from asked as a anti join users as u on a.user_idx = u.user_idx)
            """
        ).fetchall()[0]
        share = n_new / n if n else None
        found.add(
            COLD,
            f"new_notes.{channel}",
            expected="about 44 % of the test's clicked pairs on notes never exposed in train"
            f" ({percent(low)} to {percent(high)})"
            if channel == "feed"
            else "nothing published",
            measured=f"{percent(share)} of {n:,}",
            is_good=low <= share <= high
            if channel == "feed" and share is not None and found.is_full_size
            else None,
            advice="Test and train overlap in notes otherwise than in the real log: results on new "
            "notes do not compare.",
        )
        found.add(
            COLD,
            f"new_users.{channel}",
            expected="nothing published",
            measured=f"{n_new_users:,} of {n_users:,} test users have no train request, "
            f"{n_new_requests:,} of {n_requests:,} requests",
            is_good=None,
            advice="",
        )
