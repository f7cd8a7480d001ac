-- How much do users look at, click and engage with, by channel (the paper's Table 5)?
--
-- Engagement counts only where the note was clicked, as in the paper. Outside the answer sample the
-- release keeps only requests with a click, so clicks per request and click rate are conditional on
-- that, and the two channels are filtered by it to different degrees.

create or replace view bias.engagement_by_channel as
with engagement as (
    select
        request_id,
        count(*) filter (where is_clicked and is_liked) as n_liked,
        count(*) filter (where is_clicked and is_collected) as n_collected,
        count(*) filter (where is_clicked and is_shared) as n_shared,
        count(*) filter (where is_clicked and is_commented) as n_commented
    from core.impressions
    where is_clicked
    group by request_id
)

select
    r.channel,
    count(*) as n_requests,
    cast(sum(r.n_impressions) as bigint) as n_impressions,
    cast(sum(r.n_clicks) as bigint) as n_clicks,
    avg(r.browsing_depth) as browsing_depth_mean,
    avg(r.first_click_position) as first_click_position_mean,
    avg(r.n_clicks) as clicks_per_request,
    cast(sum(r.n_clicks) as double) / nullif(sum(r.n_impressions), 0) as click_rate,
    cast(sum(e.n_liked) as double) / nullif(sum(r.n_clicks), 0) as like_rate,
    cast(sum(e.n_collected) as double) / nullif(sum(r.n_clicks), 0) as collect_rate,
    cast(sum(e.n_shared) as double) / nullif(sum(r.n_clicks), 0) as share_rate,
    cast(sum(e.n_commented) as double) / nullif(sum(r.n_clicks), 0) as comment_rate
from core.requests as r
left join engagement as e on r.request_id = e.request_id
group by r.channel
order by r.channel;

comment on view bias.engagement_by_channel is
    'One row per (channel): browsing, clicks and engagement of its requests.';
comment on column bias.engagement_by_channel.channel is 'search or recommendation.';
comment on column bias.engagement_by_channel.n_requests is 'Requests counted.';
comment on column bias.engagement_by_channel.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.engagement_by_channel.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.engagement_by_channel.browsing_depth_mean is
    'Mean over requests of the deepest position returned.';
comment on column bias.engagement_by_channel.first_click_position_mean is
    'Mean over requests with a click of the least clicked position.';
comment on column bias.engagement_by_channel.clicks_per_request is
    'Clicks divided by requests, requests without a click included.';
comment on column bias.engagement_by_channel.click_rate is 'Clicks divided by impressions, pooled.';
comment on column bias.engagement_by_channel.like_rate is 'Liked clicks divided by clicks.';
comment on column bias.engagement_by_channel.collect_rate is 'Collected clicks divided by clicks.';
comment on column bias.engagement_by_channel.share_rate is 'Shared clicks divided by clicks.';
comment on column bias.engagement_by_channel.comment_rate is 'Commented clicks divided by clicks.';
