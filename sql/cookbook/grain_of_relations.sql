-- Which relations are there, and what is one row of each?
select
    schema_name,
    view_name,
    comment
from duckdb_views()
where not internal and comment is not null
order by schema_name, view_name;
