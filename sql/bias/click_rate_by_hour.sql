-- When in the day do users click?
--
-- The hour at which the request began, by China's clock, wherever the user is. The test tables hold
-- the last hours of the log day, so an evening hour holds other requests than the train tables
-- alone would give.

create or replace view bias.click_rate_by_hour as
with bins as (
    select
        channel,
        cast((cast(floor(epoch(started_at) / 3600) as bigint) + 8) % 24 as integer) as hour_of_day,
        count(*) as n_requests,
        cast(sum(n_impressions) as bigint) as n_impressions,
        cast(sum(n_clicks) as bigint) as n_clicks,
        cast(sum(n_clicks * n_clicks) as double) as click_click,
        cast(sum(n_clicks * n_impressions) as double) as click_shown,
        cast(sum(n_impressions * n_impressions) as double) as shown_shown
    from core.requests
    where started_at is not null
    group by 1, 2
),

rates as (
    select
        channel,
        hour_of_day,
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
        hour_of_day,
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
        hour_of_day,
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
    hour_of_day,
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
order by channel, hour_of_day;

comment on view bias.click_rate_by_hour is
    'One row per (channel, hour_of_day): click rate of requests begun in that hour.';
comment on column bias.click_rate_by_hour.channel is 'search or recommendation.';
comment on column bias.click_rate_by_hour.hour_of_day is
    'Hour of China''s clock at which the request began, 0 to 23.';
comment on column bias.click_rate_by_hour.n_requests is 'Requests counted.';
comment on column bias.click_rate_by_hour.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_hour.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_hour.click_rate is 'Clicks divided by impressions, pooled.';
comment on column bias.click_rate_by_hour.click_rate_low is
    'Lower end of the 95 % Wilson interval of click_rate; requests taken as independent.';
comment on column bias.click_rate_by_hour.click_rate_high is
    'Upper end of the 95 % Wilson interval of click_rate; requests taken as independent.';
