-- How do users reword a search, and how do they click then (the paper's Table 8)?
--
-- Pairs of consecutive searches of a user that begin at most 30 minutes apart; what the user did in
-- the feed between them is left out, so these are more pairs than S->S has in core.transitions.
-- A query is a set of characters, as in the paper: order and repeats do not count, an anagram is a
-- repeat. translate deletes from one query every character of the other, so what is left is what
-- only the first has. Clicks and impressions are those of the second search.
-- Pairs with a blank query have their own row; the published script reads a blank as -1.

create or replace view bias.click_rate_by_reformulation as
with searches as (
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
    from core.requests
    where channel = 'search' and started_at is not null
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
            when n_added is null or n_deleted is null then 'blank'
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

comment on view bias.click_rate_by_reformulation is
    'One row per (reformulation): how often users reword that way, and the clicks that follow.';
comment on column bias.click_rate_by_reformulation.reformulation is
    'add, delete, change, repeat or other: characters of a query against the one before; or blank.';
comment on column bias.click_rate_by_reformulation.n_transitions is
    'Pairs of consecutive requests counted.';
comment on column bias.click_rate_by_reformulation.transition_share is
    'Pairs divided by all pairs.';
comment on column bias.click_rate_by_reformulation.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_reformulation.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_reformulation.clicks_per_request is
    'Clicks divided by requests, requests without a click included.';
comment on column bias.click_rate_by_reformulation.click_rate is
    'Clicks divided by impressions, pooled.';
