-- Are notes clicked when the same request shows them again?
--
-- In the feed the same note can come back at the same place hours later, as a row of its own; a
-- rate over all impressions counts it twice. A note clicked at its first showing is seldom clicked
-- again, so repeats are no second draw of the same chance. Stored, because every impression is
-- looked up among the repeats.

create or replace table bias.click_rate_of_repeats as
with repeated as (
    select
        request_id,
        note_idx
    from core.impressions
    where is_repeat
    group by request_id, note_idx
),

showings as (
    select
        i.channel,
        i.is_clicked,
        i.is_repeat,
        max(case when i.is_clicked then 1 else 0 end) over (
            partition by i.request_id, i.note_idx
            order by i.exposed_at nulls last, i.impression_n
            rows between unbounded preceding and 1 preceding
        ) as was_clicked
    from core.impressions as i
    inner join repeated as r on i.request_id = r.request_id and i.note_idx = r.note_idx
),

counts as (
    select
        channel,
        case
            when not is_repeat then 'first of several'
            when was_clicked = 1 then 'again after a click'
            else 'again without one'
        end as showing,
        count(*) as n_impressions,
        count(*) filter (where is_clicked) as n_clicks
    from showings
    group by 1, 2
),

totals as (
    select
        channel,
        count(*) as n_impressions,
        count(*) filter (where is_clicked) as n_clicks
    from core.impressions
    group by channel
),

several as (
    select
        channel,
        sum(n_impressions) as n_impressions,
        sum(n_clicks) as n_clicks
    from counts
    group by channel
),

all_counts as (
    select
        channel,
        showing,
        n_impressions,
        n_clicks
    from counts
    union all
    select
        t.channel,
        'once' as showing,
        cast(t.n_impressions - coalesce(s.n_impressions, 0) as bigint) as n_impressions,
        cast(t.n_clicks - coalesce(s.n_clicks, 0) as bigint) as n_clicks
    from totals as t
    left join several as s on t.channel = s.channel
)

select
    channel,
    showing,
    n_impressions,
    n_clicks,
    cast(n_clicks as double) / nullif(n_impressions, 0) as click_rate
from all_counts
order by channel, showing;

comment on table bias.click_rate_of_repeats is
    'One row per (channel, showing): click rate at first and later showings.';
comment on column bias.click_rate_of_repeats.channel is 'search or recommendation.';
comment on column bias.click_rate_of_repeats.showing is
    'once, first of several, again after a click, or again without one.';
comment on column bias.click_rate_of_repeats.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_of_repeats.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_of_repeats.click_rate is 'Clicks divided by impressions, pooled.';
