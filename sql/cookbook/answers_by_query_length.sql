-- Do searches with an answer differ from others of the same length, source and sample?
--
-- Closer than the raw difference, not an effect: within a stratum answers still go to queries that
-- call for one.
select
    least(greatest(length(query), 3), 11) as query_length_bin,
    has_answer,
    count(*) as n_requests,
    avg(browsing_depth) as browsing_depth_mean,
    avg(n_clicks) as clicks_per_request
from core.requests
where source_table = 'dqa' and query is not null
group by query_length_bin, has_answer
order by query_length_bin, has_answer;
