-- How much do users look at, click and engage with, by channel (the paper's Table 5)?
--
-- Engagement counts only where the note was clicked, as in the paper. Outside the answer sample the
-- release keeps only requests with a click, so clicks per request and click rate are conditional on
-- that, and the two channels are filtered by it to different degrees.

create or replace view bias.engagement_by_channel as
select
    channel,
    count(*) as n_requests,
    cast(sum(n_impressions) as bigint) as n_impressions,
    cast(sum(n_clicks) as bigint) as n_clicks,
    avg(browsing_depth) as browsing_depth_mean,
    avg(first_click_position) as first_click_position_mean,
    avg(n_clicks) as clicks_per_request,
    cast(sum(n_clicks) as double) / nullif(sum(n_impressions), 0) as click_rate,
    cast(sum(n_likes) as double) / nullif(sum(n_clicks), 0) as like_rate,
    cast(sum(n_collects) as double) / nullif(sum(n_clicks), 0) as collect_rate,
    cast(sum(n_shares) as double) / nullif(sum(n_clicks), 0) as share_rate,
    cast(sum(n_comments) as double) / nullif(sum(n_clicks), 0) as comment_rate
from core.requests
group by channel
order by channel;

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
