-- Do searches that show a direct answer look different (the paper's Table 5, right half)?
--
-- Raw difference, not an effect: answers go to queries that call for one, and the users who saw
-- them were sampled for engaging with answers. Searches without an answer are those of the search
-- tables and those of the answer sample in which none was shown.

create or replace view bias.engagement_by_answer_shown as
select
    has_answer,
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
where channel = 'search'
group by has_answer
order by has_answer;

comment on view bias.engagement_by_answer_shown is
    'One row per (has_answer): browsing, clicks and engagement of searches.';
comment on column bias.engagement_by_answer_shown.has_answer is
    'A direct answer was shown; null in the feed, which has none.';
comment on column bias.engagement_by_answer_shown.n_requests is 'Requests counted.';
comment on column bias.engagement_by_answer_shown.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.engagement_by_answer_shown.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.engagement_by_answer_shown.browsing_depth_mean is
    'Mean over requests of the deepest position returned.';
comment on column bias.engagement_by_answer_shown.first_click_position_mean is
    'Mean over requests with a click of the least clicked position.';
comment on column bias.engagement_by_answer_shown.clicks_per_request is
    'Clicks divided by requests, requests without a click included.';
comment on column bias.engagement_by_answer_shown.click_rate is
    'Clicks divided by impressions, pooled.';
comment on column bias.engagement_by_answer_shown.like_rate is 'Liked clicks divided by clicks.';
comment on column bias.engagement_by_answer_shown.collect_rate is
    'Collected clicks divided by clicks.';
comment on column bias.engagement_by_answer_shown.share_rate is 'Shared clicks divided by clicks.';
comment on column bias.engagement_by_answer_shown.comment_rate is
    'Commented clicks divided by clicks.';
