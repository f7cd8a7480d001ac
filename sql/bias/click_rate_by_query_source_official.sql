-- Where do queries come from, counted as the published script does (the paper's Table 9)?
--
-- A source that is not logged becomes -1 there, which as a list index is the last entry: other.
-- For comparison with the printed table; bias.click_rate_by_query_source keeps the two apart.

create or replace view bias.click_rate_by_query_source_official as
with sources as (
    select
        case when query_source_name = 'not logged' then 'other' else query_source_name end
            as query_source_name,
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

comment on view bias.click_rate_by_query_source_official is
    'One row per (query_source_name): its searches; not logged counts as other.';
comment on column bias.click_rate_by_query_source_official.query_source_name is
    'Where the query came from, in words; null in the feed.';
comment on column bias.click_rate_by_query_source_official.n_requests is 'Requests counted.';
comment on column bias.click_rate_by_query_source_official.request_share is
    'Requests divided by all requests of the view.';
comment on column bias.click_rate_by_query_source_official.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_query_source_official.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_query_source_official.clicks_per_request is
    'Clicks divided by requests, requests without a click included.';
comment on column bias.click_rate_by_query_source_official.click_rate is
    'Clicks divided by impressions, pooled.';
