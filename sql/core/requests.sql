-- One search or one page fetch of the feed, with what it returned and where it stands in a session.
--
-- A request begins with its earliest impression, as in the paper. Some requests hold impressions
-- hours apart (the same page looked at again) or, in search, days before the log day.
-- A session ends when the next request of the user, in either channel, begins more than 30 minutes
-- after this one began (the paper's Table 6); the published app session is kept beside it.
-- Searches of the answer sample (dqa) are searches like the others for the order of events.
-- The paper gives query sources names and shares but no codes; codes are taken in its order.
-- Published requests are read twice, narrow and wide, rather than kept: their texts are large. What
-- is worked out of them is narrow and joined on last, and nothing is sorted: one thread writes the
-- rows as they are published, tables by name, and the texts stream through.

create or replace table core.requests as
with published_requests as not materialized (
    select
        search_idx * 2 as request_id,
        'search' as channel,
        'dqa' as source_table,
        'dqa' as split,
        row_number,
        search_idx as published_idx,
        user_idx,
        session_idx as app_session_idx,
        query as query,
        cast(null as varchar) as pseudo_query,
        query_from_type as query_source,
        dqa_output is not null as has_answer,
        recent_clicked_note_list as history_list
    from raw.dqa
    union all
    select
        request_idx * 2 + 1 as request_id,
        'recommendation' as channel,
        'recommendation_test' as source_table,
        'test' as split,
        row_number,
        request_idx as published_idx,
        user_idx,
        session_idx as app_session_idx,
        cast(null as varchar) as query,
        query as pseudo_query,
        cast(null as integer) as query_source,
        cast(null as boolean) as has_answer,
        recent_clicked_note_list as history_list
    from raw.recommendation_test
    union all
    select
        request_idx * 2 + 1 as request_id,
        'recommendation' as channel,
        'recommendation_train' as source_table,
        'train' as split,
        row_number,
        request_idx as published_idx,
        user_idx,
        session_idx as app_session_idx,
        cast(null as varchar) as query,
        query as pseudo_query,
        cast(null as integer) as query_source,
        cast(null as boolean) as has_answer,
        recent_clicked_note_list as history_list
    from raw.recommendation_train
    union all
    select
        search_idx * 2 as request_id,
        'search' as channel,
        'search_test' as source_table,
        'test' as split,
        row_number,
        search_idx as published_idx,
        user_idx,
        session_idx as app_session_idx,
        query as query,
        cast(null as varchar) as pseudo_query,
        query_from_type as query_source,
        false as has_answer,
        recent_clicked_note_list as history_list
    from raw.search_test
    union all
    select
        search_idx * 2 as request_id,
        'search' as channel,
        'search_train' as source_table,
        'train' as split,
        row_number,
        search_idx as published_idx,
        user_idx,
        session_idx as app_session_idx,
        query as query,
        cast(null as varchar) as pseudo_query,
        query_from_type as query_source,
        false as has_answer,
        recent_clicked_note_list as history_list
    from raw.search_train
),

outcomes as (
    select
        request_id,
        min(exposed_at) as started_at,
        count(*) as n_impressions,
        count(*) filter (where is_clicked) as n_clicks,
        count(*) filter (where is_clicked and is_liked) as n_likes,
        count(*) filter (where is_clicked and is_collected) as n_collects,
        count(*) filter (where is_clicked and is_commented) as n_comments,
        count(*) filter (where is_clicked and is_shared) as n_shares,
        max("position") as browsing_depth,
        min("position") filter (where is_clicked) as first_click_position,
        max(shown_rank) filter (where is_clicked) as last_click_rank,
        count(*) = count(*) filter (where "position" = shown_rank) as is_whole_page
    from core.impressions
    group by request_id
),

starts as (
    select
        p.request_id,
        p.user_idx,
        p.app_session_idx,
        p.source_table,
        o.started_at
    from published_requests as p
    left join outcomes as o on p.request_id = o.request_id
),

gaps as (
    select
        request_id,
        user_idx,
        source_table,
        started_at,
        row_number() over (
            partition by user_idx, app_session_idx
            order by started_at nulls last, source_table, request_id
        ) as app_session_n,
        case
            when started_at is not null
                then
                    cast(floor(epoch(started_at)) as bigint)
                    - lag(cast(floor(epoch(started_at)) as bigint)) over (
                        partition by user_idx
                        order by started_at nulls last, source_table, request_id
                    )
        end as gap_s
    from starts
),

numbered as (
    select
        request_id,
        user_idx,
        source_table,
        started_at,
        app_session_n,
        sum(case when gap_s is null or gap_s > 1800 then 1 else 0 end) over (
            partition by user_idx
            order by started_at nulls last, source_table, request_id
            rows between unbounded preceding and current row
        ) as user_session_n
    from gaps
),

places as (
    select
        request_id,
        app_session_n,
        case
            when started_at is not null
                then
                    first_value(request_id) over (
                        partition by user_idx, user_session_n
                        order by started_at nulls last, source_table, request_id
                    )
        end as session_id,
        case
            when started_at is not null
                then
                    row_number() over (
                        partition by user_idx, user_session_n
                        order by started_at nulls last, source_table, request_id
                    )
        end as session_n
    from numbered
),

facts as (
    select
        s.request_id,
        s.app_session_n,
        s.session_id,
        s.session_n,
        o.started_at,
        coalesce(o.n_impressions, 0) as n_impressions,
        coalesce(o.n_clicks, 0) as n_clicks,
        coalesce(o.n_likes, 0) as n_likes,
        coalesce(o.n_collects, 0) as n_collects,
        coalesce(o.n_comments, 0) as n_comments,
        coalesce(o.n_shares, 0) as n_shares,
        o.browsing_depth,
        o.first_click_position,
        o.last_click_rank,
        o.is_whole_page
    from places as s
    left join outcomes as o on s.request_id = o.request_id
)

select
    p.request_id,
    p.channel,
    p.source_table,
    p.split,
    p.row_number,
    p.published_idx,
    p.user_idx,
    p.app_session_idx,
    f.app_session_n,
    f.session_id,
    f.session_n,
    f.started_at,
    -- Eight hours on is China's clock.
    cast(make_timestamp(epoch_us(f.started_at) + 28800000000) as date) as day,
    p.query,
    p.pseudo_query,
    p.query_source,
    case
        when p.channel = 'search'
            then
                case p.query_source
                    when 1 then 'active search'
                    when 2 then 'auto-completion'
                    when 3 then 'search history'
                    when 4 then 'suggestion on the result page'
                    when 5 then 'suggestion inside a result'
                    when 6 then 'filter'
                    when 7 then 'hot list'
                    when 8 then 'other'
                    else 'not logged'
                end
    end as query_source_name,
    f.n_impressions,
    f.n_clicks,
    f.n_likes,
    f.n_collects,
    f.n_comments,
    f.n_shares,
    f.browsing_depth,
    f.first_click_position,
    f.last_click_rank,
    f.is_whole_page,
    p.has_answer,
    p.history_list
from published_requests as p
left join facts as f on p.request_id = f.request_id;

comment on table core.requests is
    'One row per (request_id): a search or a page fetch of the feed. Files by (source_table, day).';
comment on column core.requests.request_id is
    'Request; joins core.requests; search_idx * 2, or request_idx * 2 + 1 in the feed.';
comment on column core.requests.channel is 'search or recommendation.';
comment on column core.requests.source_table is
    'Published table the row comes from: search_train, search_test, dqa and so on.';
comment on column core.requests.split is 'train or test as published; dqa for the answer sample.';
comment on column core.requests.row_number is
    'Zero-based row of the published table over all its files.';
comment on column core.requests.published_idx is 'search_idx in search, request_idx in the feed.';
comment on column core.requests.user_idx is 'User; joins core.users; a key, never a feature.';
comment on column core.requests.app_session_idx is
    'App session from opening to closing the app, as published.';
comment on column core.requests.app_session_n is
    'Order of the request in its app session over both channels, from 1.';
comment on column core.requests.session_id is
    '30-minute session over both channels: request_id of its first request.';
comment on column core.requests.session_n is
    'Order of the request in its 30-minute session, from 1.';
comment on column core.requests.started_at is
    'Time of the earliest impression, UTC; null without impressions.';
comment on column core.requests.day is
    'Day on which the request began, by China''s clock; null without a time.';
comment on column core.requests.query is
    'What the user searched for; null in the feed or when blank.';
comment on column core.requests.pseudo_query is
    'Feed only: titles of recently clicked notes joined; nobody typed it.';
comment on column core.requests.query_source is
    'Where the query came from, code 1 to 8; null in the feed or when not logged.';
comment on column core.requests.query_source_name is
    'Where the query came from, in words; null in the feed.';
comment on column core.requests.n_impressions is 'Impressions counted; repeats count again.';
comment on column core.requests.n_clicks is 'Clicked impressions counted; repeats count again.';
comment on column core.requests.n_likes is 'Clicked impressions that were also liked, counted.';
comment on column core.requests.n_collects is
    'Clicked impressions that were also collected, counted.';
comment on column core.requests.n_comments is
    'Clicked impressions that were also commented on, counted.';
comment on column core.requests.n_shares is 'Clicked impressions that were also shared, counted.';
comment on column core.requests.browsing_depth is
    'Deepest position returned; null without impressions.';
comment on column core.requests.first_click_position is
    'Least clicked position; null without a click.';
comment on column core.requests.last_click_rank is
    'Greatest shown_rank of a clicked impression; null without a click.';
comment on column core.requests.is_whole_page is
    'Positions run from 1 without gap or repeat, so that odd ones are the left column.';
comment on column core.requests.has_answer is
    'A direct answer was shown; null in the feed, which has none.';
comment on column core.requests.history_list is
    'Up to 20 notes clicked before the request, newest first, repeats allowed.';
