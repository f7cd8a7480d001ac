-- The answer module: whether a direct answer stood on top of the page, and what users did with it.
--
-- Answers go to queries that call for one, and the users of this sample were chosen because they
-- engaged with an answer: a difference between shown and not shown is not an effect.

create or replace table core.answers as
select
    search_idx * 2 as request_id,
    dqa_output is not null as is_shown,
    dqa_output as answer,
    case when dqa_output is not null then reference_note_list end as reference_note_list,
    is_like_clk as is_answer_liked,
    is_onebox_trace_clk as is_reference_clicked,
    is_content_clk as is_body_clicked,
    is_experience_clk as is_experience_clicked
from raw.dqa
order by request_id;

comment on table core.answers is
    'One row per (request_id): a search of the answer sample, with or without an answer.';
comment on column core.answers.request_id is
    'Request; joins core.requests; search_idx * 2, or request_idx * 2 + 1 in the feed.';
comment on column core.answers.is_shown is 'A direct answer was shown.';
comment on column core.answers.answer is
    'Answer in Markdown with citations [第N篇](#); null when none was shown.';
comment on column core.answers.reference_note_list is
    'Notes the answer refers to, in the order of its citations.';
comment on column core.answers.is_answer_liked is
    'User liked the answer; null when none was shown.';
comment on column core.answers.is_reference_clicked is
    'User clicked a reference number of the answer; null when none was shown.';
comment on column core.answers.is_body_clicked is
    'User clicked the body of the answer; null when none was shown.';
comment on column core.answers.is_experience_clicked is
    'User clicked the tab of collected experiences; null when none was shown.';
