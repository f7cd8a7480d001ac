-- After a search, does the feed give more of what was clicked there?
--
-- Share of clicks whose first taxonomy was also clicked in the request just before, by transition.
-- Users have standing tastes, so the share is high without any shift: compare the transitions.
with clicks as (
    select
        i.request_id,
        n.taxonomy1_id
    from core.impressions as i
    inner join core.notes as n on i.note_idx = n.note_idx
    where i.is_clicked and n.taxonomy1_id is not null
),

clicked_taxonomies as (
    select distinct
        request_id,
        taxonomy1_id
    from clicks
)

select
    t.transition,
    count(*) as n_clicks,
    count(*) filter (where earlier.request_id is not null) / count(*) as same_taxonomy_share
from core.transitions as t
inner join clicks as later on t.request_id = later.request_id
left join clicked_taxonomies as earlier
    on
        t.previous_request_id = earlier.request_id
        and later.taxonomy1_id = earlier.taxonomy1_id
group by t.transition
order by t.transition;
