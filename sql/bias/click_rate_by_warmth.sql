-- How much of the test part is about notes that train has never shown?
--
-- Impressions of the test tables, by what the train table of the same channel knows of the note. A
-- model with an embedding per note knows nothing of unseen ones, whatever its loss says. Stored,
-- because notes of train and test are put side by side.

create or replace table bias.click_rate_by_warmth as
with test as (
    select
        channel,
        note_idx,
        count(*) as n_impressions,
        count(*) filter (where is_clicked) as n_clicks
    from core.impressions
    where source_table in ('search_test', 'recommendation_test')
    group by channel, note_idx
),

train as (
    select
        i.channel,
        i.note_idx,
        max(case when i.is_clicked then 1 else 0 end) as was_clicked
    from core.impressions as i
    inner join test as e on i.channel = e.channel and i.note_idx = e.note_idx
    where i.source_table in ('search_train', 'recommendation_train')
    group by i.channel, i.note_idx
),

groups as (
    select
        e.channel,
        case
            when t.was_clicked = 1 then 'clicked'
            when t.was_clicked = 0 then 'shown'
            else 'unseen'
        end as warmth,
        count(*) as n_notes,
        cast(sum(e.n_impressions) as bigint) as n_impressions,
        cast(sum(e.n_clicks) as bigint) as n_clicks
    from test as e
    left join train as t on e.channel = t.channel and e.note_idx = t.note_idx
    group by 1, 2
)

select
    channel,
    warmth,
    n_notes,
    n_impressions,
    n_clicks,
    cast(n_impressions as double) / nullif(sum(n_impressions) over (partition by channel), 0)
        as impression_share,
    cast(n_clicks as double) / nullif(sum(n_clicks) over (partition by channel), 0)
        as click_share,
    cast(n_clicks as double) / nullif(n_impressions, 0) as click_rate
from groups
order by channel, warmth;

comment on table bias.click_rate_by_warmth is
    'One row per (channel, warmth): test impressions of notes that train knows that much of.';
comment on column bias.click_rate_by_warmth.channel is 'search or recommendation.';
comment on column bias.click_rate_by_warmth.warmth is
    'What train of the same channel knows of the note: clicked, shown, or unseen.';
comment on column bias.click_rate_by_warmth.n_notes is
    'Notes counted, each once.';
comment on column bias.click_rate_by_warmth.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_warmth.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_warmth.impression_share is
    'Impressions divided by all impressions of the channel in the view.';
comment on column bias.click_rate_by_warmth.click_share is
    'Clicks divided by all clicks of the channel in the view.';
comment on column bias.click_rate_by_warmth.click_rate is 'Clicks divided by impressions, pooled.';
