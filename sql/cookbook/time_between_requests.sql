-- How long do users wait between two requests of a session?
select
    transition,
    count(*) as n_transitions,
    quantile_cont(gap_s, 0.25) as gap_s_p25,
    quantile_cont(gap_s, 0.5) as gap_s_median,
    quantile_cont(gap_s, 0.75) as gap_s_p75
from core.transitions
group by transition
order by transition;
