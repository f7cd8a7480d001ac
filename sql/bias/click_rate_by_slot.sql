-- Does the page repeat every seven places, with a commercial slot in each block?
--
-- Users report dips of the click rate at 3 in search and at 6, 13, 20, 27 in the feed. Blocks are
-- counted from position 1; a request that begins deep enters at its own places. The commercial
-- share is of impressions whose note has a known flag.

create or replace view bias.click_rate_by_slot as
with slots as (
    select
        channel,
        cast((position_capped + 6) // 7 as integer) as block_n,
        cast((position_capped - 1) % 7 + 1 as integer) as slot,
        cast(sum(n_impressions) as bigint) as n_impressions,
        cast(sum(n_clicks) as bigint) as n_clicks,
        sum(case when commercial_state = 'commercial' then n_impressions else 0 end)
            as n_commercial,
        sum(case when commercial_state <> 'unknown' then n_impressions else 0 end) as n_known
    from bias.click_rate_by_stratum
    where position_capped between 1 and 49
    group by 1, 2, 3
),

shares as (
    select
        channel,
        block_n,
        slot,
        n_impressions,
        n_clicks,
        cast(n_commercial as double) / nullif(n_known, 0) as commercial_share
    from slots
),

rates as (
    select
        channel,
        block_n,
        slot,
        n_impressions,
        n_clicks,
        commercial_share,
        cast(n_clicks as double) / nullif(n_impressions, 0) as click_rate,
        cast(1.96 as double) * cast(1.96 as double) / nullif(n_impressions, 0) as z2_n
    from shares
)

select
    channel,
    block_n,
    slot,
    n_impressions,
    n_clicks,
    commercial_share,
    click_rate,
    (
        click_rate + z2_n / 2
        - sqrt(z2_n * (click_rate * (1 - click_rate) + z2_n / 4))
    ) / (1 + z2_n) as wilson_low,
    (
        click_rate + z2_n / 2
        + sqrt(z2_n * (click_rate * (1 - click_rate) + z2_n / 4))
    ) / (1 + z2_n) as wilson_high
from rates
order by channel, block_n, slot;

comment on view bias.click_rate_by_slot is
    'One row per (channel, block_n, slot): click rate of a place in a block of seven.';
comment on column bias.click_rate_by_slot.channel is 'search or recommendation.';
comment on column bias.click_rate_by_slot.block_n is 'Number of the block of seven places, from 1.';
comment on column bias.click_rate_by_slot.slot is 'Place in the block of seven, 1 to 7.';
comment on column bias.click_rate_by_slot.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_slot.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_slot.commercial_share is
    'Impressions of commercial notes divided by those with a known flag.';
comment on column bias.click_rate_by_slot.click_rate is 'Clicks divided by impressions, pooled.';
comment on column bias.click_rate_by_slot.wilson_low is
    'Lower end of the 95 % Wilson interval of click_rate; every impression taken as independent.';
comment on column bias.click_rate_by_slot.wilson_high is
    'Upper end of the 95 % Wilson interval of click_rate; every impression taken as independent.';
