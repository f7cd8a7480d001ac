-- How often does a request return a note the user clicked before?
--
-- Histories are fixed before the request, so membership is a fair feature; check that it does not
-- give the click away by itself.
with histories as (
    select distinct
        request_id,
        unnest(history_list) as note_idx
    from core.requests
)

select
    i.channel,
    h.note_idx is not null as is_in_history,
    count(*) as n_impressions,
    count(*) filter (where i.is_clicked) / count(*) as click_rate
from core.impressions as i
left join histories as h on i.request_id = h.request_id and i.note_idx = h.note_idx
group by i.channel, is_in_history
order by i.channel, is_in_history;
