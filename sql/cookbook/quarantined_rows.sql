-- Which published rows were set aside, why, and in which file does the first of each kind lie?
-- File and row are those of the published file: any Parquet tool shows the row as it was given.
with counted as (
    select
        source_table,
        reason,
        count(*) as n_rows,
        min(row_number) as first_row_number
    from quarantine.all_rows
    group by source_table, reason
),

sizes as (
    select
        'notes' as source_table,
        count(*) as n_published
    from published.notes
    union all
    select
        'user_feat' as source_table,
        count(*) as n_published
    from published.user_feat
    union all
    select
        'search_train' as source_table,
        count(*) as n_published
    from published.search_train
    union all
    select
        'search_test' as source_table,
        count(*) as n_published
    from published.search_test
    union all
    select
        'dqa' as source_table,
        count(*) as n_published
    from published.dqa
    union all
    select
        'recommendation_train' as source_table,
        count(*) as n_published
    from published.recommendation_train
    union all
    select
        'recommendation_test' as source_table,
        count(*) as n_published
    from published.recommendation_test
)

select
    s.source_table,
    s.n_published,
    coalesce(c.n_rows, 0) as n_rows,
    coalesce(c.reason, 'nothing was set aside') as reason,
    r.source_file as first_file,
    r.source_row as first_row,
    r.detail as first_detail
from sizes as s
left join counted as c on s.source_table = c.source_table
left join quarantine.all_rows as r
    on c.source_table = r.source_table and c.first_row_number = r.row_number
order by n_rows desc, s.source_table, reason;
