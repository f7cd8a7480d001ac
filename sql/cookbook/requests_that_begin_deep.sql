-- How many requests are later pages rather than first pages?
--
-- They have no first places: leave them out before comparing first-click positions.
with pages as (
    select
        channel,
        request_id,
        min("position") as first_position
    from core.impressions
    group by channel, request_id
)

select
    channel,
    count(*) as n_requests,
    count(*) filter (where first_position > 4) as n_deep,
    count(*) filter (where first_position > 4) / count(*) as deep_share
from pages
group by channel
order by channel;
