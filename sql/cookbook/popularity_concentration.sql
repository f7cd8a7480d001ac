-- How concentrated are clicks on few notes?
with clicks as (
    select
        channel,
        note_idx,
        count(*) as n_clicks
    from core.impressions
    where is_clicked
    group by channel, note_idx
),

ranked as (
    select
        channel,
        n_clicks,
        percent_rank() over (partition by channel order by n_clicks desc) as rank_share
    from clicks
)

select
    channel,
    count(*) as n_notes_clicked,
    count(*) filter (where n_clicks = 1) / count(*) as share_clicked_once,
    sum(n_clicks) filter (where rank_share <= 0.01) / sum(n_clicks) as top_percent_share,
    max(n_clicks) as n_clicks_max
from ranked
group by channel
order by channel;
