-- Where does the first click of a request fall?
--
-- First by place on the page, not by time. Outside dqa the release keeps only requests with a
-- click.
select
    channel,
    case when first_click_position > 10 then 11 else first_click_position end as position_bin,
    count(*) as n_requests,
    count(*) / sum(count(*)) over (partition by channel) as request_share
from core.requests
where first_click_position is not null
group by channel, position_bin
order by channel, position_bin;
