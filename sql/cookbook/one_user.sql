-- What did one user do, from request to request?
--
-- The user with the most sessions; put another user_idx in its place to follow somebody else.
with busiest as (
    select user_idx
    from core.sessions
    group by user_idx
    order by count(*) desc, user_idx
    limit 1
)

select
    r.session_id,
    r.session_n,
    r.channel,
    r.started_at + interval 8 hour as started_in_china,
    r.query,
    r.n_impressions,
    r.n_clicks
from core.requests as r
inner join busiest as b on r.user_idx = b.user_idx
order by r.started_at, r.request_id;
