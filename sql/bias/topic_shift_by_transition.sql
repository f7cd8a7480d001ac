-- Does what was clicked before shape what is clicked next, within and across channels?
--
-- For each pair of consecutive requests: the chance that one click of each, drawn at random, has
-- the same topic; and that chance if pairs were put together at random. Users have standing tastes,
-- so a lift above 1 is no proof that the earlier request caused anything: compare the transitions.
-- Topics are the published taxonomy ids, which have no names. Stored, because clicked notes are
-- looked up among all.

create or replace table bias.topic_shift_by_transition as
with clicks as (
    select
        i.request_id,
        n.taxonomy1_id,
        n.taxonomy2_id
    from core.impressions as i
    inner join core.notes as n on i.note_idx = n.note_idx
    where i.is_clicked
),

topics as (
    select
        request_id,
        1 as taxonomy_level,
        taxonomy1_id as topic
    from clicks
    union all
    select
        request_id,
        2 as taxonomy_level,
        taxonomy2_id as topic
    from clicks
),

counts as (
    select
        request_id,
        taxonomy_level,
        topic,
        count(*) as n_clicks
    from topics
    where topic is not null
    group by request_id, taxonomy_level, topic
),

known as (
    select
        request_id,
        taxonomy_level,
        sum(n_clicks) as n_clicks_all
    from counts
    group by request_id, taxonomy_level
),

pairs as (
    select
        t.transition,
        k.taxonomy_level,
        t.request_id,
        t.previous_request_id,
        k.n_clicks_all as n_later_clicks,
        e.n_clicks_all as n_earlier_clicks
    from core.transitions as t
    inner join known as k on t.request_id = k.request_id
    inner join known as e
        on t.previous_request_id = e.request_id and k.taxonomy_level = e.taxonomy_level
),

-- A share is the chance that a click of the request, drawn at random, has the topic.
later as (
    select
        p.transition,
        p.taxonomy_level,
        p.request_id,
        c.topic,
        cast(c.n_clicks as double) / nullif(p.n_later_clicks, 0) as topic_share
    from pairs as p
    inner join counts as c
        on p.request_id = c.request_id and p.taxonomy_level = c.taxonomy_level
),

earlier as (
    select
        p.transition,
        p.taxonomy_level,
        p.request_id,
        c.topic,
        cast(c.n_clicks as double) / nullif(p.n_earlier_clicks, 0) as topic_share
    from pairs as p
    inner join counts as c
        on p.previous_request_id = c.request_id and p.taxonomy_level = c.taxonomy_level
),

agreement as (
    select
        l.transition,
        l.taxonomy_level,
        sum(l.topic_share * e.topic_share) as n_agreeing
    from later as l
    inner join earlier as e
        on
            l.request_id = e.request_id
            and l.taxonomy_level = e.taxonomy_level
            and l.topic = e.topic
    group by l.transition, l.taxonomy_level
),

later_topics as (
    select
        transition,
        taxonomy_level,
        topic,
        sum(topic_share) as weight
    from later
    group by transition, taxonomy_level, topic
),

earlier_topics as (
    select
        transition,
        taxonomy_level,
        topic,
        sum(topic_share) as weight
    from earlier
    group by transition, taxonomy_level, topic
),

chance as (
    select
        l.transition,
        l.taxonomy_level,
        sum(l.weight * e.weight) as n_by_chance
    from later_topics as l
    inner join earlier_topics as e
        on
            l.transition = e.transition
            and l.taxonomy_level = e.taxonomy_level
            and l.topic = e.topic
    group by l.transition, l.taxonomy_level
),

sizes as (
    select
        transition,
        taxonomy_level,
        count(*) as n_compared
    from pairs
    group by transition, taxonomy_level
)

select
    s.transition,
    s.taxonomy_level,
    s.n_compared,
    -- Sums of shares in another order end in other digits; twelve are kept.
    round(coalesce(a.n_agreeing, 0) / nullif(s.n_compared, 0), 12) as same_topic_rate,
    round(
        coalesce(c.n_by_chance, 0)
        / nullif(cast(s.n_compared as double) * s.n_compared, 0),
        12
    ) as same_topic_rate_expected,
    round(
        coalesce(a.n_agreeing, 0) * s.n_compared / nullif(c.n_by_chance, 0), 9
    ) as topic_lift
from sizes as s
left join agreement as a
    on s.transition = a.transition and s.taxonomy_level = a.taxonomy_level
left join chance as c
    on s.transition = c.transition and s.taxonomy_level = c.taxonomy_level
order by s.transition, s.taxonomy_level;

comment on table bias.topic_shift_by_transition is
    'One row per (transition, taxonomy_level): how alike the topics are.';
comment on column bias.topic_shift_by_transition.transition is
    'S->S, R->S, R->R or S->R: channel of the earlier request, then of this one.';
comment on column bias.topic_shift_by_transition.taxonomy_level is
    '1 or 2: level of the taxonomy by which topics are compared.';
comment on column bias.topic_shift_by_transition.n_compared is
    'Pairs in which both requests have a click on a note with a topic, counted.';
comment on column bias.topic_shift_by_transition.same_topic_rate is
    'Mean over pairs of the chance that a click of each request has the same topic.';
comment on column bias.topic_shift_by_transition.same_topic_rate_expected is
    'The same if the two requests of a pair had nothing to do with each other.';
comment on column bias.topic_shift_by_transition.topic_lift is
    'same_topic_rate divided by same_topic_rate_expected.';
