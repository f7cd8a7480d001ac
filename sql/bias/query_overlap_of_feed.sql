-- Does the feed after a search show, and its reader click, what was searched for?
--
-- Feed requests just before and just after a search of the same session. The overlap is the share
-- of the query's characters that stand in the title of a note, a crude reading of likeness that
-- needs no model. The feed before the search is the comparison: it shares the user and the hour,
-- not the query. A character counts as often as the query has it, a space like any other, and upper
-- case is not lower case. A feed request between two searches stands on both sides. Notes that are
-- not in the notes table, or have no title there, are left out: in a sample that is most of them.
-- Stored, because titles are looked up among all notes.

create or replace table bias.query_overlap_of_feed as
with neighbours as (
    select
        t.request_id as feed_request_id,
        'after' as feed_side,
        r.query
    from core.transitions as t
    inner join core.requests as r on t.previous_request_id = r.request_id
    where t.transition = 'S->R' and r.query is not null
    union all
    select
        t.previous_request_id as feed_request_id,
        'before' as feed_side,
        r.query
    from core.transitions as t
    inner join core.requests as r on t.request_id = r.request_id
    where t.transition = 'R->S' and r.query is not null
),

likeness as (
    select
        f.feed_side,
        i.is_clicked,
        1 - cast(length(translate(f.query, n.note_title, '')) as double)
        / nullif(length(f.query), 0) as query_overlap
    from neighbours as f
    inner join core.impressions as i on f.feed_request_id = i.request_id
    inner join core.notes as n on i.note_idx = n.note_idx
    where n.note_title is not null and i.is_clicked is not null
)

select
    feed_side,
    is_clicked,
    count(*) as n_impressions,
    round(avg(query_overlap), 12) as query_overlap_mean
from likeness
group by feed_side, is_clicked
order by feed_side, is_clicked;

comment on table bias.query_overlap_of_feed is
    'One row per (feed_side, is_clicked): feed notes beside a search.';
comment on column bias.query_overlap_of_feed.feed_side is
    'before or after: the feed request stands before the search or after it.';
comment on column bias.query_overlap_of_feed.is_clicked is
    'The note was opened from this impression.';
comment on column bias.query_overlap_of_feed.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.query_overlap_of_feed.query_overlap_mean is
    'Mean share of the query''s characters that stand in the title of the note.';
