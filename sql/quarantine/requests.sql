-- Published requests that cannot be used, of all five tables: the rules for one request.
--
-- A request is set aside whole, with all its impressions: without one of its candidates it would be
-- another request, with other ranks, another click rate and another answer to every model.
-- Missing is not unusable: no query, no query source (null, NaN or below 1), no history, no answer.
-- The row names one reason, the first in the order of this file.
--
-- The first usable row of a key stays, later ones are set aside. Keys are one space over the three
-- search tables, in the order search_train, search_test, dqa, and one over the two feed tables.
-- A user is unknown only where at least nine requests in ten find their user: in a sample of users
-- hardly any does.

create or replace table quarantine.requests as
with published_requests as (
    select
        'search_train' as source_table,
        'search' as channel,
        1 as table_n,
        row_number,
        source_file,
        source_row,
        search_idx as published_idx,
        user_idx,
        session_idx,
        query_from_type,
        cast(null as double) as is_like_clk,
        cast(null as double) as is_onebox_trace_clk,
        cast(null as double) as is_content_clk,
        cast(null as double) as is_experience_clk
    from published.search_train
    union all
    select
        'search_test' as source_table,
        'search' as channel,
        2 as table_n,
        row_number,
        source_file,
        source_row,
        search_idx as published_idx,
        user_idx,
        session_idx,
        query_from_type,
        cast(null as double) as is_like_clk,
        cast(null as double) as is_onebox_trace_clk,
        cast(null as double) as is_content_clk,
        cast(null as double) as is_experience_clk
    from published.search_test
    union all
    select
        'dqa' as source_table,
        'search' as channel,
        3 as table_n,
        row_number,
        source_file,
        source_row,
        search_idx as published_idx,
        user_idx,
        session_idx,
        query_from_type,
        is_like_clk,
        is_onebox_trace_clk,
        is_content_clk,
        is_experience_clk
    from published.dqa
    union all
    select
        'recommendation_train' as source_table,
        'recommendation' as channel,
        4 as table_n,
        row_number,
        source_file,
        source_row,
        request_idx as published_idx,
        user_idx,
        session_idx,
        cast(null as double) as query_from_type,
        cast(null as double) as is_like_clk,
        cast(null as double) as is_onebox_trace_clk,
        cast(null as double) as is_content_clk,
        cast(null as double) as is_experience_clk
    from published.recommendation_train
    union all
    select
        'recommendation_test' as source_table,
        'recommendation' as channel,
        5 as table_n,
        row_number,
        source_file,
        source_row,
        request_idx as published_idx,
        user_idx,
        session_idx,
        cast(null as double) as query_from_type,
        cast(null as double) as is_like_clk,
        cast(null as double) as is_onebox_trace_clk,
        cast(null as double) as is_content_clk,
        cast(null as double) as is_experience_clk
    from published.recommendation_test
),

history as (
    select
        'search_train' as source_table,
        row_number,
        generate_subscripts(recent_clicked_note_idxs, 1) as entry_n,
        unnest(recent_clicked_note_idxs) as note_idx
    from published.search_train
    union all
    select
        'search_test' as source_table,
        row_number,
        generate_subscripts(recent_clicked_note_idxs, 1) as entry_n,
        unnest(recent_clicked_note_idxs) as note_idx
    from published.search_test
    union all
    select
        'dqa' as source_table,
        row_number,
        generate_subscripts(recent_clicked_note_idxs, 1) as entry_n,
        unnest(recent_clicked_note_idxs) as note_idx
    from published.dqa
    union all
    select
        'recommendation_train' as source_table,
        row_number,
        generate_subscripts(recent_clicked_note_idxs, 1) as entry_n,
        unnest(recent_clicked_note_idxs) as note_idx
    from published.recommendation_train
    union all
    select
        'recommendation_test' as source_table,
        row_number,
        generate_subscripts(recent_clicked_note_idxs, 1) as entry_n,
        unnest(recent_clicked_note_idxs) as note_idx
    from published.recommendation_test
),

retrieved as (
    select
        'search_train' as source_table,
        row_number,
        'dpr_results' as retriever,
        generate_subscripts(dpr_results, 1) as entry_n,
        unnest(dpr_results) as pair
    from published.search_train
    union all
    select
        'search_test' as source_table,
        row_number,
        'dpr_results' as retriever,
        generate_subscripts(dpr_results, 1) as entry_n,
        unnest(dpr_results) as pair
    from published.search_test
    union all
    select
        'search_test' as source_table,
        row_number,
        'bm25_results' as retriever,
        generate_subscripts(bm25_results, 1) as entry_n,
        unnest(bm25_results) as pair
    from published.search_test
    union all
    select
        'dqa' as source_table,
        row_number,
        'dpr_results' as retriever,
        generate_subscripts(dpr_results, 1) as entry_n,
        unnest(dpr_results) as pair
    from published.dqa
    union all
    select
        'dqa' as source_table,
        row_number,
        'bm25_results' as retriever,
        generate_subscripts(bm25_results, 1) as entry_n,
        unnest(bm25_results) as pair
    from published.dqa
),

answer_references as (
    select
        row_number,
        generate_subscripts(ref_note_idx_list, 1) as entry_n,
        unnest(ref_note_idx_list) as note_idx
    from published.dqa
),

known_users as (
    select user_idx
    from published.user_feat
    where row_number not in (select q.row_number from quarantine.user_feat as q)
),

unknown_users as (
    select
        source_table,
        row_number,
        user_idx
    from published_requests
    where user_idx not in (select f.user_idx from known_users as f)
),

judged as (
    select
        source_table,
        row_number,
        published_idx,
        user_idx,
        session_idx,
        query_from_type,
        is_like_clk,
        is_onebox_trace_clk,
        is_content_clk,
        is_experience_clk,
        case
            when published_idx is null then 'key is missing or not a whole number'
            when published_idx < 0 then 'negative key'
            when published_idx > 1000000000000000 then 'absurd key'
            when user_idx is null then 'user is missing or not a whole number'
            when user_idx < 0 then 'negative user'
            when session_idx is null then 'session is missing or not a whole number'
            when session_idx < 0 then 'negative session'
            when
                not isnan(query_from_type)
                and (query_from_type > 8 or query_from_type <> floor(query_from_type))
                then 'query source out of range'
            when
                coalesce(is_like_clk, -1) not in (-1, 0, 1)
                or coalesce(is_onebox_trace_clk, -1) not in (-1, 0, 1)
                or coalesce(is_content_clk, -1) not in (-1, 0, 1)
                or coalesce(is_experience_clk, -1) not in (-1, 0, 1)
                then 'answer feedback is neither -1, 0 nor 1'
        end as reason
    from published_requests
),

faults as (
    select
        source_table,
        row_number,
        1 as fault_n,
        0 as entry_n,
        reason,
        case
            when reason like '%key%' then cast(published_idx as varchar)
            when reason like '%user%' then 'user_idx = ' || cast(user_idx as varchar)
            when reason like '%session%' then 'session_idx = ' || cast(session_idx as varchar)
            when reason like 'query%'
                then 'query_from_type = ' || cast(query_from_type as varchar)
            when reason like 'answer%'
                then
                    'is_like_clk, is_onebox_trace_clk, is_content_clk, is_experience_clk = '
                    || coalesce(cast(is_like_clk as varchar), 'null')
                    || ', ' || coalesce(cast(is_onebox_trace_clk as varchar), 'null')
                    || ', ' || coalesce(cast(is_content_clk as varchar), 'null')
                    || ', ' || coalesce(cast(is_experience_clk as varchar), 'null')
        end as detail
    from judged
    where reason is not null
    union all
    select
        source_table,
        row_number,
        2 as fault_n,
        impression_n as entry_n,
        reason,
        'entry ' || cast(impression_n as varchar) || ': ' || detail as detail
    from quarantine.impressions
    union all
    select
        source_table,
        row_number,
        3 as fault_n,
        0 as entry_n,
        'unknown user' as reason,
        'user_idx = ' || cast(user_idx as varchar) as detail
    from unknown_users
    where
        (select count(*) from unknown_users)
        <= 0.1 * (select count(*) from published_requests)
    union all
    select
        source_table,
        row_number,
        4 as fault_n,
        entry_n,
        'negative note in the history' as reason,
        'recent_clicked_note_idxs entry ' || cast(entry_n as varchar) || ' = '
        || cast(note_idx as varchar) as detail
    from history
    where note_idx < 0
    union all
    select
        source_table,
        row_number,
        5 as fault_n,
        entry_n,
        case
            when pair is null then 'a retrieval pair is null'
            when array_length(pair) = 1 then 'retrieval pairs of one number'
            else 'retrieval pairs of ' || cast(array_length(pair) as varchar) || ' numbers'
        end as reason,
        retriever || ' entry ' || cast(entry_n as varchar) || ' = ' || cast(pair as varchar)
            as detail
    from retrieved
    where pair is null or array_length(pair) <> 2
    union all
    select
        'dqa' as source_table,
        row_number,
        6 as fault_n,
        entry_n,
        'reference to an unknown note' as reason,
        'ref_note_idx_list entry ' || cast(entry_n as varchar) || ' = '
        || coalesce(cast(note_idx as varchar), 'null') as detail
    from answer_references
    where note_idx is null or note_idx < 0
),

usable as (
    select
        channel,
        source_table,
        table_n,
        row_number,
        published_idx
    from published_requests as p
    where not exists (
        select 1 as one
        from faults as f
        where f.source_table = p.source_table and f.row_number = p.row_number
    )
),

shared_keys as (
    select
        channel,
        published_idx
    from usable
    group by channel, published_idx
    having count(*) > 1
),

repeated as (
    select
        u.source_table,
        u.row_number,
        u.published_idx,
        first_value(u.source_table) over (
            partition by u.channel, u.published_idx
            order by u.table_n, u.row_number
        ) as first_table,
        first_value(u.row_number) over (
            partition by u.channel, u.published_idx
            order by u.table_n, u.row_number
        ) as first_row_number,
        row_number() over (
            partition by u.channel, u.published_idx
            order by u.table_n, u.row_number
        ) as copy_n
    from usable as u
    inner join shared_keys as k
        on u.channel = k.channel and u.published_idx = k.published_idx
),

all_faults as (
    select
        source_table,
        row_number,
        fault_n,
        entry_n,
        reason,
        detail
    from faults
    union all
    select
        source_table,
        row_number,
        7 as fault_n,
        0 as entry_n,
        'duplicate key' as reason,
        cast(published_idx as varchar) || ' is the key of ' || first_table || ' row '
        || cast(first_row_number as varchar) as detail
    from repeated
    where copy_n > 1
),

numbered as (
    select
        source_table,
        row_number,
        reason,
        detail,
        row_number() over (
            partition by source_table, row_number
            order by fault_n, entry_n
        ) as reason_n
    from all_faults
)

select
    p.source_table,
    p.row_number,
    p.source_file,
    p.source_row,
    p.published_idx,
    n.reason,
    n.detail
from numbered as n
inner join published_requests as p
    on n.source_table = p.source_table and n.row_number = p.row_number
where n.reason_n = 1
order by p.source_table, p.row_number;

comment on table quarantine.requests is
    'One row per (source_table, row_number): a published request that cannot be used, and why.';
comment on column quarantine.requests.source_table is
    'Published table the row comes from: search_train, search_test, dqa and so on.';
comment on column quarantine.requests.row_number is
    'Zero-based row of the published table over all its files.';
comment on column quarantine.requests.source_file is 'Published file that holds the row.';
comment on column quarantine.requests.source_row is 'Zero-based row in that file.';
comment on column quarantine.requests.published_idx is
    'search_idx in search, request_idx in the feed.';
comment on column quarantine.requests.reason is
    'Why the published row cannot be used; the first reason where there are several.';
comment on column quarantine.requests.detail is
    'The value that cannot be, as text; null where nothing is there.';
