-- What do users do next, and how do they click there (the paper's Table 6)?
--
-- Clicks and impressions are those of the second request of each pair. The published script leaves
-- feed times in milliseconds and so cannot give this table; here the clocks are aligned.

create or replace view bias.click_rate_by_transition as
with pairs as (
    select
        transition,
        count(*) as n_transitions,
        cast(sum(n_impressions) as bigint) as n_impressions,
        cast(sum(n_clicks) as bigint) as n_clicks,
        avg(n_clicks) as clicks_per_request
    from core.transitions
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
from pairs
order by transition;

comment on view bias.click_rate_by_transition is
    'One row per (transition): how often one channel follows another, and the clicks that follow.';
comment on column bias.click_rate_by_transition.transition is
    'S->S, R->S, R->R or S->R: channel of the earlier request, then of this one.';
comment on column bias.click_rate_by_transition.n_transitions is
    'Pairs of consecutive requests counted.';
comment on column bias.click_rate_by_transition.transition_share is 'Pairs divided by all pairs.';
comment on column bias.click_rate_by_transition.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_transition.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_transition.clicks_per_request is
    'Clicks divided by requests, requests without a click included.';
comment on column bias.click_rate_by_transition.click_rate is
    'Clicks divided by impressions, pooled.';
