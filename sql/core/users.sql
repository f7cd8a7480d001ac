-- A user of the sample, with typed attributes.
--
-- The sample is 15 thousand active users and some three thousand who engaged with a direct answer
-- on the log day: it is not the population of the app.

create or replace view core.users as
select
    user_idx,
    gender,
    platform,
    age,
    fans_num,
    follows_num,
    location,
    trim(split_part(location, '  ', 1)) as country,
    dense_feat1,
    dense_feat2,
    dense_feat3,
    dense_feat4,
    dense_feat5,
    dense_feat6,
    dense_feat7,
    dense_feat8,
    dense_feat9,
    dense_feat10,
    dense_feat11,
    dense_feat12,
    dense_feat13,
    dense_feat14,
    dense_feat15,
    dense_feat16,
    dense_feat17,
    dense_feat18,
    dense_feat19,
    dense_feat20,
    dense_feat21,
    dense_feat22,
    dense_feat23,
    dense_feat24,
    dense_feat25,
    dense_feat26,
    dense_feat27,
    dense_feat28,
    dense_feat29,
    dense_feat30,
    dense_feat31,
    dense_feat32,
    dense_feat33,
    dense_feat34,
    dense_feat35,
    dense_feat36,
    dense_feat37,
    dense_feat38,
    dense_feat39,
    dense_feat40
from raw.user_feat;

comment on view core.users is
    'One row per (user_idx): a user with typed attributes.';
comment on column core.users.user_idx is 'User; joins core.users; a key, never a feature.';
comment on column core.users.gender is 'female, male or unknown.';
comment on column core.users.platform is 'Device system: iOS, Android, Harmony or unknown.';
comment on column core.users.age is 'Age band such as 19-22; unknown is a value of its own.';
comment on column core.users.fans_num is 'Followers the user has.';
comment on column core.users.follows_num is 'Accounts the user follows.';
comment on column core.users.location is
    'Place from the network address, parts divided by two spaces; null when missing.';
comment on column core.users.country is
    'First part of location: country or region; null when missing.';
comment on column core.users.dense_feat1 is
    'Anonymous dense feature 1; meaning and unit not published.';
comment on column core.users.dense_feat2 is
    'Anonymous dense feature 2; meaning and unit not published.';
comment on column core.users.dense_feat3 is
    'Anonymous dense feature 3; meaning and unit not published.';
comment on column core.users.dense_feat4 is
    'Anonymous dense feature 4; meaning and unit not published.';
comment on column core.users.dense_feat5 is
    'Anonymous dense feature 5; meaning and unit not published.';
comment on column core.users.dense_feat6 is
    'Anonymous dense feature 6; meaning and unit not published.';
comment on column core.users.dense_feat7 is
    'Anonymous dense feature 7; meaning and unit not published.';
comment on column core.users.dense_feat8 is
    'Anonymous dense feature 8; meaning and unit not published.';
comment on column core.users.dense_feat9 is
    'Anonymous dense feature 9; meaning and unit not published.';
comment on column core.users.dense_feat10 is
    'Anonymous dense feature 10; meaning and unit not published.';
comment on column core.users.dense_feat11 is
    'Anonymous dense feature 11; meaning and unit not published.';
comment on column core.users.dense_feat12 is
    'Anonymous dense feature 12; meaning and unit not published.';
comment on column core.users.dense_feat13 is
    'Anonymous dense feature 13; meaning and unit not published.';
comment on column core.users.dense_feat14 is
    'Anonymous dense feature 14; meaning and unit not published.';
comment on column core.users.dense_feat15 is
    'Anonymous dense feature 15; meaning and unit not published.';
comment on column core.users.dense_feat16 is
    'Anonymous dense feature 16; meaning and unit not published.';
comment on column core.users.dense_feat17 is
    'Anonymous dense feature 17; meaning and unit not published.';
comment on column core.users.dense_feat18 is
    'Anonymous dense feature 18; meaning and unit not published.';
comment on column core.users.dense_feat19 is
    'Anonymous dense feature 19; meaning and unit not published.';
comment on column core.users.dense_feat20 is
    'Anonymous dense feature 20; meaning and unit not published.';
comment on column core.users.dense_feat21 is
    'Anonymous dense feature 21; meaning and unit not published.';
comment on column core.users.dense_feat22 is
    'Anonymous dense feature 22; meaning and unit not published.';
comment on column core.users.dense_feat23 is
    'Anonymous dense feature 23; meaning and unit not published.';
comment on column core.users.dense_feat24 is
    'Anonymous dense feature 24; meaning and unit not published.';
comment on column core.users.dense_feat25 is
    'Anonymous dense feature 25; meaning and unit not published.';
comment on column core.users.dense_feat26 is
    'Anonymous dense feature 26; meaning and unit not published.';
comment on column core.users.dense_feat27 is
    'Anonymous dense feature 27; meaning and unit not published.';
comment on column core.users.dense_feat28 is
    'Anonymous dense feature 28; meaning and unit not published.';
comment on column core.users.dense_feat29 is
    'Anonymous dense feature 29; meaning and unit not published.';
comment on column core.users.dense_feat30 is
    'Anonymous dense feature 30; meaning and unit not published.';
comment on column core.users.dense_feat31 is
    'Anonymous dense feature 31; meaning and unit not published.';
comment on column core.users.dense_feat32 is
    'Anonymous dense feature 32; meaning and unit not published.';
comment on column core.users.dense_feat33 is
    'Anonymous dense feature 33; meaning and unit not published.';
comment on column core.users.dense_feat34 is
    'Anonymous dense feature 34; meaning and unit not published.';
comment on column core.users.dense_feat35 is
    'Anonymous dense feature 35; meaning and unit not published.';
comment on column core.users.dense_feat36 is
    'Anonymous dense feature 36; meaning and unit not published.';
comment on column core.users.dense_feat37 is
    'Anonymous dense feature 37; meaning and unit not published.';
comment on column core.users.dense_feat38 is
    'Anonymous dense feature 38; meaning and unit not published.';
comment on column core.users.dense_feat39 is
    'Anonymous dense feature 39; meaning and unit not published.';
comment on column core.users.dense_feat40 is
    'Anonymous dense feature 40; meaning and unit not published.';
