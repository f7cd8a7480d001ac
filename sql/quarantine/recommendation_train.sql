-- Published feed requests before the split that cannot be used; raw has all others.
--
-- The rules are those of quarantine.requests and quarantine.impressions. The published file is
-- never changed: file and row say where the request lies as it was given.

create or replace view quarantine.recommendation_train as
select
    row_number,
    source_file,
    source_row,
    published_idx,
    reason,
    detail
from quarantine.requests
where source_table = 'recommendation_train';

comment on view quarantine.recommendation_train is
    'One row per (row_number): a feed request before the split set aside, and why.';
comment on column quarantine.recommendation_train.row_number is
    'Zero-based row of the published table over all its files.';
comment on column quarantine.recommendation_train.source_file is
    'Published file that holds the row.';
comment on column quarantine.recommendation_train.source_row is 'Zero-based row in that file.';
comment on column quarantine.recommendation_train.published_idx is
    'search_idx in search, request_idx in the feed.';
comment on column quarantine.recommendation_train.reason is
    'Why the published row cannot be used; the first reason where there are several.';
comment on column quarantine.recommendation_train.detail is
    'The value that cannot be, as text; null where nothing is there.';
