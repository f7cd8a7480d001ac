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

create or replace table core.impressions as
with search_train_details as (
    select
        search_idx * 2 as request_id,
        generate_subscripts(result_detail_list, 1) as impression_n,
        unnest(result_detail_list) as detail
    from raw.search_train
),

search_test_details as (
    select
        search_idx * 2 as request_id,
        generate_subscripts(result_detail_list, 1) as impression_n,
        unnest(result_detail_list) as detail
    from raw.search_test
),

dqa_details as (
    select
        search_idx * 2 as request_id,
        generate_subscripts(result_detail_list, 1) as impression_n,
        unnest(result_detail_list) as detail
    from raw.dqa
),

recommendation_train_details as (
    select
        request_idx * 2 + 1 as request_id,
        generate_subscripts(result_detail_list, 1) as impression_n,
        unnest(result_detail_list) as detail
    from raw.recommendation_train
),

recommendation_test_details as (
    select
        request_idx * 2 + 1 as request_id,
        generate_subscripts(result_detail_list, 1) as impression_n,
        unnest(result_detail_list) as detail
    from raw.recommendation_test
),

details as (
    select
        'search_train' as source_table,
        request_id,
        impression_n,
        detail.note_idx as note_idx,
        detail."position" as "position",
        detail.click as click,
        detail."like" as "like",
        detail.collect as collect,
        detail."comment" as "comment",
        detail."share" as "share",
        detail.page_time as page_time,
        detail.search_timestamp as ticks
    from search_train_details
    union all
    select
        'search_test' as source_table,
        request_id,
        impression_n,
        detail.note_idx as note_idx,
        detail."position" as "position",
        detail.click as click,
        detail."like" as "like",
        detail.collect as collect,
        detail."comment" as "comment",
        detail."share" as "share",
        detail.page_time as page_time,
        detail.search_timestamp as ticks
    from search_test_details
    union all
    select
        'dqa' as source_table,
        request_id,
        impression_n,
        detail.note_idx as note_idx,
        detail."position" as "position",
        detail.click as click,
        detail."like" as "like",
        detail.collect as collect,
        detail."comment" as "comment",
        detail."share" as "share",
        detail.page_time as page_time,
        detail.search_timestamp as ticks
    from dqa_details
    union all
    select
        'recommendation_train' as source_table,
        request_id,
        impression_n,
        detail.note_idx as note_idx,
        detail."position" as "position",
        detail.click as click,
        detail."like" as "like",
        detail.collect as collect,
        detail."comment" as "comment",
        detail."share" as "share",
        detail.page_time as page_time,
        detail.request_timestamp as ticks
    from recommendation_train_details
    union all
    select
        'recommendation_test' as source_table,
        request_id,
        impression_n,
        detail.note_idx as note_idx,
        detail."position" as "position",
        detail.click as click,
        detail."like" as "like",
        detail.collect as collect,
        detail."comment" as "comment",
        detail."share" as "share",
        detail.page_time as page_time,
        detail.request_timestamp as ticks
    from recommendation_test_details
),

impressions as (
    select
        d.request_id,
        d.impression_n,
        d.source_table,
        case when d.source_table like 'recommendation%' then 'recommendation' else 'search' end
            as channel,
        cast(case when isnan(d."position") then null else d."position" end as integer)
            as "position",
        cast(d.note_idx as bigint) as note_idx,
        make_timestamp(
            cast(case when isnan(d.ticks) then null else d.ticks end as bigint)
            * c.microseconds_per_tick - c.ahead_s * 1000000
        ) as exposed_at,
        case when not isnan(d.click) then d.click > 0 end as is_clicked,
        case when not isnan(d."like") then d."like" > 0 end as is_liked,
        case when not isnan(d.collect) then d.collect > 0 end as is_collected,
        case when not isnan(d."comment") then d."comment" > 0 end as is_commented,
        case when not isnan(d."share") then d."share" > 0 end as is_shared,
        case when not isnan(d.page_time) and d.page_time > 0 then d.page_time end as dwell_s
    from details as d
    inner join published.clock as c on d.source_table = c.source_table
)

select
    request_id,
    impression_n,
    source_table,
    channel,
    "position",
    row_number() over (
        partition by request_id
        order by "position" nulls last, exposed_at nulls last, impression_n
    ) as shown_rank,
    note_idx,
    exposed_at,
    is_clicked,
    is_liked,
    is_collected,
    is_commented,
    is_shared,
    dwell_s,
    coalesce(
        lag(note_idx) over (
            partition by request_id
            order by note_idx, exposed_at nulls last, impression_n
        ) = note_idx,
        false
    ) as is_repeat
from impressions
order by request_id, impression_n;

comment on table core.impressions is
    'One row per (request_id, impression_n): a note the log returned for a request.';
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
