-- How many places of a page hold something that is not in the log?
--
-- Gaps are other cards and advertisements; a column rule (odd is left) fails after each of them.
with pages as (
    select
        channel,
        request_id,
        min("position") as first_position,
        max("position") - min("position") + 1 as n_places,
        count(distinct "position") as n_filled
    from core.impressions
    group by channel, request_id
)

select
    channel,
    count(*) as n_requests,
    count(*) filter (where n_filled < n_places) / count(*) as share_with_gap,
    avg(1 - n_filled / n_places) as mean_share_missing
from pages
group by channel
order by channel;
