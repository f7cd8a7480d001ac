-- How do volume and click rate move over the day?
--
-- Times are UTC; the users are mostly in China, 8 hours ahead. Searches with impressions of earlier
-- days begin on those days.
select
    channel,
    hour(started_at + interval 8 hour) as hour_in_china,
    count(*) as n_requests,
    sum(n_clicks) / nullif(sum(n_impressions), 0) as click_rate
from core.requests
where started_at is not null
group by channel, hour_in_china
order by channel, hour_in_china;
