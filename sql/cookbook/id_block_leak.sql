-- Does the number of a note give its clicks away?
--
-- It should not. In the published log it does: notes are numbered in blocks, and the click rate
-- jumps between almost 0 and 40 % from one range to the next.
with ids as (
    select max(note_idx) + 1 as n_ids
    from core.impressions
)

select
    floor(i.note_idx * 40 / d.n_ids) as id_range,
    min(i.note_idx) as first_note_idx,
    count(*) as n_impressions,
    count(*) filter (where i.is_clicked) / count(*) as click_rate
from core.impressions as i
cross join ids as d
group by id_range
order by id_range;
