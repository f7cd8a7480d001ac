-- Do longer queries lead to more clicks, as the published script counts (the paper's Table 7)?
--
-- A blank query becomes the text -1 there and counts as two characters, so it joins the shortest.
-- bias.click_rate_by_query_length keeps blank queries apart.

create or replace view bias.click_rate_by_query_length_official as
with bins as (
    select
        case
            when coalesce(length(query), 2) <= 3 then 3
            when length(query) > 10 then 11
            else cast(length(query) as integer)
        end as query_length_bin,
        count(*) as n_requests,
        cast(sum(n_impressions) as bigint) as n_impressions,
        cast(sum(n_clicks) as bigint) as n_clicks,
        avg(n_clicks) as clicks_per_request
    from core.requests
    where channel = 'search'
    group by 1
)

select
    query_length_bin,
    n_requests,
    cast(n_requests as double) / nullif(sum(n_requests) over (), 0) as request_share,
    n_impressions,
    n_clicks,
    clicks_per_request,
    cast(n_clicks as double) / nullif(n_impressions, 0) as click_rate
from bins
order by query_length_bin;

comment on view bias.click_rate_by_query_length_official is
    'One row per (query_length_bin): searches with a query of that length, and their clicks.';
comment on column bias.click_rate_by_query_length_official.query_length_bin is
    'Characters of the query: 3 for at most 3, 4 to 10, 11 for more; blank: 0, officially 3.';
comment on column bias.click_rate_by_query_length_official.n_requests is 'Requests counted.';
comment on column bias.click_rate_by_query_length_official.request_share is
    'Requests divided by all requests of the view.';
comment on column bias.click_rate_by_query_length_official.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_query_length_official.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_query_length_official.clicks_per_request is
    'Clicks divided by requests, requests without a click included.';
comment on column bias.click_rate_by_query_length_official.click_rate is
    'Clicks divided by impressions, pooled.';
