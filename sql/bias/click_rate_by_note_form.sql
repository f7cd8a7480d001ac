-- Are image-text notes or videos clicked more at the same place (the paper's Figures 3e and 3f)?
--
-- As in the paper, every note type but 1 counts as video, and impressions of notes that are not in
-- the notes table, or have no type there, are left out: in a sample that is most of them. The
-- ranker chose what stands where, so a difference at one place is not an effect of the form.

create or replace view bias.click_rate_by_note_form as
with bins as (
    select
        channel,
        note_form,
        case when position_capped > 10 then 11 else position_capped end as position_bin,
        cast(sum(n_impressions) as bigint) as n_impressions,
        cast(sum(n_clicks) as bigint) as n_clicks
    from bias.click_rate_by_stratum
    where note_form <> 'unknown'
    group by 1, 2, 3
),

rates as (
    select
        channel,
        note_form,
        position_bin,
        n_impressions,
        n_clicks,
        cast(n_clicks as double) / nullif(n_impressions, 0) as click_rate,
        cast(1.96 as double) * cast(1.96 as double) / nullif(n_impressions, 0) as z2_n
    from bins
)

select
    channel,
    note_form,
    position_bin,
    n_impressions,
    n_clicks,
    click_rate,
    (
        click_rate + z2_n / 2
        - sqrt(z2_n * (click_rate * (1 - click_rate) + z2_n / 4))
    ) / (1 + z2_n) as wilson_low,
    (
        click_rate + z2_n / 2
        + sqrt(z2_n * (click_rate * (1 - click_rate) + z2_n / 4))
    ) / (1 + z2_n) as wilson_high
from rates
order by channel, note_form, position_bin;

comment on view bias.click_rate_by_note_form is
    'One row per (channel, note_form, position_bin): click rate of a form at a place.';
comment on column bias.click_rate_by_note_form.channel is 'search or recommendation.';
comment on column bias.click_rate_by_note_form.note_form is
    'image-text for note type 1, video for every other type, unknown without a type.';
comment on column bias.click_rate_by_note_form.position_bin is
    'Position 0 to 10; 11 stands for all deeper ones.';
comment on column bias.click_rate_by_note_form.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_note_form.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_note_form.click_rate is
    'Clicks divided by impressions, pooled.';
comment on column bias.click_rate_by_note_form.wilson_low is
    'Lower end of the 95 % Wilson interval of click_rate; every impression taken as independent.';
comment on column bias.click_rate_by_note_form.wilson_high is
    'Upper end of the 95 % Wilson interval of click_rate; every impression taken as independent.';
