-- How does the click rate fall with the place on the page (the paper's Figure 3a)?
--
-- A rate per place mixes examination, what the ranker put there and what the card is (the dips at 3
-- in search and 6 in the feed are commercial slots): it is not an examination probability.
-- Requests that begin deep enter at their own positions only. Position 0 is a card on top.
-- The interval takes impressions as independent; those of one request are not, so it is too narrow.

create or replace view bias.click_rate_by_position as
with bins as (
    select
        channel,
        case when "position" > 10 then 11 else "position" end as position_bin,
        count(*) as n_impressions,
        count(*) filter (where is_clicked) as n_clicks
    from core.impressions
    where "position" is not null
    group by 1, 2
),

rates as (
    select
        channel,
        position_bin,
        n_impressions,
        n_clicks,
        cast(n_clicks as double) / nullif(n_impressions, 0) as click_rate,
        cast(1.96 as double) * cast(1.96 as double) / nullif(n_impressions, 0) as z2_n
    from bins
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
from rates
order by channel, position_bin;

comment on view bias.click_rate_by_position is
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
    'Lower end of the 95 % Wilson interval of click_rate; impressions taken as independent.';
comment on column bias.click_rate_by_position.click_rate_high is
    'Upper end of the 95 % Wilson interval of click_rate; impressions taken as independent.';
