-- Do users with several clicks stay in one column of the page or switch?
--
-- Requests with at least two clicks in a column: a card on top, at 0, is in none; a note clicked at
-- two showings is two clicks. Clicks are taken down the page, which need not be the order in
-- which they were made: click times are not logged. Odd positions are taken as the left column; it
-- is sure only on whole pages, so these stand apart. Compare the switch rate with what independent
-- choices would give.

create or replace view bias.clicks_by_column as
with clicks as (
    select
        i.channel,
        i.request_id,
        r.is_whole_page,
        i."position" % 2 as side,
        lag(i."position" % 2) over (
            partition by i.request_id
            order by i.shown_rank
        ) as previous_side
    from core.impressions as i
    inner join core.requests as r on i.request_id = r.request_id
    where i.is_clicked and i."position" > 0 and r.n_clicks > 1
),

requests as (
    select
        channel,
        is_whole_page,
        count(*) as n_clicks,
        sum(side) as n_left,
        count(previous_side) as n_click_pairs,
        count(case when side <> previous_side then 1 end) as n_switches
    from clicks
    group by channel, is_whole_page, request_id
    having count(*) > 1
),

sums as (
    select
        channel,
        is_whole_page,
        count(*) as n_requests,
        cast(sum(n_clicks) as bigint) as n_clicks,
        cast(sum(n_left) as double) / nullif(sum(n_clicks), 0) as left_share,
        count(*) filter (where n_left between 1 and n_clicks - 1) as n_requests_in_both_columns,
        cast(sum(n_click_pairs) as bigint) as n_click_pairs,
        cast(sum(n_switches) as bigint) as n_switches
    from requests
    group by channel, is_whole_page
)

select
    channel,
    is_whole_page,
    n_requests,
    n_clicks,
    n_requests_in_both_columns,
    cast(n_requests_in_both_columns as double) / nullif(n_requests, 0) as both_columns_share,
    n_click_pairs,
    n_switches,
    cast(n_switches as double) / nullif(n_click_pairs, 0) as switch_rate,
    2 * left_share * (1 - left_share) as switch_rate_expected
from sums
order by channel, is_whole_page;

comment on view bias.clicks_by_column is
    'One row per (channel, is_whole_page): requests with several clicks.';
comment on column bias.clicks_by_column.channel is 'search or recommendation.';
comment on column bias.clicks_by_column.is_whole_page is
    'Positions run from 1 without gap or repeat, so that odd ones are the left column.';
comment on column bias.clicks_by_column.n_requests is 'Requests counted.';
comment on column bias.clicks_by_column.n_clicks is
    'Clicked impressions counted; repeats count again.';
comment on column bias.clicks_by_column.n_requests_in_both_columns is
    'Requests with clicks in both columns, counted.';
comment on column bias.clicks_by_column.both_columns_share is
    'Requests with clicks in both columns divided by requests.';
comment on column bias.clicks_by_column.n_click_pairs is
    'Pairs of clicks that follow each other down the page, counted.';
comment on column bias.clicks_by_column.n_switches is
    'Such pairs whose clicks are in different columns, counted.';
comment on column bias.clicks_by_column.switch_rate is 'Column switches divided by click pairs.';
comment on column bias.clicks_by_column.switch_rate_expected is
    'Switch rate if each click chose its column by itself with the shares seen.';
