-- A note with typed attributes and the one id that features may use.
--
-- The published ids are numbered in blocks, and two blocks hold nearly every note that was ever
-- clicked, so any model that sees the id as a number or a range sees the label. note_key is another
-- number for the note that says nothing: the fifth power of a keyed line modulo the prime 2^31 - 1.
-- Five has no factor in common with 2^31 - 2, so no two ids below the prime share a key; it is the
-- same on every machine, and stays when notes are added.
-- An anomalous commercial flag (neither 0 nor 1) is null here; raw.notes keeps what was published.

create or replace view core.notes as
select
    n.note_idx,
    (
        (
            ((n.note_idx * 1103515245 + 715136305) % 2147483647)
            * ((n.note_idx * 1103515245 + 715136305) % 2147483647)
            % 2147483647
        )
        * (
            ((n.note_idx * 1103515245 + 715136305) % 2147483647)
            * ((n.note_idx * 1103515245 + 715136305) % 2147483647)
            % 2147483647
        )
        % 2147483647
    )
    * ((n.note_idx * 1103515245 + 715136305) % 2147483647)
    % 2147483647 as note_key,
    n.note_title,
    n.note_content,
    n.note_type,
    n.video_duration,
    n.video_height,
    n.video_width,
    n.image_num,
    n.content_length,
    n.taxonomy1_id,
    n.taxonomy2_id,
    n.taxonomy3_id,
    n.imp_num,
    n.imp_rec_num,
    n.imp_search_num,
    n.click_num,
    n.click_rec_num,
    n.click_search_num,
    n.like_num,
    n.collect_num,
    n.comment_num,
    n.share_num,
    n.screenshot_num,
    n.hide_num,
    n.rec_like_num,
    n.rec_collect_num,
    n.rec_comment_num,
    n.rec_share_num,
    n.rec_follow_num,
    n.search_like_num,
    n.search_collect_num,
    n.search_comment_num,
    n.search_share_num,
    n.search_follow_num,
    n.accum_like_num,
    n.accum_collect_num,
    n.accum_comment_num,
    n.view_time,
    n.rec_view_time,
    n.search_view_time,
    n.valid_view_times,
    n.full_view_times,
    case when n.commercial_flag in (0, 1) then n.commercial_flag = 1 end as is_commercial,
    array_length(n.image_path_list) as n_images,
    n.image_path_list
from raw.notes as n;

comment on view core.notes is
    'One row per (note_idx): a note with typed attributes.';
comment on column core.notes.note_idx is
    'Note; a key, never a feature: the ids are numbered in blocks that give clicks away.';
comment on column core.notes.note_key is
    'Keyed one-to-one scrambling of note_idx; the only note id a feature may use.';
comment on column core.notes.note_title is
    'Title with the app emoji written as [xR]; null when missing.';
comment on column core.notes.note_content is
    'Body with hashtags written as #topic[话题]#; null when missing.';
comment on column core.notes.note_type is
    '1 = image-text, 2 = video; other codes are not documented.';
comment on column core.notes.video_duration is
    'Length of the video in seconds; 0 for image-text notes.';
comment on column core.notes.video_height is
    'Height of the video in pixels; 0 for image-text notes.';
comment on column core.notes.video_width is 'Width of the video in pixels; 0 for image-text notes.';
comment on column core.notes.image_num is
    'Images the note had in the app; differs from the number of paths.';
comment on column core.notes.content_length is
    'Length of the body as the app counts it, a little below its characters.';
comment on column core.notes.taxonomy1_id is
    'Opaque id of the first taxonomy level; null when missing.';
comment on column core.notes.taxonomy2_id is
    'Opaque id of the second taxonomy level; null when missing.';
comment on column core.notes.taxonomy3_id is
    'Opaque id of the third taxonomy level; null when missing.';
comment on column core.notes.imp_num is
    'Impressions of the note over all surfaces in the counting month; not rec + search.';
comment on column core.notes.imp_rec_num is 'Impressions in the feed in the counting month.';
comment on column core.notes.imp_search_num is 'Impressions in search in the counting month.';
comment on column core.notes.click_num is 'Clicks over all surfaces in the counting month.';
comment on column core.notes.click_rec_num is 'Clicks in the feed in the counting month.';
comment on column core.notes.click_search_num is 'Clicks in search in the counting month.';
comment on column core.notes.like_num is 'Likes over all surfaces in the counting month.';
comment on column core.notes.collect_num is 'Collects over all surfaces in the counting month.';
comment on column core.notes.comment_num is 'Comments over all surfaces in the counting month.';
comment on column core.notes.share_num is 'Shares over all surfaces in the counting month.';
comment on column core.notes.screenshot_num is
    'Screenshots taken of the note in the counting month.';
comment on column core.notes.hide_num is 'Times users hid the note in the counting month.';
comment on column core.notes.rec_like_num is 'Likes in the feed in the counting month.';
comment on column core.notes.rec_collect_num is 'Collects in the feed in the counting month.';
comment on column core.notes.rec_comment_num is 'Comments in the feed in the counting month.';
comment on column core.notes.rec_share_num is 'Shares in the feed in the counting month.';
comment on column core.notes.rec_follow_num is 'Follows in the feed in the counting month.';
comment on column core.notes.search_like_num is 'Likes in search in the counting month.';
comment on column core.notes.search_collect_num is 'Collects in search in the counting month.';
comment on column core.notes.search_comment_num is 'Comments in search in the counting month.';
comment on column core.notes.search_share_num is 'Shares in search in the counting month.';
comment on column core.notes.search_follow_num is 'Follows in search in the counting month.';
comment on column core.notes.accum_like_num is 'Likes over the life of the note.';
comment on column core.notes.accum_collect_num is 'Collects over the life of the note.';
comment on column core.notes.accum_comment_num is 'Comments over the life of the note.';
comment on column core.notes.view_time is
    'Viewing time of the note over all surfaces; unit not published.';
comment on column core.notes.rec_view_time is
    'Viewing time of the note in the feed; unit not published.';
comment on column core.notes.search_view_time is
    'Viewing time of the note in search; unit not published.';
comment on column core.notes.valid_view_times is 'Plays above a threshold that is not published.';
comment on column core.notes.full_view_times is 'Completed plays.';
comment on column core.notes.is_commercial is
    'The note is commercial; null when the flag is anomalous or missing.';
comment on column core.notes.n_images is 'Image paths counted; null when the list is missing.';
comment on column core.notes.image_path_list is
    'Paths of the images inside the image archive, cover first; may be empty.';
