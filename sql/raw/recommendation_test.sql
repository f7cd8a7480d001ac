-- Published feed requests after the split.
--
-- A request is one page fetch of the feed, so positions may start deep in the feed.
-- The release keeps only requests with at least one click: no rate here is unconditional.
-- The list of impressions is in the order of the log join, in which clicked rows tend to come late:
-- that order leaks the click and is no feature.

create or replace view raw.recommendation_test as
select
    row_number,
    cast(request_idx as bigint) as request_idx,
    cast(user_idx as bigint) as user_idx,
    cast(session_idx as bigint) as session_idx,
    nullif(query, '') as query,
    recent_clicked_note_idxs as recent_clicked_note_list,
    rec_result_details_with_idx as result_detail_list,
    rec_results as rec_result_list
from published.recommendation_test as p
where not exists (
    select 1 as one
    from quarantine.recommendation_test as q
    where q.row_number = p.row_number
);

comment on view raw.recommendation_test is
    'One row per (request_idx): a published feed request after the split.';
comment on column raw.recommendation_test.row_number is
    'Zero-based row of the published table over all its files.';
comment on column raw.recommendation_test.request_idx is
    'Feed request; unique over the two feed tables.';
comment on column raw.recommendation_test.user_idx is
    'User; joins core.users; a key, never a feature.';
comment on column raw.recommendation_test.session_idx is
    'App session from opening to closing the app, as published.';
comment on column raw.recommendation_test.query is
    'Titles of recently clicked notes joined; nobody typed it.';
comment on column raw.recommendation_test.recent_clicked_note_list is
    'Up to 20 notes clicked before the request, newest first, repeats allowed.';
comment on column raw.recommendation_test.result_detail_list is
    'One struct per impression; only core.impressions opens it.';
comment on column raw.recommendation_test.rec_result_list is
    'Candidates of the test request, distinct and shuffled.';
