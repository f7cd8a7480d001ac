-- Entries of the nested lists that make their request unusable: the rules for one impression.
--
-- Missing is not unusable: an absent dwell (NaN, null, 0 or -1), an absent time and absent feedback
-- are nulls further on. A value that cannot be is: below zero, beyond every bound, or infinite.
-- A request without candidates has one row here too, with the number 1 and nothing in it.
--
-- Times are judged by the log itself, never by the clock of the machine: published.clock holds the
-- earliest and the latest time that can belong to a table.
-- A note is unknown only where the table of notes is whole: its ids run from 0 without gaps (up to
-- one in a hundred may lack) and at most one request in ten names an id beyond them. In a sample of
-- notes nearly every request does, and then nothing is called unknown. An id within the range that
-- lacks its note stays; core.impressions warns of undescribed notes.

create or replace table quarantine.impressions as
with search_train_entries as (
    -- An empty list and a null one give one null entry, so that their rows are not lost.
    select
        row_number,
        array_length(search_result_details_with_idx) as n_entries,
        generate_subscripts(
            coalesce(nullif(search_result_details_with_idx, []), [null]), 1
        ) as impression_n,
        unnest(coalesce(nullif(search_result_details_with_idx, []), [null])) as detail
    from published.search_train
),

search_test_entries as (
    select
        row_number,
        array_length(search_result_details_with_idx) as n_entries,
        generate_subscripts(
            coalesce(nullif(search_result_details_with_idx, []), [null]), 1
        ) as impression_n,
        unnest(coalesce(nullif(search_result_details_with_idx, []), [null])) as detail
    from published.search_test
),

dqa_entries as (
    select
        row_number,
        array_length(search_result_details_with_idx) as n_entries,
        generate_subscripts(
            coalesce(nullif(search_result_details_with_idx, []), [null]), 1
        ) as impression_n,
        unnest(coalesce(nullif(search_result_details_with_idx, []), [null])) as detail
    from published.dqa
),

recommendation_train_entries as (
    select
        row_number,
        array_length(rec_result_details_with_idx) as n_entries,
        generate_subscripts(
            coalesce(nullif(rec_result_details_with_idx, []), [null]), 1
        ) as impression_n,
        unnest(coalesce(nullif(rec_result_details_with_idx, []), [null])) as detail
    from published.recommendation_train
),

recommendation_test_entries as (
    select
        row_number,
        array_length(rec_result_details_with_idx) as n_entries,
        generate_subscripts(
            coalesce(nullif(rec_result_details_with_idx, []), [null]), 1
        ) as impression_n,
        unnest(coalesce(nullif(rec_result_details_with_idx, []), [null])) as detail
    from published.recommendation_test
),

entries as (
    select
        'search_train' as source_table,
        row_number,
        impression_n,
        n_entries,
        detail is null as is_null,
        detail.note_idx as note_idx,
        detail."position" as "position",
        detail.click as click,
        detail."like" as "like",
        detail.collect as collect,
        detail."comment" as "comment",
        detail."share" as "share",
        detail.page_time as page_time,
        detail.search_timestamp as ticks
    from search_train_entries
    union all
    select
        'search_test' as source_table,
        row_number,
        impression_n,
        n_entries,
        detail is null as is_null,
        detail.note_idx as note_idx,
        detail."position" as "position",
        detail.click as click,
        detail."like" as "like",
        detail.collect as collect,
        detail."comment" as "comment",
        detail."share" as "share",
        detail.page_time as page_time,
        detail.search_timestamp as ticks
    from search_test_entries
    union all
    select
        'dqa' as source_table,
        row_number,
        impression_n,
        n_entries,
        detail is null as is_null,
        detail.note_idx as note_idx,
        detail."position" as "position",
        detail.click as click,
        detail."like" as "like",
        detail.collect as collect,
        detail."comment" as "comment",
        detail."share" as "share",
        detail.page_time as page_time,
        detail.search_timestamp as ticks
    from dqa_entries
    union all
    select
        'recommendation_train' as source_table,
        row_number,
        impression_n,
        n_entries,
        detail is null as is_null,
        detail.note_idx as note_idx,
        detail."position" as "position",
        detail.click as click,
        detail."like" as "like",
        detail.collect as collect,
        detail."comment" as "comment",
        detail."share" as "share",
        detail.page_time as page_time,
        detail.request_timestamp as ticks
    from recommendation_train_entries
    union all
    select
        'recommendation_test' as source_table,
        row_number,
        impression_n,
        n_entries,
        detail is null as is_null,
        detail.note_idx as note_idx,
        detail."position" as "position",
        detail.click as click,
        detail."like" as "like",
        detail.collect as collect,
        detail."comment" as "comment",
        detail."share" as "share",
        detail.page_time as page_time,
        detail.request_timestamp as ticks
    from recommendation_test_entries
),

published_requests as (
    select count(*) as n_requests from published.search_train
    union all
    select count(*) as n_requests from published.search_test
    union all
    select count(*) as n_requests from published.dqa
    union all
    select count(*) as n_requests from published.recommendation_train
    union all
    select count(*) as n_requests from published.recommendation_test
),

sizes as (
    select sum(n_requests) as n_requests
    from published_requests
),

good_notes as (
    select
        count(*) as n_notes,
        coalesce(max(note_idx), 0) as last_note_idx
    from published.notes
    where row_number not in (select q.row_number from quarantine.notes as q)
),

bounds as (
    select
        c.source_table,
        c.microseconds_per_tick,
        c.ahead_s,
        c.earliest_s,
        c.latest_s,
        -- Beyond every id where the notes are no whole table.
        case
            when n.n_notes >= 0.99 * (n.last_note_idx + 1) then n.last_note_idx
            else 9e18
        end as last_note_idx
    from published.clock as c
    cross join good_notes as n
),

timed as (
    select
        e.source_table,
        e.row_number,
        e.impression_n,
        e.n_entries,
        e.is_null,
        e.note_idx,
        e."position",
        e.click,
        e."like",
        e.collect,
        e."comment",
        e."share",
        e.page_time,
        e.ticks,
        -- As a double, in which no tick overflows; the offset of the clock is part of the bounds.
        case when not isnan(e.ticks) then e.ticks * (b.microseconds_per_tick / 1000000.0) end
            as clock_s,
        b.earliest_s + b.ahead_s as earliest_s,
        b.latest_s + b.ahead_s as latest_s,
        b.last_note_idx
    from entries as e
    inner join bounds as b on e.source_table = b.source_table
),

-- Nearly all entries are done with here; the rules that follow say what is wrong with the rest.
suspicious as (
    select
        source_table,
        row_number,
        impression_n,
        n_entries,
        is_null,
        note_idx,
        "position",
        click,
        "like",
        collect,
        "comment",
        "share",
        page_time,
        ticks,
        clock_s,
        earliest_s,
        latest_s,
        last_note_idx
    from timed
    where
        not coalesce(
            note_idx between 0 and last_note_idx
            and note_idx = floor(note_idx)
            and "position" between 0 and 100000
            and "position" = floor("position")
            and click in (0, 1)
            and "like" in (0, 1)
            and collect in (0, 1)
            and "comment" in (0, 1)
            and "share" in (0, 1)
            and clock_s between earliest_s and latest_s
            and (page_time between 0 and 86400 or page_time = -1 or isnan(page_time)),
            false
        )
),

judged as (
    select
        source_table,
        row_number,
        impression_n,
        note_idx,
        "position",
        click,
        "like",
        collect,
        "comment",
        "share",
        page_time,
        ticks,
        case
            when n_entries is null then 'no candidates: the list is null'
            when n_entries = 0 then 'no candidates: the list is empty'
            when is_null then 'an entry of the list is null'
            when note_idx is null or isnan(note_idx) then 'note is missing'
            when note_idx < 0 then 'negative note'
            when note_idx > 1000000000000000 or note_idx <> floor(note_idx)
                then 'note is not a whole number'
            when "position" is null or isnan("position") then 'position is missing'
            when "position" < 0 then 'negative position'
            when "position" > 100000 then 'absurd position'
            when "position" <> floor("position") then 'position is not a whole number'
            when click is null or isnan(click) then 'click is not a number'
            when click <> 0 and click <> 1 then 'click is neither 0 nor 1'
            when "like" < -1 or collect < -1 or "comment" < -1 or "share" < -1
                then 'negative feedback'
            when
                "like" = 'infinity' or collect = 'infinity' or "comment" = 'infinity'
                or "share" = 'infinity'
                then 'infinite feedback'
            when clock_s < 31536000 then 'time of 1970'
            when clock_s < earliest_s then 'time long before the log'
            when clock_s > latest_s then 'time in the future'
            when isinf(page_time) then 'infinite viewing time'
            when page_time < 0 and page_time <> -1 then 'negative viewing time'
            when page_time > 86400 and not isnan(page_time) then 'absurd viewing time'
            when note_idx > last_note_idx then 'unknown note'
        end as reason
    from suspicious
),

faulty as (
    select
        source_table,
        row_number,
        impression_n,
        reason,
        case
            when reason like '%note%' then 'note_idx = ' || cast(note_idx as varchar)
            when reason like '%position%' then 'position = ' || cast("position" as varchar)
            when reason like 'click%' then 'click = ' || cast(click as varchar)
            when reason like '%feedback'
                then
                    'like, collect, comment, share = ' || cast("like" as varchar)
                    || ', ' || cast(collect as varchar)
                    || ', ' || cast("comment" as varchar)
                    || ', ' || cast("share" as varchar)
            when reason like '%viewing time' then 'page_time = ' || cast(page_time as varchar)
            when reason like 'time%' then 'time as published = ' || cast(ticks as varchar)
        end as detail
    from judged
    where reason is not null
),

unknown as (
    select count(*) as n_requests
    from (
        select
            source_table,
            row_number
        from faulty
        where reason = 'unknown note'
        group by source_table, row_number
    ) as requests
)

select
    f.source_table,
    f.row_number,
    f.impression_n,
    f.reason,
    f.detail
from faulty as f
cross join unknown as u
cross join sizes as s
where f.reason <> 'unknown note' or u.n_requests <= 0.1 * s.n_requests
order by f.source_table, f.row_number, f.impression_n;

comment on table quarantine.impressions is
    'One row per (source_table, row_number, impression_n): an entry that spoils its request.';
comment on column quarantine.impressions.source_table is
    'Published table the row comes from: search_train, search_test, dqa and so on.';
comment on column quarantine.impressions.row_number is
    'Zero-based row of the published table over all its files.';
comment on column quarantine.impressions.impression_n is
    'Place in the published list from 1; a key, never a feature: its order leaks clicks.';
comment on column quarantine.impressions.reason is
    'Why the published row cannot be used; the first reason where there are several.';
comment on column quarantine.impressions.detail is
    'The value that cannot be, as text; null where nothing is there.';
