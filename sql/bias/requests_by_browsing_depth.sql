-- How deep do users let the app return notes?
--
-- Depth is the deepest position returned: an upper bound on how far the user looked, and in the
-- feed a page may begin deep. Depths lie in bins that double.

create or replace view bias.requests_by_browsing_depth as
with bins as (
    select
        channel,
        case
            when browsing_depth < 1 then 0
            when browsing_depth < 3 then 1
            when browsing_depth < 6 then 3
            when browsing_depth < 11 then 6
            when browsing_depth < 21 then 11
            when browsing_depth < 51 then 21
            when browsing_depth < 101 then 51
            else 101
        end as depth_from,
        count(*) as n_requests,
        cast(sum(n_impressions) as bigint) as n_impressions,
        cast(sum(n_clicks) as bigint) as n_clicks,
        avg(n_clicks) as clicks_per_request
    from core.requests
    where browsing_depth is not null
    group by 1, 2
)

select
    channel,
    depth_from,
    n_requests,
    cast(n_requests as double) / nullif(sum(n_requests) over (partition by channel), 0)
        as channel_share,
    cast(
        sum(n_requests) over (
            partition by channel
            order by depth_from desc
            rows between unbounded preceding and current row
        ) as double
    ) / nullif(sum(n_requests) over (partition by channel), 0) as at_least_share,
    n_impressions,
    n_clicks,
    clicks_per_request,
    cast(n_clicks as double) / nullif(n_impressions, 0) as click_rate
from bins
order by channel, depth_from;

comment on view bias.requests_by_browsing_depth is
    'One row per (channel, depth_from): requests of that browsing depth, and their clicks.';
comment on column bias.requests_by_browsing_depth.channel is 'search or recommendation.';
comment on column bias.requests_by_browsing_depth.depth_from is
    'Least browsing depth of the bin: 0, 1, 3, 6, 11, 21, 51 or 101.';
comment on column bias.requests_by_browsing_depth.n_requests is 'Requests counted.';
comment on column bias.requests_by_browsing_depth.channel_share is
    'Requests divided by all requests of the channel in the view.';
comment on column bias.requests_by_browsing_depth.at_least_share is
    'Requests that reach at least this bin divided by requests.';
comment on column bias.requests_by_browsing_depth.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.requests_by_browsing_depth.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.requests_by_browsing_depth.clicks_per_request is
    'Clicks divided by requests, requests without a click included.';
comment on column bias.requests_by_browsing_depth.click_rate is
    'Clicks divided by impressions, pooled.';
