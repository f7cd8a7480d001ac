-- What does one search look like, note by note?
--
-- A request is one search or one page fetch of the feed; an impression is a note it returned.
select
    r.query,
    i.shown_rank,
    i."position",
    i.is_clicked,
    i.dwell_s,
    n.note_title
from core.requests as r
inner join core.impressions as i on r.request_id = i.request_id
left join core.notes as n on i.note_idx = n.note_idx
where
    r.request_id = (
        select min(s.request_id) from core.requests as s where s.channel = 'search'
    )
order by i.shown_rank;
