-- How many unclicked notes stand above the deepest click?
--
-- The classic reading: a note skipped above a click was seen and not wanted. It assumes that users
-- read from the top, which two columns weaken.
with deepest as (
    select
        request_id,
        max(shown_rank) as last_clicked_rank
    from core.impressions
    where is_clicked
    group by request_id
)

select
    i.channel,
    count(*) as n_above,
    count(*) filter (where i.is_clicked) / count(*) as clicked_share,
    count(*) filter (where not i.is_clicked) / count(distinct i.request_id) as skipped_per_request
from core.impressions as i
inner join deepest as d on i.request_id = d.request_id and i.shown_rank <= d.last_clicked_rank
group by i.channel
order by i.channel;
