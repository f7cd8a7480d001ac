-- Published users that cannot be used; raw.user_feat has all others.
--
-- Missing is not unusable: no gender, age or place, a NaN in any number. The first usable row of a
-- key stays. The row names one reason, the first in the order of this file. The published file is
-- never changed: file and row say where the user lies as it was given.

create or replace table quarantine.user_feat as
with measured as (
    select
        row_number,
        source_file,
        source_row,
        user_idx,
        fans_num,
        follows_num,
        case
            when isinf(fans_num) then 'fans_num'
            when isinf(follows_num) then 'follows_num'
            when isinf(dense_feat1) then 'dense_feat1'
            when isinf(dense_feat2) then 'dense_feat2'
            when isinf(dense_feat3) then 'dense_feat3'
            when isinf(dense_feat4) then 'dense_feat4'
            when isinf(dense_feat5) then 'dense_feat5'
            when isinf(dense_feat6) then 'dense_feat6'
            when isinf(dense_feat7) then 'dense_feat7'
            when isinf(dense_feat8) then 'dense_feat8'
            when isinf(dense_feat9) then 'dense_feat9'
            when isinf(dense_feat10) then 'dense_feat10'
            when isinf(dense_feat11) then 'dense_feat11'
            when isinf(dense_feat12) then 'dense_feat12'
            when isinf(dense_feat13) then 'dense_feat13'
            when isinf(dense_feat14) then 'dense_feat14'
            when isinf(dense_feat15) then 'dense_feat15'
            when isinf(dense_feat16) then 'dense_feat16'
            when isinf(dense_feat17) then 'dense_feat17'
            when isinf(dense_feat18) then 'dense_feat18'
            when isinf(dense_feat19) then 'dense_feat19'
            when isinf(dense_feat20) then 'dense_feat20'
            when isinf(dense_feat21) then 'dense_feat21'
            when isinf(dense_feat22) then 'dense_feat22'
            when isinf(dense_feat23) then 'dense_feat23'
            when isinf(dense_feat24) then 'dense_feat24'
            when isinf(dense_feat25) then 'dense_feat25'
            when isinf(dense_feat26) then 'dense_feat26'
            when isinf(dense_feat27) then 'dense_feat27'
            when isinf(dense_feat28) then 'dense_feat28'
            when isinf(dense_feat29) then 'dense_feat29'
            when isinf(dense_feat30) then 'dense_feat30'
            when isinf(dense_feat31) then 'dense_feat31'
            when isinf(dense_feat32) then 'dense_feat32'
            when isinf(dense_feat33) then 'dense_feat33'
            when isinf(dense_feat34) then 'dense_feat34'
            when isinf(dense_feat35) then 'dense_feat35'
            when isinf(dense_feat36) then 'dense_feat36'
            when isinf(dense_feat37) then 'dense_feat37'
            when isinf(dense_feat38) then 'dense_feat38'
            when isinf(dense_feat39) then 'dense_feat39'
            when isinf(dense_feat40) then 'dense_feat40'
        end as infinite_column
    from published.user_feat
),

judged as (
    select
        row_number,
        source_file,
        source_row,
        user_idx,
        case
            when user_idx is null then 'key is missing or not a whole number'
            when user_idx < 0 then 'negative key'
            when user_idx > 1000000000000000 then 'absurd key'
            when infinite_column is not null then 'infinite value'
            when fans_num < 0 or follows_num < 0 then 'negative count'
        end as reason,
        case
            when user_idx is null then null
            when user_idx < 0 or user_idx > 1000000000000000 then cast(user_idx as varchar)
            when infinite_column is not null then infinite_column || ' is infinite'
            when fans_num < 0 then 'fans_num = ' || cast(fans_num as varchar)
            when follows_num < 0 then 'follows_num = ' || cast(follows_num as varchar)
        end as detail
    from measured
),

repeated as (
    select
        row_number,
        source_file,
        source_row,
        user_idx,
        first_value(row_number) over (partition by user_idx order by row_number)
            as first_row_number
    from judged
    where reason is null
)

select
    row_number,
    source_file,
    source_row,
    user_idx,
    reason,
    detail
from judged
where reason is not null
union all
select
    row_number,
    source_file,
    source_row,
    user_idx,
    'duplicate key' as reason,
    cast(user_idx as varchar) || ' is the key of row ' || cast(first_row_number as varchar)
        as detail
from repeated
where row_number <> first_row_number
order by row_number;

comment on table quarantine.user_feat is
    'One row per (row_number): a user that cannot be used, and why.';
comment on column quarantine.user_feat.row_number is
    'Zero-based row of the published table over all its files.';
comment on column quarantine.user_feat.source_file is 'Published file that holds the row.';
comment on column quarantine.user_feat.source_row is 'Zero-based row in that file.';
comment on column quarantine.user_feat.user_idx is
    'User; joins core.users; a key, never a feature.';
comment on column quarantine.user_feat.reason is
    'Why the published row cannot be used; the first reason where there are several.';
comment on column quarantine.user_feat.detail is
    'The value that cannot be, as text; null where nothing is there.';
