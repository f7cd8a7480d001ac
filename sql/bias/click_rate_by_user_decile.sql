-- How different are users in how much they click?
--
-- Users with at least 50 impressions in the channel, in tenths by their own click rate. Chance
-- alone spreads the tenths: a user with 50 impressions at a rate of 0.2 has a standard error of
-- 0.06. Users were sampled for being active and keep only requests with a click, which raises low
-- rates.

create or replace view bias.click_rate_by_user_decile as
with users as (
    select
        channel,
        user_idx,
        count(*) as n_requests,
        sum(n_impressions) as n_impressions,
        sum(n_clicks) as n_clicks
    from core.requests
    group by channel, user_idx
),

ranked as (
    select
        channel,
        n_requests,
        n_impressions,
        n_clicks,
        ntile(10) over (
            partition by channel
            order by cast(n_clicks as double) / nullif(n_impressions, 0), user_idx
        ) as user_decile
    from users
    where n_impressions >= 50
),

deciles as (
    select
        channel,
        cast(user_decile as integer) as user_decile,
        count(*) as n_users,
        cast(sum(n_requests) as bigint) as n_requests,
        cast(sum(n_impressions) as bigint) as n_impressions,
        cast(sum(n_clicks) as bigint) as n_clicks
    from ranked
    group by 1, 2
)

select
    channel,
    user_decile,
    n_users,
    n_requests,
    n_impressions,
    n_clicks,
    cast(n_clicks as double) / nullif(n_impressions, 0) as click_rate,
    cast(n_clicks as double) / nullif(sum(n_clicks) over (partition by channel), 0)
        as click_share
from deciles
order by channel, user_decile;

comment on view bias.click_rate_by_user_decile is
    'One row per (channel, user_decile): a tenth of the users by click rate.';
comment on column bias.click_rate_by_user_decile.channel is 'search or recommendation.';
comment on column bias.click_rate_by_user_decile.user_decile is
    'Tenth of the users by click rate, 1 lowest.';
comment on column bias.click_rate_by_user_decile.n_users is 'Users counted.';
comment on column bias.click_rate_by_user_decile.n_requests is 'Requests counted.';
comment on column bias.click_rate_by_user_decile.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_user_decile.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_user_decile.click_rate is
    'Clicks divided by impressions, pooled.';
comment on column bias.click_rate_by_user_decile.click_share is
    'Clicks divided by all clicks of the channel in the view.';
