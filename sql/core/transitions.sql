-- What a user did next: two consecutive requests of one session (the paper's Table 6).
--
-- Clicks and impressions are those of the second request, as in the paper.

create or replace table core.transitions as
with pairs as (
    select
        request_id,
        channel,
        n_impressions,
        n_clicks,
        started_at,
        lag(request_id) over (partition by session_id order by session_n) as previous_request_id,
        lag(channel) over (partition by session_id order by session_n) as previous_channel,
        lag(started_at) over (partition by session_id order by session_n) as previous_started_at
    from core.requests
    where session_id is not null
)

select
    request_id,
    previous_request_id,
    concat(
        case when previous_channel = 'search' then 'S' else 'R' end,
        '->',
        case when channel = 'search' then 'S' else 'R' end
    ) as transition,
    epoch(started_at) - epoch(previous_started_at) as gap_s,
    n_impressions,
    n_clicks
from pairs
where previous_request_id is not null
order by request_id;

comment on table core.transitions is
    'One row per (request_id): the second of two consecutive requests of one session.';
comment on column core.transitions.request_id is
    'Request; joins core.requests; search_idx * 2, or request_idx * 2 + 1 in the feed.';
comment on column core.transitions.previous_request_id is
    'The request just before in the same session; joins core.requests.';
comment on column core.transitions.transition is
    'S->S, R->S, R->R or S->R: channel of the earlier request, then of this one.';
comment on column core.transitions.gap_s is 'Seconds between the starts of the two requests.';
comment on column core.transitions.n_impressions is 'Impressions counted; repeats count again.';
comment on column core.transitions.n_clicks is 'Clicked impressions counted; repeats count again.';
