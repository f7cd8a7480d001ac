-- How do searches with and without an answer compare among like queries?
--
-- Strata of query source and length take away a part of what makes answers go to other queries, not
-- all of it: topic, form and user remain. Small strata say little; look at n_requests.

create or replace view bias.click_rate_by_answer_stratum as
with searches as (
    select
        has_answer,
        query_source_name,
        n_impressions,
        n_clicks,
        browsing_depth,
        first_click_position,
        case
            when query is null then 0
            when length(query) <= 3 then 3
            when length(query) > 10 then 11
            else cast(length(query) as integer)
        end as query_length_bin
    from core.requests
    where channel = 'search'
)

select
    has_answer,
    query_source_name,
    query_length_bin,
    count(*) as n_requests,
    cast(sum(n_impressions) as bigint) as n_impressions,
    cast(sum(n_clicks) as bigint) as n_clicks,
    avg(browsing_depth) as browsing_depth_mean,
    avg(first_click_position) as first_click_position_mean,
    avg(n_clicks) as clicks_per_request,
    cast(sum(n_clicks) as double) / nullif(sum(n_impressions), 0) as click_rate
from searches
group by has_answer, query_source_name, query_length_bin
order by has_answer, query_source_name, query_length_bin;

comment on view bias.click_rate_by_answer_stratum is
    'One row per (has_answer, query_source_name, query_length_bin): searches of that kind.';
comment on column bias.click_rate_by_answer_stratum.has_answer is
    'A direct answer was shown; null in the feed, which has none.';
comment on column bias.click_rate_by_answer_stratum.query_source_name is
    'Where the query came from, in words; null in the feed.';
comment on column bias.click_rate_by_answer_stratum.query_length_bin is
    'Characters of the query: 3 for at most 3, 4 to 10, 11 for more; blank: 0, officially 3.';
comment on column bias.click_rate_by_answer_stratum.n_requests is 'Requests counted.';
comment on column bias.click_rate_by_answer_stratum.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_answer_stratum.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_answer_stratum.browsing_depth_mean is
    'Mean over requests of the deepest position returned.';
comment on column bias.click_rate_by_answer_stratum.first_click_position_mean is
    'Mean over requests with a click of the least clicked position.';
comment on column bias.click_rate_by_answer_stratum.clicks_per_request is
    'Clicks divided by requests, requests without a click included.';
comment on column bias.click_rate_by_answer_stratum.click_rate is
    'Clicks divided by impressions, pooled.';
