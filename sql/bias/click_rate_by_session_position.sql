-- How does the click rate change with the order of the request in its app session (Figure 3b)?
--
-- The order runs over both channels where they share a session id; the published script numbers the
-- channels apart. A late request exists only in long sessions, so the curve mixes the effect of
-- order with who stays long.

create or replace view bias.click_rate_by_session_position as
with bins as (
    select
        channel,
        case when app_session_n > 10 then 11 else app_session_n end as session_position_bin,
        count(*) as n_requests,
        cast(sum(n_impressions) as bigint) as n_impressions,
        cast(sum(n_clicks) as bigint) as n_clicks,
        cast(sum(n_clicks * n_clicks) as double) as click_click,
        cast(sum(n_clicks * n_impressions) as double) as click_shown,
        cast(sum(n_impressions * n_impressions) as double) as shown_shown
    from core.requests
    group by 1, 2
),

rates as (
    select
        channel,
        session_position_bin,
        n_requests,
        n_impressions,
        n_clicks,
        click_click,
        click_shown,
        shown_shown,
        cast(n_clicks as double) / nullif(n_impressions, 0) as click_rate
    from bins
),

-- Clicks of one request go together. The variance of a ratio of sums over requests says how many
-- independent impressions the interval is worth. Where requests show no spread (there is one, or
-- the rate is 0 or 1) that cannot be known, and every impression counts.
variances as (
    select
        channel,
        session_position_bin,
        n_requests,
        n_impressions,
        n_clicks,
        click_rate,
        (
            click_click - 2 * click_rate * click_shown + click_rate * click_rate * shown_shown
        ) / nullif(cast(n_impressions as double) * n_impressions, 0) as variance
    from rates
),

effective as (
    select
        channel,
        session_position_bin,
        n_requests,
        n_impressions,
        n_clicks,
        click_rate,
        cast(1.96 as double) * cast(1.96 as double) / nullif(
            case
                when variance > 0
                    then least(click_rate * (1 - click_rate) / nullif(variance, 0), n_impressions)
                else n_impressions
            end,
            0
        ) as z2_n
    from variances
)

select
    channel,
    session_position_bin,
    n_requests,
    n_impressions,
    n_clicks,
    click_rate,
    (
        click_rate + z2_n / 2
        - sqrt(z2_n * (click_rate * (1 - click_rate) + z2_n / 4))
    ) / (1 + z2_n) as click_rate_low,
    (
        click_rate + z2_n / 2
        + sqrt(z2_n * (click_rate * (1 - click_rate) + z2_n / 4))
    ) / (1 + z2_n) as click_rate_high
from effective
order by channel, session_position_bin;

comment on view bias.click_rate_by_session_position is
    'One row per (channel, session_position_bin): click rate by order in the app session.';
comment on column bias.click_rate_by_session_position.channel is 'search or recommendation.';
comment on column bias.click_rate_by_session_position.session_position_bin is
    'Order of the request in its app session, 1 to 10; 11 stands for all later ones.';
comment on column bias.click_rate_by_session_position.n_requests is 'Requests counted.';
comment on column bias.click_rate_by_session_position.n_impressions is
    'Impressions counted; repeats count again.';
comment on column bias.click_rate_by_session_position.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.click_rate_by_session_position.click_rate is
    'Clicks divided by impressions, pooled.';
comment on column bias.click_rate_by_session_position.click_rate_low is
    'Lower end of the 95 % Wilson interval of click_rate; requests taken as independent.';
comment on column bias.click_rate_by_session_position.click_rate_high is
    'Upper end of the 95 % Wilson interval of click_rate; requests taken as independent.';
