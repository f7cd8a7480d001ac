-- How does the click rate fall with the place, by query source, note form and commercial flag?
--
-- The finest table of positions: other views of note form and of slots are sums of its rows. Every
-- note type but 1 counts as video, as in the paper; a note without a type, or not in the notes
-- table, is unknown: in a sample that is most of them. The ranker chose what stands where, so a
-- difference between strata at one place is not an effect of the form or the flag. Stored, because
-- the join with all notes takes longer than a question should.

create or replace table bias.click_rate_by_stratum as
with counts as (
    select
        i.channel = 'search' as is_search,
        r.query_source,
        n.note_type,
        n.is_commercial,
        case when i."position" > 50 then 50 else i."position" end as position_capped,
        count(*) as n_impressions,
        count(*) filter (where i.is_clicked) as n_clicks
    from core.impressions as i
    inner join core.requests as r on i.request_id = r.request_id
    left join core.notes as n on i.note_idx = n.note_idx
    where i."position" is not null
    group by 1, 2, 3, 4, 5
),

sources as (
    select
        query_source,
        min(query_source_name) as query_source_name
    from core.requests
    where channel = 'search'
    group by query_source
),

strata as (
    select
        case when c.is_search then 'search' else 'recommendation' end as channel,
        case when c.is_search then s.query_source_name else 'no query' end as query_origin,
        case
            when c.note_type = 1 then 'image-text'
            when c.note_type is not null then 'video'
            else 'unknown'
        end as note_form,
        case
            when c.is_commercial then 'commercial'
            when not c.is_commercial then 'not commercial'
            else 'unknown'
        end as commercial_state,
        c.position_capped,
        cast(sum(c.n_impressions) as bigint) as n_impressions,
        cast(sum(c.n_clicks) as bigint) as n_clicks
    from counts as c
    left join sources as s on c.query_source is not distinct from s.query_source
    group by 1, 2, 3, 4, 5
),

rates as (
    select
        channel,
        query_origin,
        note_form,
        commercial_state,
        position_capped,
        n_impressions,
        n_clicks,
        cast(n_clicks as double) / nullif(n_impressions, 0) as click_rate,
        cast(1.96 as double) * cast(1.96 as double) / nullif(n_impressions, 0) as z2_n
    from strata
)

select
    channel,
    query_origin,
    note_form,
    commercial_state,
    position_capped,
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
order by channel, query_origin, note_form, commercial_state, position_capped;

comment on table bias.click_rate_by_stratum is
    'One row per (channel, query_origin, note_form, commercial_state, position_capped): clicks.';
comment on column bias.click_rate_by_stratum.channel is 'search or recommendation.';
comment on column bias.click_rate_by_stratum.query_origin is
    'Query source in words; no query in the feed.';
comment on column bias.click_rate_by_stratum.note_form is
    'image-text for note type 1, video for every other type, unknown without a type.';
comment on column bias.click_rate_by_stratum.commercial_state is
    'commercial, not commercial, or unknown where the flag is anomalous or missing.';
comment on column bias.click_rate_by_stratum.position_capped is
    'Position 0 to 49; 50 stands for all deeper ones.';
comment on column bias.click_rate_by_stratum.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_stratum.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_stratum.click_rate is 'Clicks divided by impressions, pooled.';
comment on column bias.click_rate_by_stratum.wilson_low is
    'Lower end of the 95 % Wilson interval of click_rate; every impression taken as independent.';
comment on column bias.click_rate_by_stratum.wilson_high is
    'Upper end of the 95 % Wilson interval of click_rate; every impression taken as independent.';
