-- How often does the same note come back in one request, and does the second showing get clicks?
--
-- Count both showings and a click rate falls; deduplicate before ranking or evaluating.
select
    source_table,
    is_repeat,
    count(*) as n_impressions,
    count(*) filter (where is_clicked) / count(*) as click_rate
from core.impressions
group by source_table, is_repeat
order by source_table, is_repeat;
