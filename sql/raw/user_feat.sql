-- The published users, absence as null.
--
-- What the 40 dense features mean is not published. Many look like counts of active days (at most
-- 28), others like durations; some exceed a million: scale them before use.

create or replace view raw.user_feat as
select
    row_number,
    cast(user_idx as bigint) as user_idx,
    nullif(nullif(nullif(gender, ''), 'nan'), 'None') as gender,
    nullif(nullif(nullif(platform, ''), 'nan'), 'None') as platform,
    nullif(nullif(nullif(age, ''), 'nan'), 'None') as age,
    case when isnan(fans_num) then null else fans_num end as fans_num,
    case when isnan(follows_num) then null else follows_num end as follows_num,
    nullif(nullif(nullif(location, ''), 'nan'), 'None') as location,
    case when isnan(dense_feat1) then null else dense_feat1 end as dense_feat1,
    case when isnan(dense_feat2) then null else dense_feat2 end as dense_feat2,
    case when isnan(dense_feat3) then null else dense_feat3 end as dense_feat3,
    case when isnan(dense_feat4) then null else dense_feat4 end as dense_feat4,
    case when isnan(dense_feat5) then null else dense_feat5 end as dense_feat5,
    case when isnan(dense_feat6) then null else dense_feat6 end as dense_feat6,
    case when isnan(dense_feat7) then null else dense_feat7 end as dense_feat7,
    case when isnan(dense_feat8) then null else dense_feat8 end as dense_feat8,
    case when isnan(dense_feat9) then null else dense_feat9 end as dense_feat9,
    case when isnan(dense_feat10) then null else dense_feat10 end as dense_feat10,
    case when isnan(dense_feat11) then null else dense_feat11 end as dense_feat11,
    case when isnan(dense_feat12) then null else dense_feat12 end as dense_feat12,
    case when isnan(dense_feat13) then null else dense_feat13 end as dense_feat13,
    case when isnan(dense_feat14) then null else dense_feat14 end as dense_feat14,
    case when isnan(dense_feat15) then null else dense_feat15 end as dense_feat15,
    case when isnan(dense_feat16) then null else dense_feat16 end as dense_feat16,
    case when isnan(dense_feat17) then null else dense_feat17 end as dense_feat17,
    case when isnan(dense_feat18) then null else dense_feat18 end as dense_feat18,
    case when isnan(dense_feat19) then null else dense_feat19 end as dense_feat19,
    case when isnan(dense_feat20) then null else dense_feat20 end as dense_feat20,
    case when isnan(dense_feat21) then null else dense_feat21 end as dense_feat21,
    case when isnan(dense_feat22) then null else dense_feat22 end as dense_feat22,
    case when isnan(dense_feat23) then null else dense_feat23 end as dense_feat23,
    case when isnan(dense_feat24) then null else dense_feat24 end as dense_feat24,
    case when isnan(dense_feat25) then null else dense_feat25 end as dense_feat25,
    case when isnan(dense_feat26) then null else dense_feat26 end as dense_feat26,
    case when isnan(dense_feat27) then null else dense_feat27 end as dense_feat27,
    case when isnan(dense_feat28) then null else dense_feat28 end as dense_feat28,
    case when isnan(dense_feat29) then null else dense_feat29 end as dense_feat29,
    case when isnan(dense_feat30) then null else dense_feat30 end as dense_feat30,
    case when isnan(dense_feat31) then null else dense_feat31 end as dense_feat31,
    case when isnan(dense_feat32) then null else dense_feat32 end as dense_feat32,
    case when isnan(dense_feat33) then null else dense_feat33 end as dense_feat33,
    case when isnan(dense_feat34) then null else dense_feat34 end as dense_feat34,
    case when isnan(dense_feat35) then null else dense_feat35 end as dense_feat35,
    case when isnan(dense_feat36) then null else dense_feat36 end as dense_feat36,
    case when isnan(dense_feat37) then null else dense_feat37 end as dense_feat37,
    case when isnan(dense_feat38) then null else dense_feat38 end as dense_feat38,
    case when isnan(dense_feat39) then null else dense_feat39 end as dense_feat39,
    case when isnan(dense_feat40) then null else dense_feat40 end as dense_feat40
from published.user_feat as p
where not exists (
    select 1 as one
    from quarantine.user_feat as q
    where q.row_number = p.row_number
);

comment on view raw.user_feat is
    'One row per (user_idx): a user as published, absence as null.';
comment on column raw.user_feat.row_number is
    'Zero-based row of the published table over all its files.';
comment on column raw.user_feat.user_idx is 'User; joins core.users; a key, never a feature.';
comment on column raw.user_feat.gender is 'female, male or unknown.';
comment on column raw.user_feat.platform is 'Device system: iOS, Android, Harmony or unknown.';
comment on column raw.user_feat.age is 'Age band such as 19-22; unknown is a value of its own.';
comment on column raw.user_feat.fans_num is 'Followers the user has.';
comment on column raw.user_feat.follows_num is 'Accounts the user follows.';
comment on column raw.user_feat.location is
    'Place from the network address, parts divided by two spaces; null when missing.';
comment on column raw.user_feat.dense_feat1 is
    'Anonymous dense feature 1; meaning and unit not published.';
comment on column raw.user_feat.dense_feat2 is
    'Anonymous dense feature 2; meaning and unit not published.';
comment on column raw.user_feat.dense_feat3 is
    'Anonymous dense feature 3; meaning and unit not published.';
comment on column raw.user_feat.dense_feat4 is
    'Anonymous dense feature 4; meaning and unit not published.';
comment on column raw.user_feat.dense_feat5 is
    'Anonymous dense feature 5; meaning and unit not published.';
comment on column raw.user_feat.dense_feat6 is
    'Anonymous dense feature 6; meaning and unit not published.';
comment on column raw.user_feat.dense_feat7 is
    'Anonymous dense feature 7; meaning and unit not published.';
comment on column raw.user_feat.dense_feat8 is
    'Anonymous dense feature 8; meaning and unit not published.';
comment on column raw.user_feat.dense_feat9 is
    'Anonymous dense feature 9; meaning and unit not published.';
comment on column raw.user_feat.dense_feat10 is
    'Anonymous dense feature 10; meaning and unit not published.';
comment on column raw.user_feat.dense_feat11 is
    'Anonymous dense feature 11; meaning and unit not published.';
comment on column raw.user_feat.dense_feat12 is
    'Anonymous dense feature 12; meaning and unit not published.';
comment on column raw.user_feat.dense_feat13 is
    'Anonymous dense feature 13; meaning and unit not published.';
comment on column raw.user_feat.dense_feat14 is
    'Anonymous dense feature 14; meaning and unit not published.';
comment on column raw.user_feat.dense_feat15 is
    'Anonymous dense feature 15; meaning and unit not published.';
comment on column raw.user_feat.dense_feat16 is
    'Anonymous dense feature 16; meaning and unit not published.';
comment on column raw.user_feat.dense_feat17 is
    'Anonymous dense feature 17; meaning and unit not published.';
comment on column raw.user_feat.dense_feat18 is
    'Anonymous dense feature 18; meaning and unit not published.';
comment on column raw.user_feat.dense_feat19 is
    'Anonymous dense feature 19; meaning and unit not published.';
comment on column raw.user_feat.dense_feat20 is
    'Anonymous dense feature 20; meaning and unit not published.';
comment on column raw.user_feat.dense_feat21 is
    'Anonymous dense feature 21; meaning and unit not published.';
comment on column raw.user_feat.dense_feat22 is
    'Anonymous dense feature 22; meaning and unit not published.';
comment on column raw.user_feat.dense_feat23 is
    'Anonymous dense feature 23; meaning and unit not published.';
comment on column raw.user_feat.dense_feat24 is
    'Anonymous dense feature 24; meaning and unit not published.';
comment on column raw.user_feat.dense_feat25 is
    'Anonymous dense feature 25; meaning and unit not published.';
comment on column raw.user_feat.dense_feat26 is
    'Anonymous dense feature 26; meaning and unit not published.';
comment on column raw.user_feat.dense_feat27 is
    'Anonymous dense feature 27; meaning and unit not published.';
comment on column raw.user_feat.dense_feat28 is
    'Anonymous dense feature 28; meaning and unit not published.';
comment on column raw.user_feat.dense_feat29 is
    'Anonymous dense feature 29; meaning and unit not published.';
comment on column raw.user_feat.dense_feat30 is
    'Anonymous dense feature 30; meaning and unit not published.';
comment on column raw.user_feat.dense_feat31 is
    'Anonymous dense feature 31; meaning and unit not published.';
comment on column raw.user_feat.dense_feat32 is
    'Anonymous dense feature 32; meaning and unit not published.';
comment on column raw.user_feat.dense_feat33 is
    'Anonymous dense feature 33; meaning and unit not published.';
comment on column raw.user_feat.dense_feat34 is
    'Anonymous dense feature 34; meaning and unit not published.';
comment on column raw.user_feat.dense_feat35 is
    'Anonymous dense feature 35; meaning and unit not published.';
comment on column raw.user_feat.dense_feat36 is
    'Anonymous dense feature 36; meaning and unit not published.';
comment on column raw.user_feat.dense_feat37 is
    'Anonymous dense feature 37; meaning and unit not published.';
comment on column raw.user_feat.dense_feat38 is
    'Anonymous dense feature 38; meaning and unit not published.';
comment on column raw.user_feat.dense_feat39 is
    'Anonymous dense feature 39; meaning and unit not published.';
comment on column raw.user_feat.dense_feat40 is
    'Anonymous dense feature 40; meaning and unit not published.';
