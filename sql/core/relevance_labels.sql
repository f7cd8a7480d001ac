-- Which note is relevant to which row: clicks of the log beside the official label files.
--
-- The official files count a click as relevant and number the rows of the test tables from 0 in
-- their present order; files older than 17 April 2025 follow another order and disagree nearly
-- everywhere. Train rows have labels from the log only. Repeats of a note count once.
-- Labels of rows in quarantine are left out with their rows.

create or replace table core.relevance_labels as
with clicked_notes as (
    select
        request_id,
        note_idx
    from core.impressions
    where is_clicked
    group by request_id, note_idx
),

clicked as (
    select
        r.source_table,
        r.row_number,
        c.note_idx
    from clicked_notes as c
    inner join core.requests as r on c.request_id = r.request_id
),

official as (
    select
        l.source_table,
        l.row_number,
        l.note_idx
    from published.qrels as l
    left join quarantine.requests as q
        on l.source_table = q.source_table and l.row_number = q.row_number
    where q.row_number is null
    group by l.source_table, l.row_number, l.note_idx
),

covered as (
    select source_table
    from published.qrels
    group by source_table
),

labels as (
    select
        coalesce(c.source_table, o.source_table) as source_table,
        coalesce(c.row_number, o.row_number) as row_number,
        coalesce(c.note_idx, o.note_idx) as note_idx,
        c.note_idx is not null as is_in_log,
        o.note_idx is not null as is_in_qrels
    from clicked as c
    full outer join official as o
        on
            c.source_table = o.source_table
            and c.row_number = o.row_number
            and c.note_idx = o.note_idx
)

select
    l.source_table,
    case
        when l.source_table like '%_train' then 'train'
        when l.source_table like '%_test' then 'test'
        else 'dqa'
    end as split,
    l.row_number,
    l.note_idx,
    l.is_in_log,
    case when v.source_table is not null then l.is_in_qrels end as is_in_qrels
from labels as l
left join covered as v on l.source_table = v.source_table
order by l.source_table, l.row_number, l.note_idx;

comment on table core.relevance_labels is
    'One row per (source_table, row_number, note_idx): a note relevant to a published row.';
comment on column core.relevance_labels.source_table is
    'Published table the row comes from: search_train, search_test, dqa and so on.';
comment on column core.relevance_labels.split is
    'train or test as published; dqa for the answer sample.';
comment on column core.relevance_labels.row_number is
    'Zero-based row of the published table over all its files.';
comment on column core.relevance_labels.note_idx is
    'Note; a key, never a feature: the ids are numbered in blocks that give clicks away.';
comment on column core.relevance_labels.is_in_log is 'The log has a click on the note in that row.';
comment on column core.relevance_labels.is_in_qrels is
    'The official label file lists the pair; null when no file was given for the table.';
