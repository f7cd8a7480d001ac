-- Which queries are asked again, by how many users, and do they end in a click?
--
-- Most queries of the sample are asked once. Case and outer spaces are ignored; nothing else is, so
-- a reworded query counts as another.
select
    lower(trim(query)) as query_text,
    count(*) as n_requests,
    count(distinct user_idx) as n_users,
    sum(n_clicks) / nullif(sum(n_impressions), 0) as click_rate
from core.requests
where query is not null
group by query_text
order by n_requests desc, query_text
limit 50;
