-- How often do users leave without a click, with and without an answer?
--
-- Only the answer sample (dqa) can say: everywhere else the release keeps only requests with a
-- click. Raw difference, not an effect: answers go to queries that call for one, and an answer that
-- is read makes a click needless, so leaving can be success. Users were sampled for engaging with
-- answers.

create or replace view bias.abandonment_by_answer_shown as
with requests as (
    select
        has_answer,
        count(*) as n_requests,
        count(*) filter (where n_clicks = 0) as n_abandoned,
        avg(case when n_clicks = 0 then browsing_depth end) as abandoned_depth_mean,
        avg(case when n_clicks > 0 then browsing_depth end) as clicked_depth_mean
    from core.requests
    where source_table = 'dqa'
    group by has_answer
),

rates as (
    select
        has_answer,
        n_requests,
        n_abandoned,
        abandoned_depth_mean,
        clicked_depth_mean,
        cast(n_abandoned as double) / nullif(n_requests, 0) as abandonment_rate,
        cast(1.96 as double) * cast(1.96 as double) / nullif(n_requests, 0) as z2_n
    from requests
)

select
    has_answer,
    n_requests,
    n_abandoned,
    abandonment_rate,
    (
        abandonment_rate + z2_n / 2
        - sqrt(z2_n * (abandonment_rate * (1 - abandonment_rate) + z2_n / 4))
    ) / (1 + z2_n) as abandonment_rate_low,
    (
        abandonment_rate + z2_n / 2
        + sqrt(z2_n * (abandonment_rate * (1 - abandonment_rate) + z2_n / 4))
    ) / (1 + z2_n) as abandonment_rate_high,
    abandoned_depth_mean,
    clicked_depth_mean
from rates
order by has_answer;

comment on view bias.abandonment_by_answer_shown is
    'One row per (has_answer): searches of the answer sample, and those without a click.';
comment on column bias.abandonment_by_answer_shown.has_answer is
    'A direct answer was shown; null in the feed, which has none.';
comment on column bias.abandonment_by_answer_shown.n_requests is 'Requests counted.';
comment on column bias.abandonment_by_answer_shown.n_abandoned is
    'Requests without a click, counted.';
comment on column bias.abandonment_by_answer_shown.abandonment_rate is
    'Requests without a click divided by requests.';
comment on column bias.abandonment_by_answer_shown.abandonment_rate_low is
    'Lower end of the 95 % Wilson interval of abandonment_rate; requests taken as independent.';
comment on column bias.abandonment_by_answer_shown.abandonment_rate_high is
    'Upper end of the 95 % Wilson interval of abandonment_rate; requests taken as independent.';
comment on column bias.abandonment_by_answer_shown.abandoned_depth_mean is
    'Mean browsing depth of requests without a click.';
comment on column bias.abandonment_by_answer_shown.clicked_depth_mean is
    'Mean browsing depth of requests with a click.';
