-- Was the log read as the authors read it? Their printed numbers (arXiv 2503.00501) beside ours.
--
-- On the real log the two should agree to the printed digits or to a known cause: the paper's
-- clicks per search without an answer (3.99) does not fit its own totals, which give about 3.95.
-- On any other data set the difference says how far that data is from the real log, nothing more.

create or replace table bias.paper_values as
with printed as (
    select
        paper_table,
        measure,
        cut,
        cast(paper_value as double) as paper_value
    from (
        values
            ('Table 5', 'browsing_depth_mean', 'search', 22.75),
            ('Table 5', 'browsing_depth_mean', 'recommendation', 18.8),
            ('Table 5', 'browsing_depth_mean', 'search without answer', 23.41),
            ('Table 5', 'browsing_depth_mean', 'search with answer', 10.61),
            ('Table 5', 'first_click_position_mean', 'search', 3.01),
            ('Table 5', 'first_click_position_mean', 'recommendation', 4.97),
            ('Table 5', 'first_click_position_mean', 'search without answer', 3.03),
            ('Table 5', 'first_click_position_mean', 'search with answer', 2.5),
            ('Table 5', 'clicks_per_request', 'search', 3.88),
            ('Table 5', 'clicks_per_request', 'recommendation', 3.67),
            ('Table 5', 'clicks_per_request', 'search without answer', 3.99),
            ('Table 5', 'clicks_per_request', 'search with answer', 2.5),
            ('Table 5', 'click_rate', 'search', 0.2101),
            ('Table 5', 'click_rate', 'recommendation', 0.2413),
            ('Table 5', 'click_rate', 'search without answer', 0.2102),
            ('Table 5', 'click_rate', 'search with answer', 0.2073),
            ('Table 5', 'like_rate', 'search', 0.0411),
            ('Table 5', 'like_rate', 'recommendation', 0.0707),
            ('Table 5', 'like_rate', 'search without answer', 0.0419),
            ('Table 5', 'like_rate', 'search with answer', 0.0129),
            ('Table 5', 'collect_rate', 'search', 0.0187),
            ('Table 5', 'collect_rate', 'recommendation', 0.0147),
            ('Table 5', 'collect_rate', 'search without answer', 0.0188),
            ('Table 5', 'collect_rate', 'search with answer', 0.0126),
            ('Table 5', 'share_rate', 'search', 0.0057),
            ('Table 5', 'share_rate', 'recommendation', 0.0063),
            ('Table 5', 'share_rate', 'search without answer', 0.0057),
            ('Table 5', 'share_rate', 'search with answer', 0.0052),
            ('Table 5', 'comment_rate', 'search', 0.0032),
            ('Table 5', 'comment_rate', 'recommendation', 0.0099),
            ('Table 5', 'comment_rate', 'search without answer', 0.0032),
            ('Table 5', 'comment_rate', 'search with answer', 0.0021),
            ('Table 5', 'n_requests', 'search', 57188),
            ('Table 5', 'n_requests', 'recommendation', 94552),
            ('Table 5', 'n_requests', 'search without answer', 54256),
            ('Table 5', 'n_requests', 'search with answer', 2932),
            ('Table 6', 'transition_share', 'S->S', 0.3488),
            ('Table 6', 'transition_share', 'R->S', 0.0295),
            ('Table 6', 'transition_share', 'R->R', 0.5932),
            ('Table 6', 'transition_share', 'S->R', 0.0284),
            ('Table 6', 'clicks_per_request', 'S->S', 4.0014),
            ('Table 6', 'clicks_per_request', 'R->S', 3.9782),
            ('Table 6', 'clicks_per_request', 'R->R', 2.9745),
            ('Table 6', 'clicks_per_request', 'S->R', 4.4466),
            ('Table 6', 'click_rate', 'S->S', 0.2018),
            ('Table 6', 'click_rate', 'R->S', 0.2298),
            ('Table 6', 'click_rate', 'R->R', 0.232),
            ('Table 6', 'click_rate', 'S->R', 0.2501),
            ('Table 6', 'n_transitions', 'S->S', 29295),
            ('Table 6', 'n_transitions', 'R->S', 2476),
            ('Table 6', 'n_transitions', 'R->R', 49815),
            ('Table 6', 'n_transitions', 'S->R', 2387)
    ) as p (paper_table, measure, cut, paper_value) -- noqa: AL05
),

engagement as (
    select
        channel as cut,
        n_requests,
        browsing_depth_mean,
        first_click_position_mean,
        clicks_per_request,
        click_rate,
        like_rate,
        collect_rate,
        share_rate,
        comment_rate
    from bias.engagement_by_channel
    union all
    select
        case when has_answer then 'search with answer' else 'search without answer' end as cut,
        n_requests,
        browsing_depth_mean,
        first_click_position_mean,
        clicks_per_request,
        click_rate,
        like_rate,
        collect_rate,
        share_rate,
        comment_rate
    from bias.engagement_by_answer_shown
),

measured as (
    select
        p.paper_table,
        p.measure,
        p.cut,
        case p.measure
            when 'n_requests' then cast(e.n_requests as double)
            when 'browsing_depth_mean' then cast(e.browsing_depth_mean as double)
            when 'first_click_position_mean' then cast(e.first_click_position_mean as double)
            when 'clicks_per_request' then cast(e.clicks_per_request as double)
            when 'click_rate' then cast(e.click_rate as double)
            when 'like_rate' then cast(e.like_rate as double)
            when 'collect_rate' then cast(e.collect_rate as double)
            when 'share_rate' then cast(e.share_rate as double)
            when 'comment_rate' then cast(e.comment_rate as double)
        end as our_value
    from printed as p
    inner join engagement as e on p.cut = e.cut
    where p.paper_table = 'Table 5'
    union all
    select
        p.paper_table,
        p.measure,
        p.cut,
        case p.measure
            when 'transition_share' then cast(t.transition_share as double)
            when 'clicks_per_request' then cast(t.clicks_per_request as double)
            when 'click_rate' then cast(t.click_rate as double)
            when 'n_transitions' then cast(t.n_transitions as double)
        end as our_value
    from printed as p
    inner join bias.click_rate_by_transition as t on p.cut = t.transition
    where p.paper_table = 'Table 6'
)

select
    p.paper_table,
    p.measure,
    p.cut,
    p.paper_value,
    m.our_value,
    m.our_value - p.paper_value as difference,
    (m.our_value - p.paper_value) / nullif(p.paper_value, 0) as relative_difference
from printed as p
left join measured as m
    on
        p.paper_table = m.paper_table
        and p.measure = m.measure
        and p.cut = m.cut
order by p.paper_table, p.measure, p.cut;

comment on table bias.paper_values is
    'One row per (paper_table, measure, cut): a number the paper prints, and ours.';
comment on column bias.paper_values.paper_table is 'Table of the paper.';
comment on column bias.paper_values.measure is 'Column of the view that measures the same.';
comment on column bias.paper_values.cut is 'Group the number is about.';
comment on column bias.paper_values.paper_value is 'As printed; shares in 0..1.';
comment on column bias.paper_values.our_value is
    'Measured on this data; null when the group is empty.';
comment on column bias.paper_values.difference is 'our_value - paper_value.';
comment on column bias.paper_values.relative_difference is 'difference divided by paper_value.';
