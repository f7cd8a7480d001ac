-- Which paths do sessions take through search and feed?
select
    case when length(path) > 6 then left(path, 6) || '...' else path end as path_start,
    count(*) as n_sessions,
    count(*) / sum(count(*)) over () as session_share,
    avg(duration_s) as duration_s_mean
from core.sessions
group by path_start
order by n_sessions desc, path_start
limit 20;
