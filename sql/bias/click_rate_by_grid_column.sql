-- Is the left column of the two-column page clicked more than the right one?
--
-- Odd positions are taken as the left column, which holds only while no card before them is missing
-- or as wide as the page: only requests whose positions run from 1 without gap or repeat are
-- counted. Notes of unequal height shift a real page, so rows further down are less sure, and those
-- beyond the tenth are left out.

create or replace view bias.click_rate_by_grid_column as
with cells as (
    select
        i.channel,
        cast((i."position" + 1) // 2 as integer) as grid_row,
        case when i."position" % 2 = 1 then 'left' else 'right' end as grid_column,
        count(*) as n_impressions,
        count(*) filter (where i.is_clicked) as n_clicks
    from core.impressions as i
    inner join core.requests as r on i.request_id = r.request_id
    where r.is_whole_page and i."position" <= 20
    group by 1, 2, 3
),

rates as (
    select
        channel,
        grid_row,
        grid_column,
        n_impressions,
        n_clicks,
        cast(n_clicks as double) / nullif(n_impressions, 0) as click_rate,
        cast(1.96 as double) * cast(1.96 as double) / nullif(n_impressions, 0) as z2_n
    from cells
)

select
    channel,
    grid_row,
    grid_column,
    n_impressions,
    n_clicks,
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
order by channel, grid_row, grid_column;

comment on view bias.click_rate_by_grid_column is
    'One row per (channel, grid_row, grid_column): click rate of a cell of the page.';
comment on column bias.click_rate_by_grid_column.channel is 'search or recommendation.';
comment on column bias.click_rate_by_grid_column.grid_row is
    'Row of the two-column page, 1 to 10: positions 1 and 2 are row 1.';
comment on column bias.click_rate_by_grid_column.grid_column is
    'left for odd positions, right for even ones.';
comment on column bias.click_rate_by_grid_column.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_grid_column.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_grid_column.click_rate is
    'Clicks divided by impressions, pooled.';
comment on column bias.click_rate_by_grid_column.wilson_low is
    'Lower end of the 95 % Wilson interval of click_rate; every impression taken as independent.';
comment on column bias.click_rate_by_grid_column.wilson_high is
    'Upper end of the 95 % Wilson interval of click_rate; every impression taken as independent.';
