-- A stretch of use: requests of one user over both channels with at most 30 minutes between starts.
--
-- The end of a session is the start of its last request: how long the last page was read is not
-- logged, so durations are lower bounds.

create or replace table core.sessions as
with steps as (
    select
        session_id,
        user_idx,
        session_n,
        started_at,
        case when channel = 'search' then 'S' else 'R' end as step
    from core.requests
    where session_id is not null
)

select
    session_id,
    min(user_idx) as user_idx,
    min(started_at) as started_at,
    count(*) as n_requests,
    count(*) filter (where step = 'S') as n_searches,
    count(*) filter (where step = 'R') as n_recommendations,
    string_agg(step, '' order by session_n) as path,
    epoch(max(started_at)) - epoch(min(started_at)) as duration_s
from steps
group by session_id
order by session_id;

comment on table core.sessions is
    'One row per (session_id): requests of a user at most 30 minutes apart, over both channels.';
comment on column core.sessions.session_id is
    '30-minute session over both channels: request_id of its first request.';
comment on column core.sessions.user_idx is 'User; joins core.users; a key, never a feature.';
comment on column core.sessions.started_at is
    'Time of the earliest impression, UTC; null without impressions.';
comment on column core.sessions.n_requests is 'Requests counted.';
comment on column core.sessions.n_searches is
    'Searches counted, those of the answer sample included.';
comment on column core.sessions.n_recommendations is 'Feed requests counted.';
comment on column core.sessions.path is
    'Channels in order, S for search and R for the feed, such as RRS.';
comment on column core.sessions.duration_s is
    'Seconds from the start of the first request to the start of the last.';
