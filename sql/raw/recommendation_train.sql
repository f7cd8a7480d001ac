-- Published feed requests before the split.
--
-- A request is one page fetch of the feed, so positions may start deep in the feed.
-- The release keeps only requests with at least one click: no rate here is unconditional.
-- The list of impressions is in the order of the log join, in which clicked rows tend to come late:
-- that order leaks the click and is no feature.

create or replace view raw.recommendation_train as
select
    row_number,
    cast(request_idx as bigint) as request_idx,
    cast(user_idx as bigint) as user_idx,
    cast(session_idx as bigint) as session_idx,
    nullif(query, '') as query,
    recent_clicked_note_idxs as recent_clicked_note_list,
    rec_result_details_with_idx as result_detail_list
from published.recommendation_train as p
where not exists (
    select 1 as one
    from quarantine.recommendation_train as q
    where q.row_number = p.row_number
);

comment on view raw.recommendation_train is
    'One row per (request_idx): a published feed request before the split.';
comment on column raw.recommendation_train.row_number is
    'Zero-based row of the published table over all its files.';
comment on column raw.recommendation_train.request_idx is
    'Feed request; unique over the two feed tables.';
comment on column raw.recommendation_train.user_idx is
    'User; joins core.users; a key, never a feature.';
comment on column raw.recommendation_train.session_idx is
    'App session from opening to closing the app, as published.';
comment on column raw.recommendation_train.query is
    'Titles of recently clicked notes joined; nobody typed it.';
comment on column raw.recommendation_train.recent_clicked_note_list is
    'Up to 20 notes clicked before the request, newest first, repeats allowed.';
comment on column raw.recommendation_train.result_detail_list is
    'One struct per impression; only core.impressions opens it.';
