-- Are later requests of an app session clicked less, or do long sessions differ from short ones?
--
-- The change of a request's click rate with each step of its order in the app session, over the
-- first ten requests, by least squares. Unadjusted, a late request is compared with the first ones
-- of people who left early. Within users, a user's late requests are compared with the same user's
-- early ones (fixed effects); then within users and source of the query; then with clicks above or
-- below what the places of the notes shown lead to expect; last, within one session alone. What
-- adjusting cannot do: a request that was made because the ones before disappointed stays late for
-- that reason, and requests without a click are not in the log.

create or replace view bias.session_effect as
with rate_by_position as (
    select
        channel,
        "position",
        avg(case when is_clicked then 1.0 else 0.0 end) as click_rate
    from core.impressions
    where source_table <> 'dqa'
    group by channel, "position"
),

expected as (
    select
        i.request_id,
        sum(p.click_rate) as n_expected_clicks
    from core.impressions as i
    inner join rate_by_position as p on i.channel = p.channel and i."position" = p."position"
    group by i.request_id
),

requests as (
    select
        r.channel,
        r.user_idx,
        r.app_session_idx,
        coalesce(r.query_source_name, 'none') as query_source_name,
        r.app_session_n - 1.0 as step,
        cast(r.n_clicks as double) / nullif(r.n_impressions, 0) as click_rate,
        (r.n_clicks - coalesce(e.n_expected_clicks, 0.0)) / nullif(r.n_impressions, 0)
            as excess_click_rate
    from core.requests as r
    left join expected as e on r.request_id = e.request_id
    where
        r.source_table <> 'dqa'
        and r.user_idx is not null
        and r.n_impressions > 0
        and r.app_session_n <= 10
),

-- Each request once for each adjustment, with the cell inside which it is compared.
compared as (
    select
        channel,
        'nothing' as adjusted_for,
        0 as user_cell,
        '' as source_cell,
        user_idx,
        step,
        click_rate
    from requests
    union all
    select
        channel,
        'user' as adjusted_for,
        user_idx as user_cell,
        '' as source_cell,
        user_idx,
        step,
        click_rate
    from requests
    union all
    select
        channel,
        'user, query source' as adjusted_for,
        user_idx as user_cell,
        query_source_name as source_cell,
        user_idx,
        step,
        click_rate
    from requests
    union all
    select
        channel,
        'user, query source, places' as adjusted_for,
        user_idx as user_cell,
        query_source_name as source_cell,
        user_idx,
        step,
        excess_click_rate as click_rate
    from requests
    union all
    select
        channel,
        'session, query source, places' as adjusted_for,
        app_session_idx as user_cell,
        query_source_name as source_cell,
        user_idx,
        step,
        excess_click_rate as click_rate
    from requests
),

cells as (
    select
        channel,
        adjusted_for,
        user_cell,
        source_cell,
        avg(step) as mean_step,
        avg(click_rate) as mean_click_rate
    from compared
    group by channel, adjusted_for, user_cell, source_cell
),

deviations as (
    select
        c.channel,
        c.adjusted_for,
        c.user_idx,
        c.step - m.mean_step as step,
        c.click_rate - m.mean_click_rate as click_rate
    from compared as c
    inner join cells as m
        on
            c.channel = m.channel
            and c.adjusted_for = m.adjusted_for
            and c.user_cell = m.user_cell
            and c.source_cell = m.source_cell
),

-- A request that stands alone in its cell, or whose cell is all of one step, says nothing.
slopes as (
    select
        channel,
        adjusted_for,
        sum(step * step) as step_step,
        sum(step * click_rate) / nullif(sum(step * step), 0) as change_per_step,
        cast(sum(case when abs(step) > 1e-9 then 1 else 0 end) as bigint) as n_requests
    from deviations
    group by channel, adjusted_for
),

-- Requests of one user go together: their errors are summed before they are squared.
errors_of_users as (
    select
        d.channel,
        d.adjusted_for,
        d.user_idx,
        sum(d.step * (d.click_rate - s.change_per_step * d.step)) as error,
        max(case when abs(d.step) > 1e-9 then 1 else 0 end) as is_telling
    from deviations as d
    inner join slopes as s on d.channel = s.channel and d.adjusted_for = s.adjusted_for
    group by d.channel, d.adjusted_for, d.user_idx
),

variances as (
    select
        channel,
        adjusted_for,
        sum(error * error) as error_error,
        cast(sum(is_telling) as bigint) as n_users
    from errors_of_users
    group by channel, adjusted_for
),

intervals as (
    select
        s.channel,
        s.adjusted_for,
        s.n_requests,
        v.n_users,
        case when v.n_users >= 10 then s.change_per_step end as change_per_step,
        1.96 * sqrt(v.error_error * v.n_users / nullif(v.n_users - 1.0, 0))
        / nullif(s.step_step, 0) as half_width
    from slopes as s
    inner join variances as v on s.channel = v.channel and s.adjusted_for = v.adjusted_for
)

select
    channel,
    adjusted_for,
    n_requests,
    n_users,
    -- The last digits of these sums follow the number of threads.
    round(change_per_step, 9) as change_per_step,
    round(change_per_step - half_width, 9) as change_per_step_low,
    round(change_per_step + half_width, 9) as change_per_step_high
from intervals
order by channel, n_requests desc, adjusted_for;

comment on view bias.session_effect is
    'One row per (channel, adjusted_for): change of the click rate with order in the app session.';
comment on column bias.session_effect.channel is 'search or recommendation.';
comment on column bias.session_effect.adjusted_for is
    'What compared requests have in common: nothing, or user, session, query source, places shown.';
comment on column bias.session_effect.n_requests is 'Requests counted.';
comment on column bias.session_effect.n_users is 'Users counted.';
comment on column bias.session_effect.change_per_step is
    'Change of clicks divided by impressions, with each later request; null below ten users.';
comment on column bias.session_effect.change_per_step_low is
    'Lower end of the 95 % interval of change_per_step over users; null below ten.';
comment on column bias.session_effect.change_per_step_high is
    'Upper end of the 95 % interval of change_per_step over users; null below ten.';
