-- How often is a note clicked that the user surely had a chance to see?
--
-- The classic reading: what stands above the last click was examined, so a note there without a
-- click was skipped. It assumes that users read from the top, which two columns weaken, and that
-- the last click down the page is the end of reading. The last click itself is left out: it is
-- clicked by definition. Requests without a click have no last one and are not here. Stored,
-- because every impression is compared with the last click of its request.

create or replace table bias.click_rate_above_last_click as
with bins as (
    select
        i.channel,
        cast(case when i.shown_rank > 10 then 11 else i.shown_rank end as integer)
            as shown_rank_bin,
        count(*) as n_impressions,
        count(*) filter (where i.is_clicked) as n_clicks
    from core.impressions as i
    inner join core.requests as r on i.request_id = r.request_id
    where i.shown_rank < r.last_click_rank
    group by 1, 2
)

select
    channel,
    shown_rank_bin,
    n_impressions,
    n_clicks,
    cast(n_clicks as double) / nullif(n_impressions, 0) as click_rate,
    1 - cast(n_clicks as double) / nullif(n_impressions, 0) as skip_rate
from bins
order by channel, shown_rank_bin;

comment on table bias.click_rate_above_last_click is
    'One row per (channel, shown_rank_bin): impressions above the last click.';
comment on column bias.click_rate_above_last_click.channel is 'search or recommendation.';
comment on column bias.click_rate_above_last_click.shown_rank_bin is
    'Running number in the request 1 to 10; 11 stands for all later ones.';
comment on column bias.click_rate_above_last_click.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_above_last_click.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_above_last_click.click_rate is
    'Clicks divided by impressions, pooled.';
comment on column bias.click_rate_above_last_click.skip_rate is
    'Impressions not clicked divided by impressions.';
