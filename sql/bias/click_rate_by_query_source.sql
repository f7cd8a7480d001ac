-- Where do queries come from, and which lead to clicks (the paper's Table 9)?
--
-- The source is chosen by the user and the app together: a difference is not an effect.
-- Searches whose source is not logged have their own row; the paper counts them as other, which
-- bias.click_rate_by_query_source_official repeats.

create or replace view bias.click_rate_by_query_source as
with sources as (
    select
        query_source_name,
        count(*) as n_requests,
        cast(sum(n_impressions) as bigint) as n_impressions,
        cast(sum(n_clicks) as bigint) as n_clicks,
        avg(n_clicks) as clicks_per_request
    from core.requests
    where channel = 'search'
    group by 1
)

select
    query_source_name,
    n_requests,
    cast(n_requests as double) / nullif(sum(n_requests) over (), 0) as request_share,
    n_impressions,
    n_clicks,
    clicks_per_request,
    cast(n_clicks as double) / nullif(n_impressions, 0) as click_rate
from sources
order by query_source_name;

comment on view bias.click_rate_by_query_source is
    'One row per (query_source_name): searches from that source, and their clicks.';
comment on column bias.click_rate_by_query_source.query_source_name is
    'Where the query came from, in words; null in the feed.';
comment on column bias.click_rate_by_query_source.n_requests is 'Requests counted.';
comment on column bias.click_rate_by_query_source.request_share is
    'Requests divided by all requests of the view.';
comment on column bias.click_rate_by_query_source.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_query_source.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_query_source.clicks_per_request is
    'Clicks divided by requests, requests without a click included.';
comment on column bias.click_rate_by_query_source.click_rate is
    'Clicks divided by impressions, pooled.';
