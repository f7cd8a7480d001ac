-- Is there enough natural variation of ranks to separate place from note?
--
-- Intervention harvesting compares the same note at different ranks; with few such notes it has
-- nothing to compare.
with notes as (
    select
        channel,
        note_idx,
        count(distinct request_id) as n_requests,
        count(distinct least(shown_rank, 20)) as n_ranks
    from core.impressions
    group by channel, note_idx
)

select
    channel,
    count(*) as n_notes,
    count(*) filter (where n_requests > 1) / count(*) as share_in_two_requests,
    count(*) filter (where n_ranks > 1) / count(*) as share_at_two_ranks
from notes
group by channel
order by channel;
