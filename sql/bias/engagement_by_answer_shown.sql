-- Do searches that show a direct answer look different (the paper's Table 5, right half)?
--
-- Raw difference, not an effect: answers go to queries that call for one, and the users who saw
-- them were sampled for engaging with answers. Searches without an answer are those of the search
-- tables and those of the answer sample in which none was shown.

create or replace view bias.engagement_by_answer_shown as
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
    r.has_answer,
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
where r.channel = 'search'
group by r.has_answer
order by r.has_answer;

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
