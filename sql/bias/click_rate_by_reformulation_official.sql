-- How do users reword a search, counted as the published script does (the paper's Table 8)?
--
-- A blank query becomes the text -1 there, so a pair with one counts as a rewording to or from the
-- characters - and 1. bias.click_rate_by_reformulation keeps such pairs apart.

create or replace view bias.click_rate_by_reformulation_official as
with queries as (
    select
        coalesce(query, '-1') as query,
        n_impressions,
        n_clicks,
        user_idx,
        started_at,
        source_table,
        request_id
    from core.requests
    where channel = 'search' and started_at is not null
),

searches as (
    select
        query,
        n_impressions,
        n_clicks,
        lag(query) over (
            partition by user_idx
            order by started_at, source_table, request_id
        ) as previous_query,
        cast(floor(epoch(started_at)) as bigint)
        - lag(cast(floor(epoch(started_at)) as bigint)) over (
            partition by user_idx
            order by started_at, source_table, request_id
        ) as gap_s
    from queries
),

edits as (
    select
        n_impressions,
        n_clicks,
        length(query) as n_characters,
        length(translate(query, previous_query, '')) as n_added,
        length(translate(previous_query, query, '')) as n_deleted
    from searches
    where gap_s <= 1800
),

classes as (
    select
        case
            when n_added = 0 and n_deleted = 0 then 'repeat'
            when n_deleted = 0 then 'add'
            when n_added = 0 then 'delete'
            when n_added < n_characters then 'change'
            else 'other'
        end as reformulation,
        count(*) as n_transitions,
        cast(sum(n_impressions) as bigint) as n_impressions,
        cast(sum(n_clicks) as bigint) as n_clicks,
        avg(n_clicks) as clicks_per_request
    from edits
    group by 1
)

select
    reformulation,
    n_transitions,
    cast(n_transitions as double) / nullif(sum(n_transitions) over (), 0) as transition_share,
    n_impressions,
    n_clicks,
    clicks_per_request,
    cast(n_clicks as double) / nullif(n_impressions, 0) as click_rate
from classes
order by reformulation;

comment on view bias.click_rate_by_reformulation_official is
    'One row per (reformulation): how often users reword that way, and the clicks that follow.';
comment on column bias.click_rate_by_reformulation_official.reformulation is
    'add, delete, change, repeat or other: characters of a query against the one before; or blank.';
comment on column bias.click_rate_by_reformulation_official.n_transitions is
    'Pairs of consecutive requests counted.';
comment on column bias.click_rate_by_reformulation_official.transition_share is
    'Pairs divided by all pairs.';
comment on column bias.click_rate_by_reformulation_official.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_reformulation_official.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_reformulation_official.clicks_per_request is
    'Clicks divided by requests, requests without a click included.';
comment on column bias.click_rate_by_reformulation_official.click_rate is
    'Clicks divided by impressions, pooled.';
