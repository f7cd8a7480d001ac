-- What do users do with a note they clicked?
--
-- Rates are of clicked impressions; dwell is known for a part of them only, see dwell_of_clicks.
select
    channel,
    count(*) as n_clicks,
    avg(is_liked::integer) as like_rate,
    avg(is_collected::integer) as collect_rate,
    avg(is_commented::integer) as comment_rate,
    avg(is_shared::integer) as share_rate,
    median(dwell_s) as median_dwell_s
from core.impressions
where is_clicked
group by channel
order by channel;
