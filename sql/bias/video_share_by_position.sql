-- What share of the notes at a place of the page is video (the paper's Figures 3c and 3d)?
--
-- As in the paper, every note type but 1 counts as video, and impressions of notes that are not in
-- the notes table, or have no type there, are left out: in a sample that is most of them.

create or replace view bias.video_share_by_position as
with bins as (
    select
        channel,
        position_bin,
        cast(sum(n_impressions) as bigint) as n_impressions,
        cast(sum(case when note_form = 'video' then n_impressions else 0 end) as bigint)
            as n_videos
    from bias.click_rate_by_note_form
    group by channel, position_bin
)

select
    channel,
    position_bin,
    n_impressions,
    n_videos,
    cast(n_videos as double) / nullif(n_impressions, 0) as video_share
from bins
order by channel, position_bin;

comment on view bias.video_share_by_position is
    'One row per (channel, position_bin): share of video at a place of the page.';
comment on column bias.video_share_by_position.channel is 'search or recommendation.';
comment on column bias.video_share_by_position.position_bin is
    'Position 0 to 10; 11 stands for all deeper ones.';
comment on column bias.video_share_by_position.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.video_share_by_position.n_videos is 'Impressions of video notes.';
comment on column bias.video_share_by_position.video_share is
    'Impressions of video notes divided by impressions.';
