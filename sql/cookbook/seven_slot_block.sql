-- Does the feed dip every seven places, where commercial notes stand?
select
    i.channel,
    ((i."position" + 1) % 7) as place_in_block,
    count(*) as n_impressions,
    count(*) filter (where i.is_clicked) / count(*) as click_rate,
    count(*) filter (where n.is_commercial) / count(*) as commercial_share
from core.impressions as i
left join core.notes as n on i.note_idx = n.note_idx
where i."position" between 1 and 35
group by i.channel, place_in_block
order by i.channel, place_in_block;
