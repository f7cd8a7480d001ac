-- Do longer queries lead to more clicks (the paper's Table 7)?
--
-- Length is in characters, spaces included, and stands for what is asked: short queries are broad,
-- long ones precise, so a difference is not an effect of length.
-- Blank queries have their own row; the published script writes them as -1 and so counts two
-- characters.

create or replace view bias.click_rate_by_query_length as
with bins as (
    select
        case
            when query is null then 0
            when length(query) <= 3 then 3
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

comment on view bias.click_rate_by_query_length is
    'One row per (query_length_bin): searches with a query of that length, and their clicks.';
comment on column bias.click_rate_by_query_length.query_length_bin is
    'Characters of the query: 3 for at most 3, 4 to 10, 11 for more; blank: 0, officially 3.';
comment on column bias.click_rate_by_query_length.n_requests is 'Requests counted.';
comment on column bias.click_rate_by_query_length.request_share is
    'Requests divided by all requests of the view.';
comment on column bias.click_rate_by_query_length.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_query_length.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_query_length.clicks_per_request is
    'Clicks divided by requests, requests without a click included.';
comment on column bias.click_rate_by_query_length.click_rate is
    'Clicks divided by impressions, pooled.';
