-- Which candidates must a run file score? (columns qid and pid; add your score)
--
-- One row per note that a test search returned; qid is the row of the published table.
select distinct
    r.row_number as qid,
    i.note_idx as pid
from core.requests as r
inner join core.impressions as i on r.request_id = i.request_id
where r.source_table = 'search_test'
order by qid, pid;
