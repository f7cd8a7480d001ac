-- What do the columns of a relation mean?
--
-- Every column of core and bias carries its meaning, unit and null rule in the database.
select
    column_name,
    data_type,
    comment
from duckdb_columns()
where schema_name = 'core' and table_name = 'impressions'
order by column_index;
