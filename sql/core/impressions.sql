-- The unit of every question about clicks: a note the log returned for a request.
--
-- "Returned" is an upper bound on "seen": how far a user scrolled is not logged, so examination has
-- to be modelled and cannot be read here. This is the only file that opens the nested lists.
--
-- Position is what the app gave: it has gaps (other cards and ads take places), can be 0 (a card on
-- top) and can start deep (a later page). shown_rank is a running number without these.
-- The same note can come back in one request hours later, with its own time and its own click:
-- both rows stay, the later one is marked is_repeat.
-- No dwell is NaN in the search tables, 0 in the feed and -1 in the answer sample: null here.
-- The clocks differ by table; published.clock holds the tick and how far the clock runs ahead.
--
-- Ranks and repeats are worked out inside each list, before it is opened: a window over all
-- impressions costs four times as much. Nothing is sorted either: one thread writes the rows as
-- they come, the rows of one request together.

create or replace table core.impressions as
with lists as (
    select
        'search_train' as source_table,
        search_idx * 2 as request_id,
        [
            struct_pack(
                impression_n := n,
                place := coalesce(cast(d."position" as double), cast('nan' as double)),
                ticks := coalesce(cast(d.search_timestamp as double), cast('nan' as double)),
                note_idx := cast(d.note_idx as bigint),
                click := cast(d.click as double),
                "like" := cast(d."like" as double),
                collect := cast(d.collect as double),
                "comment" := cast(d."comment" as double),
                "share" := cast(d."share" as double),
                page_time := cast(d.page_time as double)
            )
            for d, n in result_detail_list
        ] as detail_list
    from raw.search_train
    union all
    select
        'search_test' as source_table,
        search_idx * 2 as request_id,
        [
            struct_pack(
                impression_n := n,
                place := coalesce(cast(d."position" as double), cast('nan' as double)),
                ticks := coalesce(cast(d.search_timestamp as double), cast('nan' as double)),
                note_idx := cast(d.note_idx as bigint),
                click := cast(d.click as double),
                "like" := cast(d."like" as double),
                collect := cast(d.collect as double),
                "comment" := cast(d."comment" as double),
                "share" := cast(d."share" as double),
                page_time := cast(d.page_time as double)
            )
            for d, n in result_detail_list
        ] as detail_list
    from raw.search_test
    union all
    select
        'dqa' as source_table,
        search_idx * 2 as request_id,
        [
            struct_pack(
                impression_n := n,
                place := coalesce(cast(d."position" as double), cast('nan' as double)),
                ticks := coalesce(cast(d.search_timestamp as double), cast('nan' as double)),
                note_idx := cast(d.note_idx as bigint),
                click := cast(d.click as double),
                "like" := cast(d."like" as double),
                collect := cast(d.collect as double),
                "comment" := cast(d."comment" as double),
                "share" := cast(d."share" as double),
                page_time := cast(d.page_time as double)
            )
            for d, n in result_detail_list
        ] as detail_list
    from raw.dqa
    union all
    select
        'recommendation_train' as source_table,
        request_idx * 2 + 1 as request_id,
        [
            struct_pack(
                impression_n := n,
                place := coalesce(cast(d."position" as double), cast('nan' as double)),
                ticks := coalesce(cast(d.request_timestamp as double), cast('nan' as double)),
                note_idx := cast(d.note_idx as bigint),
                click := cast(d.click as double),
                "like" := cast(d."like" as double),
                collect := cast(d.collect as double),
                "comment" := cast(d."comment" as double),
                "share" := cast(d."share" as double),
                page_time := cast(d.page_time as double)
            )
            for d, n in result_detail_list
        ] as detail_list
    from raw.recommendation_train
    union all
    select
        'recommendation_test' as source_table,
        request_idx * 2 + 1 as request_id,
        [
            struct_pack(
                impression_n := n,
                place := coalesce(cast(d."position" as double), cast('nan' as double)),
                ticks := coalesce(cast(d.request_timestamp as double), cast('nan' as double)),
                note_idx := cast(d.note_idx as bigint),
                click := cast(d.click as double),
                "like" := cast(d."like" as double),
                collect := cast(d.collect as double),
                "comment" := cast(d."comment" as double),
                "share" := cast(d."share" as double),
                page_time := cast(d.page_time as double)
            )
            for d, n in result_detail_list
        ] as detail_list
    from raw.recommendation_test
),

ranked as (
    select
        source_table,
        request_id,
        detail_list,
        list_min([d.ticks for d in detail_list]) as first_ticks,
        -- Places in the order of the order are ranks; NaN comes last.
        list_grade_up(list_grade_up([
            struct_pack(place := d.place, ticks := d.ticks, impression_n := d.impression_n)
            for d in detail_list
        ])) as shown_rank_list,
        case
            when list_unique([d.note_idx for d in detail_list]) < array_length(detail_list)
                then [
                    (
                        array_length([
                            e.note_idx for e in detail_list
                            if e.note_idx = d.note_idx
                            and (e.ticks, e.impression_n) < (d.ticks, d.impression_n)
                        ]) > 0
                    )
                    for d in detail_list
                ]
            else [false for d in detail_list]
        end as is_repeat_list
    from lists
),

details as (
    select
        source_table,
        request_id,
        first_ticks,
        unnest(detail_list) as detail,
        unnest(shown_rank_list) as shown_rank,
        unnest(is_repeat_list) as is_repeat
    from ranked
)

select
    d.request_id,
    d.detail.impression_n as impression_n,
    d.source_table,
    case when d.source_table like 'recommendation%' then 'recommendation' else 'search' end
        as channel,
    cast(case when isnan(d.detail.place) then null else d.detail.place end as integer)
        as "position",
    d.shown_rank,
    d.detail.note_idx as note_idx,
    make_timestamp(
        cast(case when isnan(d.detail.ticks) then null else d.detail.ticks end as bigint)
        * c.microseconds_per_tick - c.ahead_s * 1000000
    ) as exposed_at,
    -- Eight hours on is China's clock.
    cast(
        make_timestamp(
            cast(case when isnan(d.first_ticks) then null else d.first_ticks end as bigint)
            * c.microseconds_per_tick - c.ahead_s * 1000000 + 28800000000
        ) as date
    ) as day,
    case when not isnan(d.detail.click) then d.detail.click > 0 end as is_clicked,
    case when not isnan(d.detail."like") then d.detail."like" > 0 end as is_liked,
    case when not isnan(d.detail.collect) then d.detail.collect > 0 end as is_collected,
    case when not isnan(d.detail."comment") then d.detail."comment" > 0 end as is_commented,
    case when not isnan(d.detail."share") then d.detail."share" > 0 end as is_shared,
    case when not isnan(d.detail.page_time) and d.detail.page_time > 0 then d.detail.page_time end
        as dwell_s,
    d.is_repeat
from details as d
inner join published.clock as c on d.source_table = c.source_table;

comment on table core.impressions is
    'One row per (request_id, impression_n): a returned note. Files by (source_table, day).';
comment on column core.impressions.request_id is
    'Request; joins core.requests; search_idx * 2, or request_idx * 2 + 1 in the feed.';
comment on column core.impressions.impression_n is
    'Place in the published list from 1; a key, never a feature: its order leaks clicks.';
comment on column core.impressions.source_table is
    'Published table the row comes from: search_train, search_test, dqa and so on.';
comment on column core.impressions.channel is 'search or recommendation.';
comment on column core.impressions."position" is
    'Place the app gave; has gaps, can be 0, can start deep.';
comment on column core.impressions.shown_rank is
    'Running number in the request from 1, by position, then exposure time.';
comment on column core.impressions.note_idx is
    'Note; a key, never a feature: the ids are numbered in blocks that give clicks away.';
comment on column core.impressions.exposed_at is
    'When the note was returned, UTC; null when not logged.';
comment on column core.impressions.day is
    'Day on which the request began, by China''s clock; null without a time.';
comment on column core.impressions.is_clicked is 'The note was opened from this impression.';
comment on column core.impressions.is_liked is 'The note was liked after this impression.';
comment on column core.impressions.is_collected is 'The note was collected after this impression.';
comment on column core.impressions.is_commented is
    'The note was commented on after this impression.';
comment on column core.impressions.is_shared is 'The note was shared after this impression.';
comment on column core.impressions.dwell_s is
    'Seconds the note was open; null when not logged, which in the feed includes many clicks.';
comment on column core.impressions.is_repeat is
    'The same note was returned earlier in the same request.';
