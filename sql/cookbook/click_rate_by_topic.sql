-- Which topics of notes are clicked most, and at what places do they stand?
--
-- The topic is the first level of the published taxonomy. A rate mixes the topic with the place, so
-- the mean place stands beside it.
select
    i.channel,
    n.taxonomy1_id,
    count(*) as n_impressions,
    count(*) filter (where i.is_clicked) / nullif(count(*), 0) as click_rate,
    avg(i.shown_rank) as mean_rank
from core.impressions as i
inner join core.notes as n on i.note_idx = n.note_idx
where n.taxonomy1_id is not null
group by i.channel, n.taxonomy1_id
order by i.channel, n_impressions desc, n.taxonomy1_id;
