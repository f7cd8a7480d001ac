-- Do searches that came from a suggestion click differently from typed ones?
select
    query_source,
    case query_source
        when 1 then 'active search'
        when 2 then 'auto-completion'
        when 3 then 'search history'
        when 4 then 'suggestion on the result page'
        when 5 then 'suggestion inside a result'
        when 6 then 'filter'
        when 7 then 'hot list'
        when 8 then 'other'
        else 'not logged'
    end as source_name,
    count(*) as n_requests,
    sum(n_clicks) / nullif(sum(n_impressions), 0) as click_rate
from core.requests
where channel = 'search'
group by query_source
order by query_source nulls last;
