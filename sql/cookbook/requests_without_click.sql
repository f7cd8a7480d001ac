-- Where do requests without a click exist?
--
-- Only in the answer sample: elsewhere the release kept only requests with a click, so click rates
-- are conditional on at least one and abandonment cannot be studied.
select
    source_table,
    count(*) as n_requests,
    count(*) filter (where n_clicks = 0) as n_without_click,
    count(*) filter (where n_clicks = 0) / count(*) as share_without_click
from core.requests
group by source_table
order by source_table;
