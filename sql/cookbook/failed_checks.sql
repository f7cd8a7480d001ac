-- What is wrong with this data, and which rows show it?
select
    asset,
    check_name,
    severity,
    unexpected_count,
    why,
    examples
from evaluation.checks
where not passed
order by severity, asset, check_name;
