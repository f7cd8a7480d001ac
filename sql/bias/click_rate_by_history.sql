-- Are notes clicked more that the user clicked before?
--
-- The history of a request is what the user clicked before it, at most 20 notes, so it is known in
-- time. Members stand at other places than the rest, which the mean position shows. Stored, because
-- every impression is looked up in the history of its request.

create or replace table bias.click_rate_by_history as
with impressions as (
    select
        i.channel,
        coalesce(list_contains(r.history_list, i.note_idx), false) as is_in_history,
        i.is_clicked,
        i."position"
    from core.impressions as i
    inner join core.requests as r on i.request_id = r.request_id
)

select
    channel,
    is_in_history,
    count(*) as n_impressions,
    count(*) filter (where is_clicked) as n_clicks,
    cast(count(*) filter (where is_clicked) as double) / nullif(count(*), 0) as click_rate,
    cast(sum("position") as double) / nullif(count("position"), 0) as position_mean
from impressions
group by channel, is_in_history
order by channel, is_in_history;

comment on table bias.click_rate_by_history is
    'One row per (channel, is_in_history): click rate of notes clicked before, or not.';
comment on column bias.click_rate_by_history.channel is 'search or recommendation.';
comment on column bias.click_rate_by_history.is_in_history is
    'The user had clicked the note before the request, by its history list.';
comment on column bias.click_rate_by_history.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_history.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_history.click_rate is 'Clicks divided by impressions, pooled.';
comment on column bias.click_rate_by_history.position_mean is 'Mean position of the impressions.';
