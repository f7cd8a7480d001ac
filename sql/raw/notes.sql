-- The published notes, absence as null.
--
-- The 30 counters are monthly or lifetime snapshots of a date nobody has published. They may hold
-- the test evening, and they follow the id blocks that hold the clicked notes: describe with them,
-- do not train on them without saying so.
-- The text columns of the release write a missing value as the words 'nan' and 'None'.

create or replace view raw.notes as
select
    row_number,
    cast(note_idx as bigint) as note_idx,
    nullif(nullif(note_title, 'nan'), 'None') as note_title,
    nullif(nullif(note_content, 'nan'), 'None') as note_content,
    cast(case when isnan(note_type) then null else note_type end as integer) as note_type,
    case when isnan(video_duration) then null else video_duration end as video_duration,
    case when isnan(video_height) then null else video_height end as video_height,
    case when isnan(video_width) then null else video_width end as video_width,
    cast(case when isnan(image_num) then null else image_num end as integer) as image_num,
    cast(
        case when isnan(content_length) then null else content_length end as integer
    ) as content_length,
    cast(
        case when isnan(commercial_flag) then null else commercial_flag end as integer
    ) as commercial_flag,
    nullif(nullif(nullif(taxonomy1_id, 'nan'), 'None'), '') as taxonomy1_id,
    nullif(nullif(nullif(taxonomy2_id, 'nan'), 'None'), '') as taxonomy2_id,
    nullif(nullif(nullif(taxonomy3_id, 'nan'), 'None'), '') as taxonomy3_id,
    case when isnan(imp_num) then null else imp_num end as imp_num,
    case when isnan(imp_rec_num) then null else imp_rec_num end as imp_rec_num,
    case when isnan(imp_search_num) then null else imp_search_num end as imp_search_num,
    case when isnan(click_num) then null else click_num end as click_num,
    case when isnan(click_rec_num) then null else click_rec_num end as click_rec_num,
    case when isnan(click_search_num) then null else click_search_num end as click_search_num,
    case when isnan(like_num) then null else like_num end as like_num,
    case when isnan(collect_num) then null else collect_num end as collect_num,
    case when isnan(comment_num) then null else comment_num end as comment_num,
    case when isnan(share_num) then null else share_num end as share_num,
    case when isnan(screenshot_num) then null else screenshot_num end as screenshot_num,
    case when isnan(hide_num) then null else hide_num end as hide_num,
    case when isnan(rec_like_num) then null else rec_like_num end as rec_like_num,
    case when isnan(rec_collect_num) then null else rec_collect_num end as rec_collect_num,
    case when isnan(rec_comment_num) then null else rec_comment_num end as rec_comment_num,
    case when isnan(rec_share_num) then null else rec_share_num end as rec_share_num,
    case when isnan(rec_follow_num) then null else rec_follow_num end as rec_follow_num,
    case when isnan(search_like_num) then null else search_like_num end as search_like_num,
    case when isnan(search_collect_num) then null else search_collect_num end as search_collect_num,
    case when isnan(search_comment_num) then null else search_comment_num end as search_comment_num,
    case when isnan(search_share_num) then null else search_share_num end as search_share_num,
    case when isnan(search_follow_num) then null else search_follow_num end as search_follow_num,
    case when isnan(accum_like_num) then null else accum_like_num end as accum_like_num,
    case when isnan(accum_collect_num) then null else accum_collect_num end as accum_collect_num,
    case when isnan(accum_comment_num) then null else accum_comment_num end as accum_comment_num,
    case when isnan(view_time) then null else view_time end as view_time,
    case when isnan(rec_view_time) then null else rec_view_time end as rec_view_time,
    case when isnan(search_view_time) then null else search_view_time end as search_view_time,
    case when isnan(valid_view_times) then null else valid_view_times end as valid_view_times,
    case when isnan(full_view_times) then null else full_view_times end as full_view_times,
    image_path as image_path_list
from published.notes as p
where not exists (
    select 1 as one
    from quarantine.notes as q
    where q.row_number = p.row_number
);

comment on view raw.notes is
    'One row per (note_idx): a note as published, absence as null.';
comment on column raw.notes.row_number is
    'Zero-based row of the published table over all its files.';
comment on column raw.notes.note_idx is
    'Note; a key, never a feature: the ids are numbered in blocks that give clicks away.';
comment on column raw.notes.note_title is
    'Title with the app emoji written as [xR]; null when missing.';
comment on column raw.notes.note_content is
    'Body with hashtags written as #topic[话题]#; null when missing.';
comment on column raw.notes.note_type is
    '1 = image-text, 2 = video; other codes are not documented.';
comment on column raw.notes.video_duration is
    'Length of the video in seconds; 0 for image-text notes.';
comment on column raw.notes.video_height is
    'Height of the video in pixels; 0 for image-text notes.';
comment on column raw.notes.video_width is 'Width of the video in pixels; 0 for image-text notes.';
comment on column raw.notes.image_num is
    'Images the note had in the app; differs from the number of paths.';
comment on column raw.notes.content_length is
    'Length of the body as the app counts it, a little below its characters.';
comment on column raw.notes.commercial_flag is
    '1 = commercial note, 0 = not; other values are anomalies.';
comment on column raw.notes.taxonomy1_id is
    'Opaque id of the first taxonomy level; null when missing.';
comment on column raw.notes.taxonomy2_id is
    'Opaque id of the second taxonomy level; null when missing.';
comment on column raw.notes.taxonomy3_id is
    'Opaque id of the third taxonomy level; null when missing.';
comment on column raw.notes.imp_num is
    'Impressions of the note over all surfaces in the counting month; not rec + search.';
comment on column raw.notes.imp_rec_num is 'Impressions in the feed in the counting month.';
comment on column raw.notes.imp_search_num is 'Impressions in search in the counting month.';
comment on column raw.notes.click_num is 'Clicks over all surfaces in the counting month.';
comment on column raw.notes.click_rec_num is 'Clicks in the feed in the counting month.';
comment on column raw.notes.click_search_num is 'Clicks in search in the counting month.';
comment on column raw.notes.like_num is 'Likes over all surfaces in the counting month.';
comment on column raw.notes.collect_num is 'Collects over all surfaces in the counting month.';
comment on column raw.notes.comment_num is 'Comments over all surfaces in the counting month.';
comment on column raw.notes.share_num is 'Shares over all surfaces in the counting month.';
comment on column raw.notes.screenshot_num is
    'Screenshots taken of the note in the counting month.';
comment on column raw.notes.hide_num is 'Times users hid the note in the counting month.';
comment on column raw.notes.rec_like_num is 'Likes in the feed in the counting month.';
comment on column raw.notes.rec_collect_num is 'Collects in the feed in the counting month.';
comment on column raw.notes.rec_comment_num is 'Comments in the feed in the counting month.';
comment on column raw.notes.rec_share_num is 'Shares in the feed in the counting month.';
comment on column raw.notes.rec_follow_num is 'Follows in the feed in the counting month.';
comment on column raw.notes.search_like_num is 'Likes in search in the counting month.';
comment on column raw.notes.search_collect_num is 'Collects in search in the counting month.';
comment on column raw.notes.search_comment_num is 'Comments in search in the counting month.';
comment on column raw.notes.search_share_num is 'Shares in search in the counting month.';
comment on column raw.notes.search_follow_num is 'Follows in search in the counting month.';
comment on column raw.notes.accum_like_num is 'Likes over the life of the note.';
comment on column raw.notes.accum_collect_num is 'Collects over the life of the note.';
comment on column raw.notes.accum_comment_num is 'Comments over the life of the note.';
comment on column raw.notes.view_time is
    'Viewing time of the note over all surfaces; unit not published.';
comment on column raw.notes.rec_view_time is
    'Viewing time of the note in the feed; unit not published.';
comment on column raw.notes.search_view_time is
    'Viewing time of the note in search; unit not published.';
comment on column raw.notes.valid_view_times is 'Plays above a threshold that is not published.';
comment on column raw.notes.full_view_times is 'Completed plays.';
comment on column raw.notes.image_path_list is
    'Paths of the images inside the image archive, cover first; may be empty.';
