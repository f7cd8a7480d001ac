-- Do the official label files agree with the clicks of the log?
--
-- Null means no file was given for that table. A file of another row order disagrees nearly
-- everywhere.
select
    source_table,
    is_in_qrels is not null as has_file,
    count(*) as n_pairs,
    count(*) filter (where is_in_log and is_in_qrels) as n_in_both,
    count(*) filter (where is_in_log and not is_in_qrels) as n_only_in_log,
    count(*) filter (where not is_in_log) as n_only_in_file
from core.relevance_labels
group by source_table, has_file
order by source_table;
