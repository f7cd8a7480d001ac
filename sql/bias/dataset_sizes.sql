-- How large is the data set (the paper's Table 2)?
--
-- What the paper calls actions are impressions. Image paths are those the notes name; whether the
-- files exist is not checked. Stored, because counting the paths reads every note.

create or replace table bias.dataset_sizes as
with notes as (
    select
        count(*) as n_notes,
        sum(n_images) as n_images
    from core.notes
),

searches as (
    select
        count(*) as n_searches,
        count(*) filter (where has_answer) as n_answers
    from core.requests
    where channel = 'search'
),

sizes as (
    select
        'users' as entity,
        count(*) as n_entities
    from core.users
    union all
    select
        'notes' as entity,
        n_notes as n_entities
    from notes
    union all
    select
        'image paths' as entity,
        n_images as n_entities
    from notes
    union all
    select
        'searches' as entity,
        n_searches as n_entities
    from searches
    union all
    select
        'searches with an answer' as entity,
        n_answers as n_entities
    from searches
    union all
    select
        'impressions' as entity,
        count(*) as n_entities
    from core.impressions
)

select
    entity,
    cast(coalesce(n_entities, 0) as bigint) as n_entities
from sizes
order by entity;

comment on table bias.dataset_sizes is
    'One row per (entity): how many of them the data set holds.';
comment on column bias.dataset_sizes.entity is 'What is counted.';
comment on column bias.dataset_sizes.n_entities is 'How many there are.';
