-- The searches of the answer sample as an experiment would keep them: who was shown an answer, what
-- was known before, what happened after.
--
-- Everything above the outcomes was settled before the page appeared: the query and its form, the
-- user, the clock, what the user had done until then, and the first five notes. Those are what the
-- search engine found, before anything was read; that an answer leaves them as they are is assumed.
-- Of the published users' features only names and counts are here; core.users has the others.
-- A form of query is told by the words of asking, in this order; one that has none is 'other'.
-- The log is one day of some users. Whether somebody asked again is known in the log only, and only
-- where three hours of it are left.

create or replace table core.answer_requests as
with timeline as (
    select
        request_id,
        user_idx,
        session_id,
        channel,
        started_at,
        n_clicks,
        row_number() over (
            partition by user_idx order by started_at nulls last, source_table, request_id
        ) - 1 as n_requests_before,
        coalesce(sum(case when channel = 'search' then 1 else 0 end) over (
            partition by user_idx order by started_at nulls last, source_table, request_id
            rows between unbounded preceding and 1 preceding
        ), 0) as n_searches_before,
        coalesce(sum(n_clicks) over (
            partition by user_idx order by started_at nulls last, source_table, request_id
            rows between unbounded preceding and 1 preceding
        ), 0) as n_clicks_before,
        lag(n_clicks) over (
            partition by user_idx order by started_at nulls last, source_table, request_id
        ) as previous_n_clicks,
        lag(channel) over (
            partition by user_idx order by started_at nulls last, source_table, request_id
        ) as previous_channel,
        lag(started_at) over (
            partition by user_idx order by started_at nulls last, source_table, request_id
        ) as previous_started_at,
        lead(session_id) over (
            partition by user_idx order by started_at nulls last, source_table, request_id
        ) as next_session_id,
        lead(started_at) over (
            partition by user_idx order by started_at nulls last, source_table, request_id
        ) as next_started_at
    from core.requests
),

log_end as (
    select max(started_at) as last_started_at
    from core.requests
),

impressions as (
    select
        i.request_id,
        -- Thousandths are logged; further digits follow the order of adding.
        round(sum(case when i.is_clicked then i.dwell_s end), 6) as clicked_dwell_s,
        avg(
            case
                when i.shown_rank > 5 then null
                when n.note_type = 2 then 1.0
                when n.note_type is not null then 0.0
            end
        ) as first_video_share,
        avg(
            case
                when i.shown_rank > 5 then null
                when n.is_commercial then 1.0
                when not n.is_commercial then 0.0
            end
        ) as first_commercial_share
    from core.impressions as i
    left join core.notes as n on i.note_idx = n.note_idx
    where i.source_table = 'dqa'
    group by i.request_id
),

topic_counts as (
    select
        i.request_id,
        n.taxonomy1_id,
        count(*) as n_notes
    from core.impressions as i
    inner join core.notes as n on i.note_idx = n.note_idx
    where i.source_table = 'dqa' and i.shown_rank <= 5 and n.taxonomy1_id is not null
    group by i.request_id, n.taxonomy1_id
),

topic_sizes as (
    select
        request_id,
        max(n_notes) as n_notes
    from topic_counts
    group by request_id
),

topics as (
    select
        c.request_id,
        min(c.taxonomy1_id) as topic
    from topic_counts as c
    inner join topic_sizes as s on c.request_id = s.request_id and c.n_notes = s.n_notes
    group by c.request_id
)

select
    a.request_id,
    r.user_idx,
    a.is_shown,
    r.query,
    cast(length(r.query) as integer) as query_length,
    r.query_source_name,
    case
        when r.query is null then 'other'
        when
            regexp_matches(
                r.query,
                '多少|多久|多大|多长|几[个月点天年岁号时]|价格|价位|费用|门票|热量|卡路里|比例|时间|什么时候'
            )
            then 'how much'
        when regexp_matches(r.query, '怎么选|怎么挑|挑选|哪个|入门') then 'advice'
        when
            regexp_matches(
                r.query,
                '怎么[^样]|如何|步骤|方法|做法|流程|用法|配方|配比|交通|保存|存放|解决'
            )
            then 'how to'
        when
            regexp_matches(
                r.query,
                '为什么|是什么|穿什么|是否|能不能|区别|意思|条件|要求|须知|注意|天气|结局|剧透|解析|原因'
            )
            then 'what or whether'
        when
            regexp_matches(
                r.query,
                '推荐|安利|测评|实测|好物|神器|平价|替代|避坑|踩雷|对比|排行|心得|攻略|教程|怎么样|好不好'
            )
            then 'advice'
        else 'other'
    end as query_form,
    p.topic,
    i.first_video_share,
    i.first_commercial_share,
    cast((cast(floor(epoch(r.started_at) / 3600) as bigint) + 8) % 24 as integer) as hour_of_day,
    r.session_n,
    r.app_session_n,
    cast(coalesce(array_length(r.history_list), 0) as integer) as n_history,
    t.n_requests_before,
    cast(t.n_searches_before as bigint) as n_searches_before,
    cast(t.n_clicks_before as bigint) as n_clicks_before,
    t.previous_n_clicks,
    t.previous_channel,
    epoch(t.started_at) - epoch(t.previous_started_at) as previous_gap_s,
    u.gender,
    u.platform,
    u.age,
    u.fans_num,
    u.follows_num,
    r.n_impressions,
    r.n_clicks,
    cast(r.n_clicks as double) / nullif(r.n_impressions, 0) as request_click_rate,
    r.browsing_depth,
    r.first_click_position,
    r.n_clicks = 0 as is_abandoned,
    r.n_likes + r.n_collects + r.n_comments + r.n_shares > 0 as has_engagement,
    coalesce(i.clicked_dwell_s, 0.0) as clicked_dwell_s,
    coalesce(t.next_session_id = t.session_id, false) as has_next_in_session,
    case
        when epoch(l.last_started_at) - epoch(t.started_at) >= 10800
            then coalesce(epoch(t.next_started_at) - epoch(t.started_at) <= 10800, false)
    end as has_next_in_3_hours
from core.answers as a
inner join core.requests as r on a.request_id = r.request_id
inner join timeline as t on a.request_id = t.request_id
cross join log_end as l
left join impressions as i on a.request_id = i.request_id
left join topics as p on a.request_id = p.request_id
left join core.users as u on r.user_idx = u.user_idx
order by a.request_id;

comment on table core.answer_requests is
    'One row per (request_id): a search of the answer sample, before and after.';
comment on column core.answer_requests.request_id is
    'Request; joins core.requests; search_idx * 2, or request_idx * 2 + 1 in the feed.';
comment on column core.answer_requests.user_idx is
    'User; joins core.users; a key, never a feature.';
comment on column core.answer_requests.is_shown is 'A direct answer was shown.';
comment on column core.answer_requests.query is
    'What the user searched for; null in the feed or when blank.';
comment on column core.answer_requests.query_length is 'Characters of the query; null when blank.';
comment on column core.answer_requests.query_source_name is
    'Where the query came from, in words; null in the feed.';
comment on column core.answer_requests.query_form is
    'how much, how to, what or whether, advice, other: by words of asking.';
comment on column core.answer_requests.topic is
    'Commonest taxonomy1_id of the first five notes, least of equals; null without any.';
comment on column core.answer_requests.first_video_share is
    'Share of videos among the first five notes whose form is known.';
comment on column core.answer_requests.first_commercial_share is
    'Share of advertisements among the first five notes for which that is known.';
comment on column core.answer_requests.hour_of_day is
    'Hour of China''s clock at which the request began, 0 to 23.';
comment on column core.answer_requests.session_n is
    'Order of the request in its 30-minute session, from 1.';
comment on column core.answer_requests.app_session_n is
    'Order of the request in its app session over both channels, from 1.';
comment on column core.answer_requests.n_history is
    'Notes of the published click history, at most 20, counted.';
comment on column core.answer_requests.n_requests_before is
    'Earlier requests of the user in the log, both channels, counted.';
comment on column core.answer_requests.n_searches_before is
    'Earlier searches of the user in the log, counted.';
comment on column core.answer_requests.n_clicks_before is
    'Clicks in earlier requests of the user in the log, counted; repeats count again.';
comment on column core.answer_requests.previous_n_clicks is
    'Clicks of the user''s request just before, any session; null without one.';
comment on column core.answer_requests.previous_channel is
    'search or recommendation, of the request just before; null without one.';
comment on column core.answer_requests.previous_gap_s is
    'Seconds since the user''s request just before began; null without one.';
comment on column core.answer_requests.gender is 'female, male or unknown.';
comment on column core.answer_requests.platform is
    'Device system: iOS, Android, Harmony or unknown.';
comment on column core.answer_requests.age is
    'Age band such as 19-22; unknown is a value of its own.';
comment on column core.answer_requests.fans_num is 'Followers the user has.';
comment on column core.answer_requests.follows_num is 'Accounts the user follows.';
comment on column core.answer_requests.n_impressions is 'Impressions counted; repeats count again.';
comment on column core.answer_requests.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column core.answer_requests.request_click_rate is
    'Clicks divided by impressions of this request; null without impressions.';
comment on column core.answer_requests.browsing_depth is
    'Deepest position returned; null without impressions.';
comment on column core.answer_requests.first_click_position is
    'Least clicked position; null without a click.';
comment on column core.answer_requests.is_abandoned is 'Nothing was clicked.';
comment on column core.answer_requests.has_engagement is
    'A clicked note was liked, collected, commented on or shared.';
comment on column core.answer_requests.clicked_dwell_s is
    'Seconds spent in clicked notes as far as logged, summed; 0 when nothing was logged.';
comment on column core.answer_requests.has_next_in_session is
    'The user asked or was fed again in this 30-minute session.';
comment on column core.answer_requests.has_next_in_3_hours is
    'As in the log within 3 hours; null where less than that of it is left.';
