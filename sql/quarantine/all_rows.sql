-- Everything that was set aside, of all seven published tables.
--
-- File and row say where the published row lies, as it was given: nothing of it is lost.

create or replace view quarantine.all_rows as
select
    source_table,
    row_number,
    source_file,
    source_row,
    reason,
    detail
from quarantine.requests
union all
select
    'notes' as source_table,
    row_number,
    source_file,
    source_row,
    reason,
    detail
from quarantine.notes
union all
select
    'user_feat' as source_table,
    row_number,
    source_file,
    source_row,
    reason,
    detail
from quarantine.user_feat;

comment on view quarantine.all_rows is
    'One row per (source_table, row_number): a published row that is set aside, and why.';
comment on column quarantine.all_rows.source_table is
    'Published table the row comes from: search_train, search_test, dqa and so on.';
comment on column quarantine.all_rows.row_number is
    'Zero-based row of the published table over all its files.';
comment on column quarantine.all_rows.source_file is 'Published file that holds the row.';
comment on column quarantine.all_rows.source_row is 'Zero-based row in that file.';
comment on column quarantine.all_rows.reason is
    'Why the published row cannot be used; the first reason where there are several.';
comment on column quarantine.all_rows.detail is
    'The value that cannot be, as text; null where nothing is there.';
