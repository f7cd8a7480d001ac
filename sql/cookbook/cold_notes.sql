-- How many clicked test notes were never returned in train?
--
-- Models with an embedding per note know nothing of these.
with train as (
    select distinct
        channel,
        note_idx
    from core.impressions
    where source_table in ('search_train', 'recommendation_train')
)

select
    i.channel,
    count(*) as n_test_clicks,
    count(*) filter (where t.note_idx is null) / count(*) as cold_share
from core.impressions as i
left join train as t on i.channel = t.channel and i.note_idx = t.note_idx
where i.is_clicked and i.source_table in ('search_test', 'recommendation_test')
group by i.channel
order by i.channel;
