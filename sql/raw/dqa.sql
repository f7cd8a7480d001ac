-- Published search requests of the direct-answer sample, with and without an answer.
--
-- These users were sampled because they engaged with an answer that day, and only here do requests
-- without a click exist: rates are not comparable with the other search tables without saying so.
-- "No answer" is -1 in every answer column; null here.

create or replace view raw.dqa as
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
    nullif(dqa_output, '-1') as dqa_output,
    case when is_like_clk in (0, 1) then is_like_clk = 1 end as is_like_clk,
    case when is_onebox_trace_clk in (0, 1) then is_onebox_trace_clk = 1 end as is_onebox_trace_clk,
    case when is_content_clk in (0, 1) then is_content_clk = 1 end as is_content_clk,
    case when is_experience_clk in (0, 1) then is_experience_clk = 1 end as is_experience_clk,
    ref_note_idx_list as reference_note_list,
    bm25_results,
    dpr_results
from published.dqa as p
where not exists (
    select 1 as one
    from quarantine.dqa as q
    where q.row_number = p.row_number
);

comment on view raw.dqa is
    'One row per (search_idx): a published search of the direct-answer sample.';
comment on column raw.dqa.row_number is 'Zero-based row of the published table over all its files.';
comment on column raw.dqa.search_idx is 'Search; unique over search_train, search_test and dqa.';
comment on column raw.dqa.user_idx is 'User; joins core.users; a key, never a feature.';
comment on column raw.dqa.session_idx is
    'App session from opening to closing the app, as published.';
comment on column raw.dqa.query is 'What the user searched for; null when blank.';
comment on column raw.dqa.query_from_type is
    'Query source, code 1 to 8 (core.requests names them); null when not logged.';
comment on column raw.dqa.recent_clicked_note_list is
    'Up to 20 notes clicked before the request, newest first, repeats allowed.';
comment on column raw.dqa.result_detail_list is
    'One struct per impression; only core.impressions opens it.';
comment on column raw.dqa.dqa_output is
    'Answer in Markdown with citations [第N篇](#); null when none was shown.';
comment on column raw.dqa.is_like_clk is 'User liked the answer; null when none was shown.';
comment on column raw.dqa.is_onebox_trace_clk is
    'User clicked a reference number of the answer; null when none was shown.';
comment on column raw.dqa.is_content_clk is
    'User clicked the body of the answer; null when none was shown.';
comment on column raw.dqa.is_experience_clk is
    'User clicked the tab of collected experiences; null when none was shown.';
comment on column raw.dqa.reference_note_list is
    'Notes the answer refers to, in the order of its citations.';
comment on column raw.dqa.bm25_results is
    'Pairs (note_idx, score) of the BM25 retriever, both written as floats.';
comment on column raw.dqa.dpr_results is
    'Pairs (note_idx, score) of the dense retriever, which was trained on search_train.';
