-- Published search requests after the split.
--
-- The code of a missing query source differs between releases (null, NaN or -1); null here.
-- The release keeps only requests with at least one click: no rate here is unconditional.

create or replace view raw.search_test as
select
    row_number,
    cast(search_idx as bigint) as search_idx,
    cast(user_idx as bigint) as user_idx,
    cast(session_idx as bigint) as session_idx,
    nullif(query, '') as query,
    cast(
        case when isnan(query_from_type) or query_from_type < 1 then null else query_from_type end
        as integer
    ) as query_from_type,
    recent_clicked_note_idxs as recent_clicked_note_list,
    search_result_details_with_idx as result_detail_list,
    bm25_results,
    dpr_results,
    search_results as search_result_list
from published.search_test as p
where not exists (
    select 1 as one
    from quarantine.search_test as q
    where q.row_number = p.row_number
);

comment on view raw.search_test is
    'One row per (search_idx): a published search after the split.';
comment on column raw.search_test.row_number is
    'Zero-based row of the published table over all its files.';
comment on column raw.search_test.search_idx is
    'Search; unique over search_train, search_test and dqa.';
comment on column raw.search_test.user_idx is 'User; joins core.users; a key, never a feature.';
comment on column raw.search_test.session_idx is
    'App session from opening to closing the app, as published.';
comment on column raw.search_test.query is 'What the user searched for; null when blank.';
comment on column raw.search_test.query_from_type is
    'Query source, code 1 to 8 (core.requests names them); null when not logged.';
comment on column raw.search_test.recent_clicked_note_list is
    'Up to 20 notes clicked before the request, newest first, repeats allowed.';
comment on column raw.search_test.result_detail_list is
    'One struct per impression; only core.impressions opens it.';
comment on column raw.search_test.bm25_results is
    'Pairs (note_idx, score) of the BM25 retriever, both written as floats.';
comment on column raw.search_test.dpr_results is
    'Pairs (note_idx, score) of the dense retriever, which was trained on search_train.';
comment on column raw.search_test.search_result_list is
    'Candidates in display order, which a stable sort of constant scores gives away.';
