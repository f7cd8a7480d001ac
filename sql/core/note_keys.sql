-- A second number for every note that says nothing: the only note id a feature may use.
--
-- The published ids are numbered in blocks, and two blocks hold nearly every note that was ever
-- clicked, so any model that sees the id as a number or a range sees the label. The key is the
-- rank of the note under two rounds of a keyed quadratic hash modulo a prime: a permutation of
-- 0 .. n - 1 without order, the same on every machine for the same notes.

create or replace table core.note_keys as
with first_round as (
    select
        note_idx,
        (note_idx % 2147483647 * 1103515245 + 715136305) % 2147483647 as h
    from raw.notes
),

second_round as (
    select
        note_idx,
        (h * h % 2147483647 * 48271 + h * 16807 + 1013904223) % 2147483647 as h
    from first_round
),

third_round as (
    select
        note_idx,
        (h * h % 2147483647 * 69621 + h * 39373 + 374761393) % 2147483647 as h
    from second_round
)

select
    note_idx,
    row_number() over (order by h, note_idx) - 1 as note_key
from third_round
order by note_idx;

comment on table core.note_keys is
    'One row per (note_idx): the keyed random permutation of the note ids.';
comment on column core.note_keys.note_idx is
    'Note; a key, never a feature: the ids are numbered in blocks that give clicks away.';
comment on column core.note_keys.note_key is
    'Keyed random permutation of note_idx; the only note id a feature may use.';
