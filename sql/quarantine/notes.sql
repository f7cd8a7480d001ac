-- Published notes that cannot be used; raw.notes has all others.
--
-- Missing is not unusable: no title, no text, no taxonomy, a NaN in any number. A key that no
-- note can have, a count below zero or without end, a path that leaves the folder of the images is.
-- The row names one reason, the first in the order of this file. The published file is never
-- changed: file and row say where the note lies as it was given.
--
-- Written for the size of the table: each number has a scan of its own, because a filter on one
-- column skips every row group whose least and greatest value rule it out, and all of them do. The
-- first usable row of a key stays; keys are compared only where one is not its own row number,
-- as it is throughout the release.

create or replace table quarantine.notes as
with numbers as (
    select
        row_number,
        'count' as what,
        'imp_num' as column_name,
        imp_num as value
    from published.notes
    where imp_num < 0 or imp_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'imp_rec_num' as column_name,
        imp_rec_num as value
    from published.notes
    where imp_rec_num < 0 or imp_rec_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'imp_search_num' as column_name,
        imp_search_num as value
    from published.notes
    where imp_search_num < 0 or imp_search_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'click_num' as column_name,
        click_num as value
    from published.notes
    where click_num < 0 or click_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'click_rec_num' as column_name,
        click_rec_num as value
    from published.notes
    where click_rec_num < 0 or click_rec_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'click_search_num' as column_name,
        click_search_num as value
    from published.notes
    where click_search_num < 0 or click_search_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'like_num' as column_name,
        like_num as value
    from published.notes
    where like_num < 0 or like_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'collect_num' as column_name,
        collect_num as value
    from published.notes
    where collect_num < 0 or collect_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'comment_num' as column_name,
        comment_num as value
    from published.notes
    where comment_num < 0 or comment_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'share_num' as column_name,
        share_num as value
    from published.notes
    where share_num < 0 or share_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'screenshot_num' as column_name,
        screenshot_num as value
    from published.notes
    where screenshot_num < 0 or screenshot_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'hide_num' as column_name,
        hide_num as value
    from published.notes
    where hide_num < 0 or hide_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'rec_like_num' as column_name,
        rec_like_num as value
    from published.notes
    where rec_like_num < 0 or rec_like_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'rec_collect_num' as column_name,
        rec_collect_num as value
    from published.notes
    where rec_collect_num < 0 or rec_collect_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'rec_comment_num' as column_name,
        rec_comment_num as value
    from published.notes
    where rec_comment_num < 0 or rec_comment_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'rec_share_num' as column_name,
        rec_share_num as value
    from published.notes
    where rec_share_num < 0 or rec_share_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'rec_follow_num' as column_name,
        rec_follow_num as value
    from published.notes
    where rec_follow_num < 0 or rec_follow_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'search_like_num' as column_name,
        search_like_num as value
    from published.notes
    where search_like_num < 0 or search_like_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'search_collect_num' as column_name,
        search_collect_num as value
    from published.notes
    where search_collect_num < 0 or search_collect_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'search_comment_num' as column_name,
        search_comment_num as value
    from published.notes
    where search_comment_num < 0 or search_comment_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'search_share_num' as column_name,
        search_share_num as value
    from published.notes
    where search_share_num < 0 or search_share_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'search_follow_num' as column_name,
        search_follow_num as value
    from published.notes
    where search_follow_num < 0 or search_follow_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'accum_like_num' as column_name,
        accum_like_num as value
    from published.notes
    where accum_like_num < 0 or accum_like_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'accum_collect_num' as column_name,
        accum_collect_num as value
    from published.notes
    where accum_collect_num < 0 or accum_collect_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'accum_comment_num' as column_name,
        accum_comment_num as value
    from published.notes
    where accum_comment_num < 0 or accum_comment_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'view_time' as column_name,
        view_time as value
    from published.notes
    where view_time < 0 or view_time = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'rec_view_time' as column_name,
        rec_view_time as value
    from published.notes
    where rec_view_time < 0 or rec_view_time = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'search_view_time' as column_name,
        search_view_time as value
    from published.notes
    where search_view_time < 0 or search_view_time = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'valid_view_times' as column_name,
        valid_view_times as value
    from published.notes
    where valid_view_times < 0 or valid_view_times = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'full_view_times' as column_name,
        full_view_times as value
    from published.notes
    where full_view_times < 0 or full_view_times = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'image_num' as column_name,
        image_num as value
    from published.notes
    where image_num < 0 or image_num = 'infinity'
    union all
    select
        row_number,
        'count' as what,
        'content_length' as column_name,
        content_length as value
    from published.notes
    where content_length < 0 or content_length = 'infinity'
    union all
    select
        row_number,
        'duration' as what,
        'video_duration' as column_name,
        video_duration as value
    from published.notes
    where video_duration < 0 or video_duration = 'infinity'
    union all
    select
        row_number,
        'size' as what,
        'video_height' as column_name,
        video_height as value
    from published.notes
    where video_height < 0 or video_height = 'infinity'
    union all
    select
        row_number,
        'size' as what,
        'video_width' as column_name,
        video_width as value
    from published.notes
    where video_width < 0 or video_width = 'infinity'
),

keys as (
    select
        row_number,
        case
            when note_idx is null then 'key is missing or not a whole number'
            when note_idx < 0 then 'negative key'
            else 'absurd key'
        end as reason,
        cast(note_idx as varchar) as detail
    from published.notes
    where note_idx is null or note_idx < 0 or note_idx > 1000000000000000
),

codes as (
    select
        row_number,
        'unknown form' as reason,
        'note_type = ' || cast(note_type as varchar) as detail
    from published.notes
    where note_type not in (1, 2) and not isnan(note_type)
    union all
    select
        row_number,
        'absurd count' as reason,
        'image_num = ' || cast(image_num as varchar) as detail
    from published.notes
    where image_num > 1000000000 and not isnan(image_num)
    union all
    select
        row_number,
        'absurd count' as reason,
        'content_length = ' || cast(content_length as varchar) as detail
    from published.notes
    where content_length > 1000000000 and not isnan(content_length)
    union all
    select
        row_number,
        'absurd commercial flag' as reason,
        'commercial_flag = ' || cast(commercial_flag as varchar) as detail
    from published.notes
    where
        (commercial_flag > 1000000000 or commercial_flag < -1000000000)
        and not isnan(commercial_flag)
),

image_paths as (
    select
        row_number,
        generate_subscripts(image_path, 1) as image_n,
        unnest(image_path) as path
    from published.notes
),

paths as (
    select
        row_number,
        image_n,
        path,
        replace(path, '\', '/') as plain_path
    from image_paths
    -- Nearly all paths are done with here.
    where path is null or path not like 'image/%' or path like '%..%'
),

faults as (
    select
        row_number,
        1 as fault_n,
        0 as entry_n,
        reason,
        detail
    from keys
    union all
    select
        row_number,
        2 as fault_n,
        0 as entry_n,
        case when value < 0 then 'negative ' || what else 'infinite ' || what end as reason,
        column_name || ' = ' || cast(value as varchar) as detail
    from numbers
    union all
    select
        row_number,
        3 as fault_n,
        0 as entry_n,
        reason,
        detail
    from codes
    union all
    select
        row_number,
        4 as fault_n,
        image_n as entry_n,
        case
            when path is null or path = '' then 'empty image path'
            when plain_path like '/%' or plain_path like '_:%' or plain_path like '%://%'
                then 'absolute image path'
            else 'image path leaves the folder'
        end as reason,
        'image_path entry ' || cast(image_n as varchar) || ' = ' || coalesce(path, 'null')
            as detail
    from paths
    where
        plain_path is null or plain_path = '' or plain_path like '/%' or plain_path like '_:%'
        or plain_path like '%://%' or plain_path = '..' or plain_path like '../%'
        or plain_path like '%/../%' or plain_path like '%/..'
),

moved as (
    select note_idx
    from published.notes
    where note_idx <> row_number
),

shared as (
    select
        row_number,
        note_idx
    from published.notes
    where
        note_idx in (select f.note_idx from moved as f)
        and row_number not in (select f.row_number from faults as f)
),

repeated as (
    select
        row_number,
        note_idx,
        first_value(row_number) over (partition by note_idx order by row_number)
            as first_row_number
    from shared
),

all_faults as (
    select
        row_number,
        fault_n,
        entry_n,
        reason,
        detail
    from faults
    union all
    select
        row_number,
        5 as fault_n,
        0 as entry_n,
        'duplicate key' as reason,
        cast(note_idx as varchar) || ' is the key of row ' || cast(first_row_number as varchar)
            as detail
    from repeated
    where row_number <> first_row_number
),

numbered as (
    select
        row_number,
        reason,
        detail,
        row_number() over (
            partition by row_number
            order by fault_n, detail, entry_n
        ) as reason_n
    from all_faults
),

located as (
    select
        row_number,
        source_file,
        source_row,
        note_idx
    from published.notes
    where row_number in (select f.row_number from numbered as f where f.reason_n = 1)
)

select
    p.row_number,
    p.source_file,
    p.source_row,
    p.note_idx,
    n.reason,
    n.detail
from numbered as n
inner join located as p on n.row_number = p.row_number
where n.reason_n = 1
order by p.row_number;

comment on table quarantine.notes is
    'One row per (row_number): a note that cannot be used, and why.';
comment on column quarantine.notes.row_number is
    'Zero-based row of the published table over all its files.';
comment on column quarantine.notes.source_file is 'Published file that holds the row.';
comment on column quarantine.notes.source_row is 'Zero-based row in that file.';
comment on column quarantine.notes.note_idx is
    'Note; a key, never a feature: the ids are numbered in blocks that give clicks away.';
comment on column quarantine.notes.reason is
    'Why the published row cannot be used; the first reason where there are several.';
comment on column quarantine.notes.detail is
    'The value that cannot be, as text; null where nothing is there.';
