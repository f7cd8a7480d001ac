"""Audit checks of the log itself: sizes, ids, labels, times, positions, types, cold start."""

from typing import TYPE_CHECKING

from qilin_dagster.audit_model import (
    CANDIDATE_LISTS,
    COLD,
    LABELS,
    LOG_TABLES,
    POSITIONS,
    SIZE,
    TIME,
    TYPES,
    Findings,
    percent,
    rows_of,
)
from qilin_dagster.sources.layout import QRELS_FILES, TABLES, TIME_FIELD

if TYPE_CHECKING:
    import duckdb

KEYS = {
    "note_idx": ("notes",),
    "user_idx": ("user_feat",),
    "search_idx": ("search_train", "search_test", "dqa"),
    "request_idx": ("recommendation_train", "recommendation_test"),
}
QUERY_SOURCES = (
    *("active search", "auto-completion", "history", "suggestion on the page"),
    *("suggestion in a result", "filter", "hot list", "other"),
)


def check_log(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    """All checks that are not about leaks; needs the tables of audit.py and ``note_values``."""
    _sizes(connection, found)
    _ids(connection, found)
    _sessions(connection, found)
    _labels(connection, found)
    _times(connection, found)
    _positions(connection, found)
    _types(connection, found)
    _cold_start(connection, found)


def _count(connection: "duckdb.DuckDBPyConnection", sql: str) -> int:
    return int(connection.execute(sql).fetchall()[0][0] or 0)


def _for_example(connection: "duckdb.DuckDBPyConnection", sql: str) -> str:
    """The first rows of a query of one text column, as the end of a sentence; empty without."""
    found = [str(row[0]) for row in connection.execute(f"{sql} limit 3").fetchall()]
    return f"; for example {'; '.join(found)}" if found else ""


def _exact(
    found: Findings, subject: str, name: str, expected: int, n: int, *, about: str, advice: str
) -> bool:
    """A count of the published release, judged on nothing else; True when it is met."""
    why_not = found.why_counts_are_not_judged
    found.add(
        subject,
        name,
        about=about,
        expected=f"{expected:,}" + (f" in the published release ({why_not})" if why_not else ""),
        measured=f"{n:,}",
        value=n,
        is_good=None if why_not else n == expected,
        advice=advice,
    )
    return n == expected


def _sizes(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    for table in TABLES:
        _exact(
            found,
            SIZE,
            f"rows.{table}",
            int(found.number("rows", table)),
            _count(connection, f"select count(*) from published.{table}"),
            about=f"Is {table} complete?",
            advice="Shards are missing or there are too many, or this is another release. Compare "
            "the file names, train-0000k-of-0000n, with the data card.",
        )
    n = _count(connection, "select sum(n) from lists")
    expected = int(found.number("counts", "impressions"))
    tolerance = found.number("counts", "impressions_tolerance")
    why_not = found.why_counts_are_not_judged
    found.add(
        SIZE,
        "impressions",
        about="Does the log show as many notes as the paper counts?",
        expected=f"{expected:,}, within {percent(tolerance)}"
        if why_not is None
        else f"{expected:,} in the published release ({why_not})",
        measured=f"{n:,}",
        value=n,
        is_good=abs(n - expected) <= tolerance * expected if why_not is None else None,
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
        about="Is note_idx the row of notes, so that both number the same note?",
        expected="note_idx equals the row of notes, counted from 0 over all files",
        measured=f"{rows_of(n_bad)} differ"
        + _for_example(
            connection,
            "select 'note_idx ' || coalesce(note_idx::varchar, 'null') || ' in row ' || row_number"
            " from published.notes where note_idx is distinct from row_number order by row_number",
        )
        if n_bad
        else "0 rows differ",
        value=n_bad,
        is_good=n_bad == 0,
        advice="Rows were added, or shards are missing or in another order. Never take a note by "
        "row number; join by note_idx.",
    )
    for column, tables in KEYS.items():
        union = " union all ".join(
            f"select {column}, '{table}' as source, row_number from published.{table}"
            for table in tables
        )
        # Ids that are the row numbers are unique without being counted.
        n_twice = (
            _count(connection, f"select count(*) - count(distinct {column}) from ({union})")
            if column != "note_idx" or n_bad
            else 0
        )
        found.add(
            SIZE,
            f"unique.{column}",
            about=f"Is each {column} given once in {', '.join(tables)}?",
            expected=f"no {column} twice (or missing) in {', '.join(tables)}",
            measured=f"{rows_of(n_twice)} too many"
            + _for_example(
                connection,
                f"select '{column} ' || coalesce({column}::varchar, 'null') || ' in '"
                " || string_agg(source || ' row ' || row_number, ' and '"
                " order by source, row_number)"
                f" from ({union}) group by {column} having count(*) > 1 or {column} is null"
                f" order by {column}",
            )
            if n_twice
            else "0 rows too many",
            value=n_twice,
            is_good=n_twice == 0,
            advice=f"Rows of one {column} would be joined with each other and counted more than "
            "once. Find the doubled rows and keep one of each.",
        )
    n_shown, n_unknown = connection.execute(
        """
        select sum(n_search + n_feed + n_dqa)::bigint,
            sum(n_search + n_feed + n_dqa) filter (where not is_known)::bigint
        from note_values
        """
    ).fetchall()[0]
    n_asked, n_of_nobody = connection.execute(
        """
        select count(*), count_if(u.user_idx is null)
        from asked as a left join (select distinct user_idx from published.user_feat) as u
            on a.user_idx = u.user_idx
        """
    ).fetchall()[0]
    unknown_notes = (
        "select distinct 'note ' || e.note_idx || ' in ' || a.source_table"
        " || ' row ' || a.row_number"
        " from exposures as e inner join asked as a on e.request_id = a.request_id"
        " anti join published.notes as o on e.note_idx = o.note_idx order by all"
    )
    unknown_users = (
        "select distinct 'user ' || coalesce(a.user_idx::varchar, 'null')"
        " || ' in ' || a.source_table || ' row ' || a.row_number"
        " from asked as a anti join published.user_feat as u on a.user_idx = u.user_idx"
        " order by all"
    )
    for column, table, n_missing, n, what, example in (
        ("note_idx", "notes", n_unknown, n_shown, "impressions", unknown_notes),
        ("user_idx", "user_feat", n_of_nobody, n_asked, "requests", unknown_users),
    ):
        found.add(
            SIZE,
            f"known.{column}",
            about=f"Is every {column} of the log in {table}?",
            expected=f"every {column} of the log is in {table}",
            measured=f"{n_missing or 0:,} of {n or 0:,} {what} name one that is not there"
            + (_for_example(connection, example) if n_missing else ""),
            value=n_missing or 0,
            is_good=not n_missing,
            advice=f"Rows whose {column} is not in {table} are lost in an inner join. Join left, "
            "or find the missing shard.",
        )


def _sessions(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    n_users = _count(
        connection,
        "select count(*) from (select app_session_idx from asked"
        " group by app_session_idx having count(distinct user_idx) > 1)",
    )
    found.add(
        SIZE,
        "session_has_one_user",
        about="Does session_idx name a session of one user?",
        expected="no session_idx belongs to more than one user",
        measured=f"{n_users:,} belong to more"
        + _for_example(
            connection,
            "select 'session ' || app_session_idx || ' of users '"
            " || string_agg(distinct user_idx, ' and ' order by user_idx) from asked"
            " group by app_session_idx having count(distinct user_idx) > 1 order by all",
        ),
        value=n_users,
        is_good=n_users == 0,
        advice="session_idx alone is no key: group by (user_idx, session_idx).",
    )
    n, n_both, n_dqa, n_dqa_feed = connection.execute(
        """
        with sessions as (
            select bool_or(source_table in ('search_train', 'search_test')) as has_search,
                bool_or(source_table = 'dqa') as has_dqa,
                bool_or(channel <> 'search') as has_feed
            from asked group by user_idx, app_session_idx
        )
        select count(*), count_if(has_search and has_feed), count_if(has_search and has_dqa),
            count_if(has_feed and has_dqa)
        from sessions
        """
    ).fetchall()[0]
    found.add(
        SIZE,
        "sessions_in_both_channels",
        about="Is session_idx shared between search, feed and the answer sample?",
        expected="nothing published; app sessions over both channels would be needed for "
        "transitions by app session",
        measured=f"of {n:,} sessions {n_both:,} hold searches and feed requests, {n_dqa:,} "
        f"searches of dqa and of the search tables, {n_dqa_feed:,} searches of dqa and feed "
        "requests",
        value=n_both,
        is_good=None,
        advice="",
    )


def _labels(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    for table, n, n_without in connection.execute(
        """
        select a.source_table, count(*), count_if(coalesce(l.n_clicked, 0) = 0)
        from asked as a left join lists as l on a.request_id = l.request_id
        group by a.source_table order by a.source_table
        """
    ).fetchall():
        if table == "dqa":
            _exact(
                found,
                LABELS,
                "requests_without_click.dqa",
                int(found.number("counts", "requests_without_click_dqa")),
                n_without,
                about="How many requests of dqa, the only table that has them, lack a click?",
                advice="The answer sample is another than the one the paper describes.",
            )
            continue
        found.add(
            LABELS,
            f"requests_without_click.{table}",
            about=f"Does every request of {table} have a click?",
            expected="0: the release keeps only requests with a click",
            measured=f"{n_without:,} of {n:,}"
            + _for_example(
                connection,
                "select 'row ' || a.row_number from asked as a"
                " left join lists as l on a.request_id = l.request_id"
                f" where a.source_table = '{table}' and coalesce(l.n_clicked, 0) = 0"
                " order by a.row_number",
            )
            if n_without
            else f"0 of {n:,}",
            value=n_without,
            is_good=n_without == 0,
            advice="Click rates given at least one click do not compare with these rows. Leave "
            "them out, or name the selection beside every rate; metrics have no label for them.",
        )
    most = found.number("bounds", "repeats")
    for table, n, n_repeats in connection.execute(
        "select source_table, sum(n), sum(n_repeats) from lists"
        " group by source_table order by source_table"
    ).fetchall():
        share = n_repeats / n
        found.add(
            LABELS,
            f"repeats.{table}",
            about=f"How often does a note come again in one request of {table}?",
            expected=f"at most {percent(most)}"
            + ("; 1.7 to 2.8 % published" if table.startswith("rec") else "; nothing published"),
            measured=f"{percent(share)} ({n_repeats:,})",
            value=share,
            is_good=share <= most + found.margin(share, n)
            if n >= found.number("judge", "min_rows")
            else None,
            advice="The same note comes more than once in a request. Keep one row of each "
            "(request, note) with the highest label, or clicks count twice and a note is both "
            "right and wrong.",
        )
    are_published = [_qrels(connection, found, table) for table in QRELS_FILES]
    _release(found, all(are_published))


def _qrels(connection: "duckdb.DuckDBPyConnection", found: Findings, table: str) -> bool:
    """Clicks against the official labels; True when they are as many as in the release."""
    connection.execute(
        """
        create or replace temp table labels as
        select distinct 'log' as side, a.row_number, e.note_idx
        from exposures as e inner join asked as a on e.request_id = a.request_id
        where a.source_table = $t and e.is_clicked
        union all
        select distinct 'file' as side, row_number, note_idx
        from published.qrels where source_table = $t
        """,
        {"t": table},
    )
    n_log, n_file, n_common = connection.execute(
        """
        select count_if(side = 'log'), count_if(side = 'file'),
            (select count(*) from (
                select row_number, note_idx from labels group by all having count(*) = 2))
        from labels
        """
    ).fetchall()[0]
    is_published = _exact(
        found,
        LABELS,
        f"clicked_pairs.{table}",
        int(found.number("labels", table)),
        n_log,
        about=f"Has {table} the clicks that the official label file was made of?",
        advice="The clicks of this table are not those the label files were made of. Compare the "
        "release.",
    )
    about = f"Do the official labels name the clicked notes of {table}, row by row?"
    expected = "the clicks of the log, pair by pair"
    if not n_file:
        found.add(
            LABELS,
            f"official_labels.{table}",
            about=about,
            expected=expected,
            measured=f"no {QRELS_FILES[table]} beside the data",
            is_good=None,
            advice="",
        )
        return is_published
    # An older file holds the same sets of notes under other row numbers.
    n_sets, n_same_sets = connection.execute(
        """
        with sets as (
            select side, row_number, list(note_idx order by note_idx) as notes
            from labels group by side, row_number
        ),
        counted as (
            select notes, count_if(side = 'log') as n_log, count_if(side = 'file') as n_file
            from sets group by notes
        )
        select sum(n_log), sum(least(n_log, n_file)) from counted
        """
    ).fetchall()[0]
    is_equal = n_common == n_log == n_file
    is_reordered = not is_equal and n_same_sets == n_sets and n_file == n_log
    found.add(
        LABELS,
        f"official_labels.{table}",
        about=about,
        expected=expected,
        measured=f"equal: all {n_log:,} pairs"
        if is_equal
        else f"{n_common:,} of the log's {n_log:,} pairs"
        + (
            ", the same sets of notes in another row order: an OLDER FILE"
            if is_reordered
            else f" are among the file's {n_file:,}; {n_same_sets:,} of {n_sets or 0:,} rows have "
            "the same set of notes"
        ),
        value=n_common / max(n_log, n_file),
        is_good=is_equal,
        advice=f"{QRELS_FILES[table]} numbers the rows of an earlier release (before 17 April "
        "2025): every metric would be near 0. Take the present file, or label from the clicks."
        if is_reordered
        else f"{QRELS_FILES[table]} does not label this table: qid must be the row of the table "
        "from 0, in its published order. Was the table filtered or sorted, or are there doubled "
        "ids (unique.*)? Label from the clicks.",
    )
    return is_published


def _release(found: Findings, has_its_clicks: bool) -> None:
    """A twin.json beside the published files would switch off the counts: that is an alarm."""
    found.add(
        SIZE,
        "is_what_it_says",
        about="Is this the published release, a part of it, or a synthetic twin?",
        expected="a twin.json beside a twin only",
        measured="twin.json says that this is a synthetic twin"
        + (", but it has exactly the clicks of the published release" if has_its_clicks else "")
        if found.is_twin
        else "no twin.json, of the size of the published release"
        if found.is_full_size
        else "no twin.json, smaller than the published release",
        is_good=not has_its_clicks if found.is_twin else True if found.is_full_size else None,
        advice="A twin.json lies beside real data. Remove it: it keeps the counts of the release "
        "from being judged, and reports call the rows synthetic.",
    )


def _times(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    names = {1_000_000: "seconds", 1_000: "milliseconds", 1: "microseconds"}
    clocks = {
        table: (ticks, ahead_s, evidence)
        for table, ticks, ahead_s, evidence in connection.execute(
            "select source_table, microseconds_per_tick, ahead_s, evidence from published.clock"
        ).fetchall()
    }
    for table in LOG_TABLES:
        wanted = "milliseconds" if table.startswith("rec") else "seconds"
        unit = names[clocks[table][0]]
        found.add(
            TIME,
            f"clock_unit.{table}",
            about=f"In which unit does {table} write its times?",
            expected=wanted,
            measured=unit,
            is_good=unit == wanted,
            advice="The unit differs from the published one. The build reads it by magnitude; code "
            "of your own that divides by a fixed 1000 is wrong here.",
        )
    _, ahead_s, evidence = clocks["search_test"]
    ahead = found.number("time", "search_ahead_h")
    found.add(
        TIME,
        "search_clock_ahead",
        about="How far does the clock of search run ahead of that of the feed?",
        expected=f"{ahead:g} h before the feed's clock",
        measured=f"{ahead_s / 3600:g} h ({evidence})",
        value=ahead_s / 3600,
        is_good="UNDECIDED" not in evidence and ahead_s == round(ahead * 3600),
        advice="The two channels' clocks do not stand as expected: histories, sessions and "
        "transitions across channels depend on it. Find out, then give "
        "qilin build --search-clock-offset HOURS.",
    )
    _log_day(connection, found)
    _hours(connection, found)
    longest = found.number("bounds", "requests_over_30_minutes")
    for table, n, n_long in connection.execute(
        "select source_table, count(*), count_if(span_s > 1800) from lists"
        " group by source_table order by source_table"
    ).fetchall():
        found.add(
            TIME,
            f"requests_over_30_minutes.{table}",
            about=f"Do the times within a request of {table} lie close together?",
            expected=f"at most {percent(longest)}; the true share is not published",
            measured=f"{percent(n_long / n)} of requests span more than 30 minutes",
            value=n_long / n,
            is_good=n_long / n <= longest + found.margin(n_long / n, n)
            if n >= found.number("judge", "min_rows")
            else None,
            advice="Times inside a request are hours apart. Take the earliest as its time, and "
            "split whole requests, never impressions, by time.",
        )


def _log_day(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    day, hour = str(found.value("time", "log_day")), int(found.number("time", "test_begins_h"))
    stale = found.number("bounds", "stale_times")
    before = found.number("time", "test_before_share")
    for table, n, n_null, first, last, n_other_day, n_before in connection.execute(
        """
        select source_table, count(*),
            count_if(started_at is null),
            strftime(min(started_at) + interval 8 hours, '%d %b %H:%M'),
            strftime(max(started_at) + interval 8 hours, '%d %b %H:%M'),
            count_if((started_at + interval 8 hours)::date <> $day::date),
            count_if((started_at + interval 8 hours) < $day::timestamp + to_hours($hour))
        from asked group by source_table order by source_table
        """,
        {"day": day, "hour": hour},
    ).fetchall():
        enough = n >= found.number("judge", "min_rows")
        found.add(
            TIME,
            f"log_day.{table}",
            about=f"Does {table} lie on the one day of the log?",
            expected=f"{day} in China, at most {percent(stale)} of requests on other days",
            measured=f"{first} to {last}, {percent(n_other_day / n)} on other days, "
            f"{n_null:,} without time",
            value=n_other_day / n,
            is_good=n_other_day / n <= stale + found.margin(n_other_day / n, n) if enough else None,
            advice="Requests lie outside the log day: another release, or a wrong clock. Look at "
            "the hours before splitting by time.",
        )
        if table.endswith("_test"):
            found.add(
                TIME,
                f"test_is_late.{table}",
                about=f"Does {table} lie after train?",
                expected=f"at most {percent(before)} of requests begin before {hour}:00",
                measured=percent(n_before / n),
                value=n_before / n,
                is_good=n_before / n <= before + found.margin(n_before / n, n) if enough else None,
                advice="Test is not after train: what is learnt on train may know the test. Split "
                "by the start of the request instead of by the published tables.",
            )


def _hours(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    by_channel: dict[str, dict[int, int]] = {"search": {}, "feed": {}}
    for channel, hour, n in connection.execute(
        """
        select case when channel = 'search' then 'search' else 'feed' end as channel,
            hour(started_at + interval 8 hours) as hour_of_day, count(*)
        from asked where started_at is not null group by all order by all
        """
    ).fetchall():
        by_channel[channel][hour] = n
    for channel, counts in by_channel.items():
        n = sum(counts.values())
        found.add(
            TIME,
            f"hours.{channel}",
            about=f"At which hours of China's clock do requests of {channel} begin?",
            expected="nothing published; a wrong clock shows as a night full of requests",
            measured=", ".join(f"{hour}h {counts[hour] / n:.0%}" for hour in sorted(counts))
            or "no request has a time",
            is_good=None,
            advice="",
        )
    overlap = connection.execute(
        """
        select greatest(0, epoch(least(max(started_at) filter (where channel = 'search'),
                max(started_at) filter (where channel <> 'search'))
            - greatest(quantile_disc(started_at, 0.02) filter (where channel = 'search'),
                quantile_disc(started_at, 0.02) filter (where channel <> 'search'))) / 3600)
        from asked where split <> 'dqa'
        """
    ).fetchall()[0][0]
    least = found.number("time", "channels_overlap_h")
    found.add(
        TIME,
        "channels_overlap",
        about="Do search and feed run over the same hours?",
        expected=f"at least {least:g} h in which both have requests"
        + ("" if found.is_full_size else " (not judged: smaller than the published release)"),
        measured=f"{overlap or 0:.1f} h",
        value=overlap or 0,
        is_good=(overlap or 0) >= least if found.is_full_size else None,
        advice="Search and feed hardly overlap in time: a clock is wrong, or tables are of "
        "different days. Draw no transition between channels.",
    )


def _positions(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    deepest = found.number("positions", "deepest")
    for table, n, n_null, n_negative, n_zero, first, last, n_gaps, n_steps in connection.execute(
        """
        select source_table, sum(n), sum(n_no_place), sum(n_negative_place), sum(n_place_zero),
            min(first_place), max(last_place), sum(n_gaps), sum(n_steps)
        from lists group by source_table order by source_table
        """
    ).fetchall():
        is_good = not n_null and not n_negative and (last or 0) <= deepest
        found.add(
            POSITIONS,
            f"position.{table}",
            about=f"Are the positions of {table} possible places on a page?",
            expected=f"0 to {deepest:,.0f}, none missing; gaps and zeros exist",
            measured=f"{first} to {last}, {n_null:,} missing, {n_negative:,} negative, {n_zero:,} "
            f"zeros, gaps in {percent(n_gaps / n_steps if n_steps else 0)} of {n:,}"
            + (
                ""
                if is_good
                else _for_example(
                    connection,
                    "select distinct coalesce(e.\"position\"::varchar, 'none') || ' in row '"
                    " || a.row_number from exposures as e"
                    " inner join asked as a on e.request_id = a.request_id"
                    f" where a.source_table = '{table}' and (e.\"position\" is null"
                    f' or e."position" < 0 or e."position" > {deepest}) order by all',
                )
            ),
            value=n_null + n_negative,
            is_good=is_good,
            advice="Positions are missing or impossible. Set these impressions aside; position "
            "bias and display order cannot be computed with them.",
        )
    most = found.number("positions", "unordered_lists")
    for table, column in CANDIDATE_LISTS.items():
        connection.execute(
            f"""
            create or replace temp table compared as
            with shown as (
                select request_id, list(distinct note_idx) as notes
                from exposures group by request_id
            )
            select a.row_number, l.{column} is not null as is_listed,
                l.{column} is not null and list_sort(list_distinct(l.{column}))
                    is distinct from list_sort(s.notes) as differs
            from published.{table} as l
            inner join asked as a on l.row_number = a.row_number and a.source_table = '{table}'
            left join shown as s on a.request_id = s.request_id
            """
        )
        n, n_listed, n_differ = connection.execute(
            "select count(*), count_if(is_listed), count_if(differs) from compared"
        ).fetchall()[0]
        example = "select 'row ' || row_number from compared where differs order by row_number"
        found.add(
            POSITIONS,
            f"candidates_are_shown.{column}",
            about=f"Does {column} hold just the notes that {table} shows?",
            expected="the same notes as the impressions of the request",
            measured=f"{n_differ:,} of {n:,} requests differ"
            + (_for_example(connection, example) if n_differ else "")
            if n_listed
            else f"there is no column {column}",
            value=n_differ / n if n_listed else None,
            is_good=n_differ <= most * n if n_listed else None,
            advice=f"{column} holds other notes than were shown: clicked notes may be missing from "
            "the candidates, or unlabelled ones among them. Take candidates from the impressions.",
        )


def _types(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    for table in LOG_TABLES:
        kind = table.partition("_")[0]
        details = next(c.name for c in TABLES[table] if c.kind == "impressions")
        types = dict(
            connection.execute(
                "select unnest(['click', 'position', 'page_time', 'time']),"
                " unnest([typeof(d.click), typeof(d.position), typeof(d.page_time),"
                f" typeof(d.{TIME_FIELD[table]})])"
                f" from (select {details}[1] as d from published.{table} limit 1)"
            ).fetchall()
        )
        is_float = kind == "search"
        found.add(
            TYPES,
            f"types.{table}",
            about=f"Are the numbers of {table} written in the published types?",
            expected=f"click and position {'floats' if is_float else 'integers'}",
            measured=", ".join(f"{name} {type_.lower()}" for name, type_ in types.items())
            or "no rows",
            is_good=(types["click"] in ("DOUBLE", "FLOAT")) == is_float if types else None,
            advice="Types differ from the published ones: the files were written again by other "
            "software. Ids written as floats do not join as text ('123.0').",
        )
        _page_time(connection, found, table, details, kind)
    for table in TABLES:
        _missing(connection, found, table)
    _answers(connection, found)
    _query_sources(connection, found)


def _page_time(
    connection: "duckdb.DuckDBPyConnection", found: Findings, table: str, details: str, kind: str
) -> None:
    absent = str(found.value("types", f"{kind}_page_time_absent"))
    rows = connection.execute(
        f"""
        select coalesce(d.click > 0, false) as is_clicked, count(*),
            count_if(isnan(d.page_time::double)), count_if(d.page_time = 0),
            count_if(d.page_time = -1), count_if(d.page_time is null)
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
        about=f"How does {table} write that no page_time was logged?",
        expected=f"absent page_time is written {absent}",
        measured="; ".join(words) or "no impressions",
        value=n_other / n_all if n_all else None,
        is_good=n_other <= 0.01 * n_all if n_all else None,
        advice=f"page_time is absent in another way than {absent}. Turn NaN, 0, -1 and null into "
        "one null before averaging; a missing time is no short visit.",
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
        parts.append(f"count_if({test})")
    n, *counts = connection.execute(
        f"select count(*), {', '.join(parts)} from published.{table}"
    ).fetchall()[0]
    shares = sorted(
        (
            (count / max(n, 1), c.name)
            for count, c in zip(counts, columns, strict=True)
            if count > 0
        ),
        reverse=True,
    )
    keys = [c.name for c in columns if c.type == "BIGINT"]
    bad = [name for _, name in shares if name in keys]
    found.add(
        TYPES,
        f"missing.{table}",
        about=f"What is missing in {table}: null, NaN, blank, 'nan' or 'None'?",
        expected="no key missing; other shares are not published",
        measured=", ".join(f"{name} {percent(share)}" for share, name in shares)
        or "nothing missing",
        value=sum(share for share, name in shares if name in keys),
        is_good=not bad,
        advice=f"Rows without {', '.join(bad)} cannot be joined. Set them aside.",
    )


def _answers(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    n, n_without, n_blank = connection.execute(
        """
        select count(*), count_if(dqa_output = '-1'),
            count_if(dqa_output is null or trim(dqa_output) in ('', 'nan', 'None'))
        from published.dqa
        """
    ).fetchall()[0]
    _exact(
        found,
        TYPES,
        "dqa_without_answer",
        int(found.number("counts", "dqa_without_answer")),
        n_without,
        about="How many searches of dqa were shown no answer, written '-1'?",
        advice="The number of '-1' (no answer shown) differs. Look for another sentinel in "
        "dqa_output: null, empty text, 'None'.",
    )
    found.add(
        TYPES,
        "dqa_output_sentinel",
        about="Is there one way only to write that no answer was shown?",
        expected="no answer is written '-1' and in no other way",
        measured=f"{n_blank:,} of {n:,} are null, empty, 'nan' or 'None'; {n_without:,} are '-1'",
        value=n_blank,
        is_good=n_blank == 0,
        advice="A second way to write no answer: these rows would count as answers shown.",
    )


def _query_sources(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    counts = dict(
        connection.execute(
            "select query_source, count(*) from asked where channel = 'search'"
            " and query_source is not null group by query_source"
        ).fetchall()
    )
    n = sum(counts.values())
    expected = found.value("query_source", "shares")
    shares = [counts.get(code, 0) / n if n else 0.0 for code in range(1, 9)]
    tolerance = found.number("query_source", "tolerance")
    differences = [abs(share - want) for share, want in zip(shares, expected, strict=True)]
    far = [
        code
        for code, difference in enumerate(differences, 1)
        if difference > tolerance + found.margin(shares[code - 1], n)
    ]
    n_unknown = n - sum(counts.get(code, 0) for code in range(1, 9))
    found.add(
        TYPES,
        "query_source_shares",
        about="Do the codes of query_from_type mean what the paper's shares suggest?",
        expected=", ".join(f"code {i} {percent(s)}" for i, s in enumerate(expected, 1))
        + f"; each within {percent(tolerance)}",
        measured=", ".join(f"code {i} {percent(s)}" for i, s in enumerate(shares, 1))
        + (f"; {n_unknown:,} with other codes" if n_unknown else ""),
        value=max(differences),
        is_good=not far and n_unknown <= 0.001 * n
        if n >= found.number("judge", "min_rows")
        else None,
        advice="The codes do not mean what the paper's order suggests (or there are new ones): "
        f"look at {', '.join(f'code {c}, {QUERY_SOURCES[c - 1]}' for c in far) or 'codes above 8'}"
        ".",
    )


def _cold_start(connection: "duckdb.DuckDBPyConnection", found: Findings) -> None:
    low, high = (found.number("bounds", f"cold_positives_{end}") for end in ("low", "high"))
    for channel, train, test in (
        ("search", "search_train", "search_test"),
        ("feed", "recommendation_train", "recommendation_test"),
    ):
        n_train, c_test = ("n0", "c1") if channel == "search" else ("n2", "c3")
        n, n_new = connection.execute(
            f"select sum({c_test}), sum({c_test}) filter (where {n_train} = 0) from note_values"
        ).fetchall()[0]
        n_users, n_new_users, n_requests, n_new_requests = connection.execute(
            f"""
            with counted as (
                select user_idx, count_if(source_table = '{train}') as n_train,
                    count_if(source_table = '{test}') as n_test
                from asked group by user_idx
            )
            select count_if(n_test > 0), count_if(n_test > 0 and n_train = 0),
                sum(n_test), coalesce(sum(n_test) filter (where n_train = 0), 0)
            from counted
            """
        ).fetchall()[0]
        share = (n_new or 0) / n if n else None
        is_judged = channel == "feed" and share is not None and found.is_full_size
        found.add(
            COLD,
            f"new_notes.{channel}",
            about=f"How many clicks of {test} are on notes that {train} never showed?",
            expected="about 44 % of the test's clicks on notes never exposed in train"
            f" ({percent(low)} to {percent(high)})"
            + ("" if found.is_full_size else " (not judged: smaller than the published release)")
            if channel == "feed"
            else "nothing published",
            measured=f"{percent(share)} of {n or 0:,}",
            value=share,
            is_good=low <= share <= high if is_judged and share is not None else None,
            advice="Test and train overlap in notes otherwise than in the real log: results on new "
            "notes do not compare.",
        )
        found.add(
            COLD,
            f"new_users.{channel}",
            about=f"How many users of {test} are not in {train}?",
            expected="nothing published",
            measured=f"{n_new_users:,} of {n_users:,} test users have no train request, "
            f"{n_new_requests:,} of {n_requests:,} requests",
            value=n_new_users / n_users if n_users else None,
            is_good=None,
            advice="",
        )
