-- Which note type is clicked more, once places are taken into account?
--
-- Each click counts 1 / propensity of its place. The propensity is the click rate of the place over
-- that of the first place of the channel: right only if notes were placed at random, which they
-- were not, so the weights also undo what the ranker knew. Places from 1 to 20; the spread of the
-- weights is the effective sample size.
with places as (
    select
        channel,
        "position",
        count(*) filter (where is_clicked) / count(*) as click_rate
    from core.impressions
    where "position" between 1 and 20
    group by channel, "position"
),

propensities as (
    select
        p.channel,
        p."position",
        p.click_rate / nullif(f.click_rate, 0) as propensity
    from places as p
    inner join places as f on p.channel = f.channel and f."position" = 1
)

select
    i.channel,
    n.note_type,
    count(*) as n_impressions,
    count(*) filter (where i.is_clicked) / count(*) as click_rate,
    sum(case when i.is_clicked then 1 / p.propensity else 0 end) / count(*) as ips_click_rate,
    power(sum(1 / p.propensity), 2) / sum(power(1 / p.propensity, 2)) as effective_n
from core.impressions as i
inner join propensities as p on i.channel = p.channel and i."position" = p."position"
inner join core.notes as n on i.note_idx = n.note_idx
where p.propensity > 0
group by i.channel, n.note_type
order by i.channel, n.note_type;
