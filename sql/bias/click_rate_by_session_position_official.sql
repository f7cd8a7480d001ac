-- How does the click rate change with session order, numbered as the published script does?
--
-- The script behind the paper's Figure 3b numbers searches and feed requests of an app session
-- apart; bias.click_rate_by_session_position numbers them together. The two agree where no app
-- session holds both.

create or replace view bias.click_rate_by_session_position_official as
with numbered as (
    select
        channel,
        n_impressions,
        n_clicks,
        row_number() over (
            partition by channel, user_idx, app_session_idx
            order by app_session_n, request_id
        ) as channel_session_n
    from core.requests
),

bins as (
    select
        channel,
        case when channel_session_n > 10 then 11 else channel_session_n end
            as channel_session_position_bin,
        count(*) as n_requests,
        cast(sum(n_impressions) as bigint) as n_impressions,
        cast(sum(n_clicks) as bigint) as n_clicks,
        cast(sum(n_clicks * n_clicks) as double) as click_click,
        cast(sum(n_clicks * n_impressions) as double) as click_shown,
        cast(sum(n_impressions * n_impressions) as double) as shown_shown
    from numbered
    group by 1, 2
),

rates as (
    select
        channel,
        channel_session_position_bin,
        n_requests,
        n_impressions,
        n_clicks,
        click_click,
        click_shown,
        shown_shown,
        cast(n_clicks as double) / nullif(n_impressions, 0) as click_rate
    from bins
),

-- Clicks of one request go together. The variance of a ratio of sums over requests says how many
-- independent impressions the interval is worth. Where requests show no spread (there is one, or
-- the rate is 0 or 1) that cannot be known, and every impression counts.
variances as (
    select
        channel,
        channel_session_position_bin,
        n_requests,
        n_impressions,
        n_clicks,
        click_rate,
        (
            click_click - 2 * click_rate * click_shown + click_rate * click_rate * shown_shown
        ) / nullif(cast(n_impressions as double) * n_impressions, 0) as variance
    from rates
),

effective as (
    select
        channel,
        channel_session_position_bin,
        n_requests,
        n_impressions,
        n_clicks,
        click_rate,
        cast(1.96 as double) * cast(1.96 as double) / nullif(
            case
                when variance > 0
                    then least(click_rate * (1 - click_rate) / nullif(variance, 0), n_impressions)
                else n_impressions
            end,
            0
        ) as z2_n
    from variances
)

select
    channel,
    channel_session_position_bin,
    n_requests,
    n_impressions,
    n_clicks,
    click_rate,
    (
        click_rate + z2_n / 2
        - sqrt(z2_n * (click_rate * (1 - click_rate) + z2_n / 4))
    ) / (1 + z2_n) as click_rate_low,
    (
        click_rate + z2_n / 2
        + sqrt(z2_n * (click_rate * (1 - click_rate) + z2_n / 4))
    ) / (1 + z2_n) as click_rate_high
from effective
order by channel, channel_session_position_bin;

comment on view bias.click_rate_by_session_position_official is
    'One row per (channel, channel_session_position_bin): click rate by session order.';
comment on column bias.click_rate_by_session_position_official.channel is
    'search or recommendation.';
comment on column bias.click_rate_by_session_position_official.channel_session_position_bin is
    'Order of the request among those of its channel in the app session, 1 to 10; 11 for later.';
comment on column bias.click_rate_by_session_position_official.n_requests is 'Requests counted.';
comment on column bias.click_rate_by_session_position_official.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_session_position_official.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_session_position_official.click_rate is
    'Clicks divided by impressions, pooled.';
comment on column bias.click_rate_by_session_position_official.click_rate_low is
    'Lower end of the 95 % Wilson interval of click_rate; requests taken as independent.';
comment on column bias.click_rate_by_session_position_official.click_rate_high is
    'Upper end of the 95 % Wilson interval of click_rate; requests taken as independent.';
