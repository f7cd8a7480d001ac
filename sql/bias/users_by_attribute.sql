-- Who are the users of the sample (the paper's section 4.1)?
--
-- One view for the four attributes: they answer one question with the same two numbers, and nothing
-- is computed across them. Users were sampled for being active: not the population of the app.
-- The paper's shares of gender, age and platform are of all users. It does not say of whom its
-- shares of countries are: here of the users with a known place, which is an assumption.

create or replace view bias.users_by_attribute as
with attributes as (
    select
        'gender' as attribute,
        coalesce(gender, 'missing') as "value"
    from core.users
    union all
    select
        'age' as attribute,
        coalesce(age, 'missing') as "value"
    from core.users
    union all
    select
        'platform' as attribute,
        coalesce(platform, 'missing') as "value"
    from core.users
    union all
    select
        'country' as attribute,
        coalesce(country, 'missing') as "value"
    from core.users
),

counts as (
    select
        attribute,
        "value",
        count(*) as n_users
    from attributes
    group by attribute, "value"
)

select
    attribute,
    "value",
    n_users,
    cast(n_users as double) / nullif(sum(n_users) over (partition by attribute), 0)
        as user_share,
    case
        when "value" not in ('missing', 'unknown')
            then
                cast(n_users as double)
                / nullif(
                    sum(case when "value" not in ('missing', 'unknown') then n_users else 0 end)
                        over (partition by attribute),
                    0
                )
    end as known_user_share
from counts
order by attribute, "value";

comment on view bias.users_by_attribute is
    'One row per (attribute, value): how many users have that value.';
comment on column bias.users_by_attribute.attribute is 'gender, age, platform or country.';
comment on column bias.users_by_attribute.value is
    'Value of the attribute; missing where none is published.';
comment on column bias.users_by_attribute.n_users is 'Users counted.';
comment on column bias.users_by_attribute.user_share is 'Users divided by all users.';
comment on column bias.users_by_attribute.known_user_share is
    'Users divided by those whose value is known; null for missing and unknown.';
