-- How does the click rate fall with the place on the page (the paper's Figure 3a)?
--
-- A rate per place mixes examination, what the ranker put there and what the card is (the dips at 3
-- in search and 6 in the feed are commercial slots): it is not an examination probability. Requests
-- that begin deep enter at their own positions only. Position 0 is a card on top. Stored, because
-- impressions are first put together by request for the interval.

create or replace table bias.click_rate_by_position as
with request_bins as (
    select
        any_value(channel) as channel,
        request_id,
        case when "position" > 10 then 11 else "position" end as position_bin,
        count(*) as n_impressions,
        count(*) filter (where is_clicked) as n_clicks
    from core.impressions
    where "position" is not null
    group by 2, 3
),

bins as (
    select
        channel,
        position_bin,
        cast(sum(n_impressions) as bigint) as n_impressions,
        cast(sum(n_clicks) as bigint) as n_clicks,
        cast(sum(n_clicks * n_clicks) as double) as click_click,
        cast(sum(n_clicks * n_impressions) as double) as click_shown,
        cast(sum(n_impressions * n_impressions) as double) as shown_shown
    from request_bins
    group by channel, position_bin
),

rates as (
    select
        channel,
        position_bin,
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
        position_bin,
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
        position_bin,
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
    position_bin,
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
order by channel, position_bin;

comment on table bias.click_rate_by_position is
    'One row per (channel, position_bin): click rate at a place of the page.';
comment on column bias.click_rate_by_position.channel is 'search or recommendation.';
comment on column bias.click_rate_by_position.position_bin is
    'Position 0 to 10; 11 stands for all deeper ones.';
comment on column bias.click_rate_by_position.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_position.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_position.click_rate is
    'Clicks divided by impressions, pooled.';
comment on column bias.click_rate_by_position.click_rate_low is
    'Lower end of the 95 % Wilson interval of click_rate; requests taken as independent.';
comment on column bias.click_rate_by_position.click_rate_high is
    'Upper end of the 95 % Wilson interval of click_rate; requests taken as independent.';
