-- What does the published script make of the paper's Table 6?
--
-- It compares times as they are written: feed times in milliseconds, search times in seconds and 8
-- hours ahead. A gap of 1800 is then 1.8 seconds in the feed, and searches and feed requests of a
-- user never interleave. The paper's printed table cannot come from these clocks;
-- bias.click_rate_by_transition mends them. Kept to show what the fix changes.

create or replace view bias.click_rate_by_transition_official as
with ticks as (
    select
        r.user_idx,
        r.channel,
        r.source_table,
        r.request_id,
        r.n_impressions,
        r.n_clicks,
        (cast(epoch_us(r.started_at) as bigint) + c.ahead_s * 1000000)
        // c.microseconds_per_tick as begin_time
    from core.requests as r
    inner join published.clock as c on r.source_table = c.source_table
    where r.started_at is not null
),

pairs as (
    select
        channel,
        n_impressions,
        n_clicks,
        begin_time,
        lag(channel) over (
            partition by user_idx
            order by begin_time, source_table, request_id
        ) as previous_channel,
        lag(begin_time) over (
            partition by user_idx
            order by begin_time, source_table, request_id
        ) as previous_begin_time
    from ticks
),

transitions as (
    select
        n_impressions,
        n_clicks,
        concat(
            case when previous_channel = 'search' then 'S' else 'R' end,
            '->',
            case when channel = 'search' then 'S' else 'R' end
        ) as transition
    from pairs
    where begin_time - previous_begin_time <= 1800
),

sums as (
    select
        transition,
        count(*) as n_transitions,
        cast(sum(n_impressions) as bigint) as n_impressions,
        cast(sum(n_clicks) as bigint) as n_clicks,
        avg(n_clicks) as clicks_per_request
    from transitions
    group by transition
)

select
    transition,
    n_transitions,
    cast(n_transitions as double) / nullif(sum(n_transitions) over (), 0) as transition_share,
    n_impressions,
    n_clicks,
    clicks_per_request,
    cast(n_clicks as double) / nullif(n_impressions, 0) as click_rate
from sums
order by transition;

comment on view bias.click_rate_by_transition_official is
    'One row per (transition): how often one channel follows another by the clocks as written.';
comment on column bias.click_rate_by_transition_official.transition is
    'S->S, R->S, R->R or S->R: channel of the earlier request, then of this one.';
comment on column bias.click_rate_by_transition_official.n_transitions is
    'Pairs of consecutive requests counted.';
comment on column bias.click_rate_by_transition_official.transition_share is
    'Pairs divided by all pairs.';
comment on column bias.click_rate_by_transition_official.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_transition_official.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_transition_official.clicks_per_request is
    'Clicks divided by requests, requests without a click included.';
comment on column bias.click_rate_by_transition_official.click_rate is
    'Clicks divided by impressions, pooled.';
