-- How concentrated are impressions and clicks on few notes?
--
-- Over the notes with at least one of them: the catalogue is far larger. One log day of sampled
-- users shows most notes once, so concentration over a month would be higher. Stored, because all
-- impressions are counted by note.

create or replace table bias.popularity_concentration as
with notes as (
    select
        note_idx,
        count(*) filter (where channel = 'search') as n_searched,
        count(*) filter (where channel = 'search' and is_clicked) as n_searched_clicked,
        count(*) filter (where channel = 'recommendation') as n_recommended,
        count(*) filter (where channel = 'recommendation' and is_clicked)
            as n_recommended_clicked
    from core.impressions
    group by note_idx
),

-- Notes with equally many events are one row: few rows, whatever the number of notes.
sizes as (
    select
        'search' as channel,
        'impression' as event,
        n_searched as n_events,
        count(*) as n_notes
    from notes
    where n_searched > 0
    group by n_searched
    union all
    select
        'search' as channel,
        'click' as event,
        n_searched_clicked as n_events,
        count(*) as n_notes
    from notes
    where n_searched_clicked > 0
    group by n_searched_clicked
    union all
    select
        'recommendation' as channel,
        'impression' as event,
        n_recommended as n_events,
        count(*) as n_notes
    from notes
    where n_recommended > 0
    group by n_recommended
    union all
    select
        'recommendation' as channel,
        'click' as event,
        n_recommended_clicked as n_events,
        count(*) as n_notes
    from notes
    where n_recommended_clicked > 0
    group by n_recommended_clicked
),

ranked as (
    select
        channel,
        event,
        n_events,
        n_notes,
        sum(n_notes) over (partition by channel, event) as n_notes_all,
        sum(n_notes * n_events) over (partition by channel, event) as n_events_all,
        coalesce(
            sum(n_notes) over (
                partition by channel, event
                order by n_events desc
                rows between unbounded preceding and 1 preceding
            ),
            0
        ) as n_notes_above,
        coalesce(
            sum(n_notes * n_events) over (
                partition by channel, event
                order by n_events
                rows between unbounded preceding and 1 preceding
            ),
            0
        ) as n_events_below
    from sizes
)

select
    channel,
    event,
    cast(max(n_notes_all) as bigint) as n_notes,
    cast(max(n_events_all) as bigint) as n_events,
    -- One minus twice the area under the Lorenz curve, in whole numbers until the last step.
    1 - cast(sum(n_notes * (2 * n_events_below + n_notes * n_events)) as double)
    / nullif(cast(max(n_notes_all) as double) * max(n_events_all), 0) as gini,
    cast(
        sum(n_events * least(n_notes, greatest((n_notes_all + 99) // 100 - n_notes_above, 0)))
        as double
    ) / nullif(max(n_events_all), 0) as top_1_percent_share,
    cast(
        sum(n_events * least(n_notes, greatest((n_notes_all + 9) // 10 - n_notes_above, 0)))
        as double
    ) / nullif(max(n_events_all), 0) as top_10_percent_share,
    cast(sum(case when n_events = 1 then n_notes else 0 end) as double)
    / nullif(max(n_notes_all), 0) as single_share
from ranked
group by channel, event
order by channel, event;

comment on table bias.popularity_concentration is
    'One row per (channel, event): how impressions or clicks spread over notes.';
comment on column bias.popularity_concentration.channel is 'search or recommendation.';
comment on column bias.popularity_concentration.event is 'impression or click.';
comment on column bias.popularity_concentration.n_notes is
    'Notes counted, each once.';
comment on column bias.popularity_concentration.n_events is 'Impressions or clicks counted.';
comment on column bias.popularity_concentration.gini is
    'Gini coefficient of events over these notes: 0 all alike, near 1 all on one note.';
comment on column bias.popularity_concentration.top_1_percent_share is
    'Events on the most frequent hundredth of the notes, rounded up, divided by events.';
comment on column bias.popularity_concentration.top_10_percent_share is
    'Events on the most frequent tenth of the notes, rounded up, divided by events.';
comment on column bias.popularity_concentration.single_share is
    'Notes with exactly one event divided by notes.';
