-- How different are users in how much they click?
with users as (
    select
        user_idx,
        channel,
        count(*) as n_requests,
        sum(n_clicks) / nullif(sum(n_impressions), 0) as click_rate
    from core.requests
    group by user_idx, channel
)

select
    channel,
    count(*) as n_users,
    quantile_cont(n_requests, 0.5) as n_requests_median,
    quantile_cont(click_rate, 0.1) as click_rate_p10,
    quantile_cont(click_rate, 0.5) as click_rate_median,
    quantile_cont(click_rate, 0.9) as click_rate_p90
from users
group by channel
order by channel;
