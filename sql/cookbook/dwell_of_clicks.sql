-- How long are clicked notes open?
--
-- Null is not logged, and in the feed that is most clicks: do not read it as a bounce.
select
    channel,
    count(*) as n_clicks,
    count(dwell_s) / count(*) as share_logged,
    quantile_cont(dwell_s, 0.25) as dwell_s_p25,
    quantile_cont(dwell_s, 0.5) as dwell_s_median,
    quantile_cont(dwell_s, 0.75) as dwell_s_p75
from core.impressions
where is_clicked
group by channel
order by channel;
