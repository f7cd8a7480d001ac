-- How far down is the last click, and how much was returned below it?
--
-- What was returned below the last click may never have been seen: the gap between the last click
-- and the end of the list bounds how far "returned" is from "examined".

create or replace view bias.requests_by_last_click as
with bins as (
    select
        channel,
        cast(case when last_click_rank > 10 then 11 else last_click_rank end as integer)
            as shown_rank_bin,
        count(*) as n_requests,
        avg(n_impressions - last_click_rank) as n_after_mean,
        cast(count(case when n_impressions = last_click_rank then 1 end) as double)
        / nullif(count(*), 0) as ends_on_click_share
    from core.requests
    where last_click_rank is not null
    group by 1, 2
)

select
    channel,
    shown_rank_bin,
    n_requests,
    cast(n_requests as double) / nullif(sum(n_requests) over (partition by channel), 0)
        as channel_share,
    n_after_mean,
    ends_on_click_share
from bins
order by channel, shown_rank_bin;

comment on view bias.requests_by_last_click is
    'One row per (channel, shown_rank_bin): requests whose last click is at that rank.';
comment on column bias.requests_by_last_click.channel is 'search or recommendation.';
comment on column bias.requests_by_last_click.shown_rank_bin is
    'Running number in the request 1 to 10; 11 stands for all later ones.';
comment on column bias.requests_by_last_click.n_requests is 'Requests counted.';
comment on column bias.requests_by_last_click.channel_share is
    'Requests divided by all requests of the channel in the view.';
comment on column bias.requests_by_last_click.n_after_mean is
    'Mean over requests of the impressions returned below the last click.';
comment on column bias.requests_by_last_click.ends_on_click_share is
    'Requests whose last impression is the last click, divided by requests.';
