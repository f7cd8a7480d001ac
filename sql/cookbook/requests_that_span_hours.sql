-- Which requests hold impressions far apart in time?
--
-- A page looked at again keeps its request. Split such requests by request, never by impression.
with spans as (
    select
        request_id,
        source_table,
        epoch(max(exposed_at)) - epoch(min(exposed_at)) as span_s
    from core.impressions
    group by request_id, source_table
)

select
    source_table,
    count(*) as n_requests,
    count(*) filter (where span_s > 1800) / count(*) as share_over_30_minutes,
    quantile_cont(span_s, 0.5) as span_s_median,
    max(span_s) as span_s_max
from spans
group by source_table
order by source_table;
