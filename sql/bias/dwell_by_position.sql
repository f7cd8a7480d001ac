-- How long do readers stay, by the place they clicked?
--
-- Dwell is not logged for every click, least in the feed (about half there), and what is missing
-- need not be like what is there: a missing dwell is not a bounce. Long dwells have heavy tails;
-- compare medians.

create or replace view bias.dwell_by_position as
with clicks as (
    select
        channel,
        case when "position" > 10 then 11 else "position" end as position_bin,
        dwell_s
    from core.impressions
    where is_clicked and "position" is not null
),

bins as (
    select
        channel,
        position_bin,
        count(*) as n_clicks,
        count(dwell_s) as n_dwells,
        median(dwell_s) as dwell_s_median,
        avg(dwell_s) as dwell_s_mean,
        count(case when dwell_s < 5 then 1 end) as n_short
    from clicks
    group by channel, position_bin
)

select
    channel,
    position_bin,
    n_clicks,
    n_dwells,
    cast(n_dwells as double) / nullif(n_clicks, 0) as dwell_logged_share,
    dwell_s_median,
    dwell_s_mean,
    cast(n_short as double) / nullif(n_dwells, 0) as short_dwell_share
from bins
order by channel, position_bin;

comment on view bias.dwell_by_position is
    'One row per (channel, position_bin): dwell of clicks at a place of the page.';
comment on column bias.dwell_by_position.channel is 'search or recommendation.';
comment on column bias.dwell_by_position.position_bin is
    'Position 0 to 10; 11 stands for all deeper ones.';
comment on column bias.dwell_by_position.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.dwell_by_position.n_dwells is 'Clicks with a logged dwell, counted.';
comment on column bias.dwell_by_position.dwell_logged_share is
    'Clicks with a logged dwell divided by clicks.';
comment on column bias.dwell_by_position.dwell_s_median is
    'Median seconds the note was open, over clicks with a logged dwell.';
comment on column bias.dwell_by_position.dwell_s_mean is
    'Mean seconds the note was open, over clicks with a logged dwell.';
comment on column bias.dwell_by_position.short_dwell_share is
    'Logged dwells under 5 seconds divided by logged dwells.';
