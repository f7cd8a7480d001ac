-- Is the left column of the two-column page clicked more than the right one?
--
-- Odd positions are taken as the left column, which holds only while no card before them is
-- missing or as wide as the page: requests with gaps are left out.
with whole_pages as (
    select request_id
    from core.impressions
    group by request_id
    having min("position") = 1 and max("position") = count(distinct "position")
)

select
    i.channel,
    (i."position" + 1) // 2 as grid_row,
    case when i."position" % 2 = 1 then 'left' else 'right' end as grid_column,
    count(*) as n_impressions,
    count(*) filter (where i.is_clicked) / count(*) as click_rate
from core.impressions as i
inner join whole_pages as w on i.request_id = w.request_id
where i."position" <= 20
group by i.channel, grid_row, grid_column
order by i.channel, grid_row, grid_column;
