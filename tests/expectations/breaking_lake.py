"""For each expectation from bias on, the one change to the valid lake that breaks it."""

from breaking import Break, change

SEARCH = "features.search_ranking"
RUN = "training.bm25_search"
BOARD = "evaluation.leaderboard"
# Outside fit: a row of fit is in the statistics and vocabularies, too.
ONE = f"""rowid = (select min(rowid) from {SEARCH} where fold = 'validation' and label = 0)"""
ONE_PLACE = (
    "channel = 'search' and estimator = 'mixed position-based' and surface = 'all pages' "
    "and position_from = 5"
)
ONE_REQUEST = "rowid = (select min(rowid) from evaluation.per_request where run = 'random')"
ONE_SCORE = f"rowid = (select min(rowid) from {RUN})"


def moved(subject: str) -> Break:
    return change(
        "update evaluation.data_drift set is_moved = true, moved = 'went from 1 % to 2 %' "
        f"where profile_n = 2 and subject = '{subject}'"
    )


def lost(relation: str, *also: str) -> Break:
    """An impression more than there are, in one row."""
    return change(
        f"update {relation} set n_impressions = n_impressions + 1 "
        f"where rowid = (select min(rowid) from {relation})",
        *also,
    )


def less(relation: str, share: str) -> Break:
    return change(f"update {relation} set {share} = 0.9 * {share}")


def renamed(relation: str, column: str, old: object, new: object) -> Break:
    return change(f"update {relation} set {column} = {new!r} where {column} = {old!r}")


def scores(run: str, metric: str, assignments: str) -> Break:
    return change(
        f"update {BOARD} set {assignments} "
        f"where mode = 'full' and task = 'search' and run = '{run}' and metric = '{metric}'"
    )


def found(assignments: str, metric: str) -> Break:
    return change(f"update evaluation.retrieval set {assignments} where metric = '{metric}'")


def compared(assignments: str) -> Break:
    return change(
        f"update evaluation.comparisons set {assignments} "
        "where task = 'search' and run_b = 'random' and metric = 'mrr@10'"
    )


def sliced(assignments: str) -> Break:
    """In the slice value with the most users, so that it has an interval."""
    return change(
        f"update evaluation.slices set {assignments} where rowid = "
        "(select rowid from evaluation.slices order by n_users desc, rowid limit 1)"
    )


def judged(assignments: str, judge: str, metric: str) -> Break:
    """Of the random order, in search."""
    return change(
        f"update evaluation.unbiased set {assignments} where task = 'search' and run = 'random' "
        f"and judged_by = '{judge}' and metric = '{metric}'"
    )


def cold(schema: str, assignments: str) -> Break:
    """In a slice value with enough users for an interval."""
    table = f"{schema}.cold_start"
    return change(
        f"update {table} set {assignments} where rowid = (select rowid from {table} "
        "where slice = 'form' order by n_users desc, rowid limit 1)"
    )


ONE_CONTEXT_RUN = "rowid = (select min(rowid) from ablation.context_runs where variant <> 'bare')"
ONE_CONTEXT = (
    "rowid = (select min(rowid) from ablation.context_worth "
    "where context <> 'all together' and low is not null)"
)
ONE_COVER = "note_idx = (select min(note_idx) from core.images where image_n = 2 and is_readable)"
VARIANT = "ablation.vlm_text_only_search"
ONE_OF_VARIANT = f"rowid = (select min(rowid) from {VARIANT})"
ONE_WORTH = (
    "rowid = (select min(rowid) from ablation.image_worth where slice = 'all' and low is not null)"
)
ONE_IMAGE = "rowid = (select min(rowid) from core.images where is_readable)"
ONE_EFFECT = (
    "rowid = (select min(rowid) from evaluation.answer_effects where estimator = 'doubly robust')"
)
RAW_EFFECT = "estimator = 'raw difference' and query_form = 'all' and outcome = 'n_clicks'"
ONE_PASSAGE = (
    "rowid = (select min(rowid) from evaluation.answer_passages where context = 'referred notes')"
)
ONE_TEXT = "rowid = (select min(rowid) from evaluation.answer_texts where context = 'none')"
ONE_SHARE = (
    "rowid = (select min(rowid) from evaluation.answer_metrics where metric = 'rouge_l_words')"
)
ONE_FLAG = "rowid = (select min(rowid) from evaluation.answer_feedback)"
BREAKS: dict[str, dict[str, Break]] = {
    "evaluation.answer_passages": {
        "passages_are_numbered_without_gap": change(
            f"update evaluation.answer_passages set passage_n = 77 where {ONE_PASSAGE}"
        ),
        "passages_have_text": change(
            f"update evaluation.answer_passages set passage = '' where {ONE_PASSAGE}"
        ),
        "referred_notes_are_those_of_the_answer": change(
            f"update evaluation.answer_passages set note_idx = 987654321 where {ONE_PASSAGE}"
        ),
        "only_answered_requests_are_asked": change(
            "insert into evaluation.answer_passages select 987654321, 'bm25', 1, note_idx, "
            f"passage, is_cut from evaluation.answer_passages where {ONE_PASSAGE}"
        ),
    },
    "evaluation.answer_texts": {
        "an_answer_or_a_reason": change(
            f"update evaluation.answer_texts set answer_written = null where {ONE_TEXT}"
        ),
        "written_from_its_passages": change(
            f"update evaluation.answer_texts set n_passages = 3 where {ONE_TEXT}"
        ),
        "every_context_has_every_request": change(
            f"delete from evaluation.answer_texts where {ONE_TEXT}"
        ),
        "most_requests_are_answered": change(
            "insert into evaluation.answer_texts select 10000000 + n, 'none', 'g', null, 0, 'why' "
            "from (select unnest(range(101)) as n) as more",
            "every_context_has_every_request",
        ),
    },
    "evaluation.answer_metrics": {
        "intervals_hold_their_value": change(
            f"update evaluation.answer_metrics set low = value + 0.01 where {ONE_SHARE}"
        ),
        "shares_lie_in_0_to_1": change(
            f"update evaluation.answer_metrics set value = 1.2, high = 1.3 where {ONE_SHARE}"
        ),
        "all_was_asked_in_each_context": change(
            f"update evaluation.answer_metrics set n_requests = 9999 where {ONE_SHARE}"
        ),
    },
    "evaluation.answer_feedback": {
        "intervals_hold_their_auc": change(
            f"update evaluation.answer_feedback set low = auc + 0.2 where {ONE_FLAG}"
        ),
        "agreement_is_a_chance": change(
            f"update evaluation.answer_feedback set auc = 1.2, high = 1.3 where {ONE_FLAG}"
        ),
        "both_sides_are_there": change(
            f"update evaluation.answer_feedback set n_with = 1 where {ONE_FLAG}"
        ),
    },
    "evaluation.answer_effects": {
        "intervals_hold_their_estimate": change(
            f"update evaluation.answer_effects set low = estimate + 0.1 where {ONE_EFFECT}"
        ),
        "the_raw_difference_stands_beside": change(
            f"delete from evaluation.answer_effects where {RAW_EFFECT}"
        ),
        "nothing_is_estimated_from_few": change(
            f"update evaluation.answer_effects set n_hidden = 3 where {ONE_EFFECT}"
        ),
        "groups_are_parts_of_the_sample": change(
            f"update evaluation.answer_effects set n_shown = 1000000 where {ONE_EFFECT}"
        ),
    },
    "evaluation.answer_balance": {
        "differences_have_the_sign_of_their_means": change(
            "update evaluation.answer_balance set difference_before = -difference_before"
        ),
        "weighting_brings_the_groups_closer": change(
            "update evaluation.answer_balance set difference_weighted = 2 * difference_before"
        ),
    },
    "evaluation.answer_overlap": {
        "every_request_is_in_one_bin": change(
            "update evaluation.answer_overlap set n_shown = n_shown + 1000000 where bin = 1"
        ),
        "chances_lie_in_their_bin": change(
            "update evaluation.answer_overlap set mean_propensity = propensity_to + 0.01 "
            "where n_shown > 0"
        ),
        "chances_come_true": change(
            "update evaluation.answer_overlap set n_hidden = 0, n_shown = 100, shown_share = 1, "
            "mean_propensity = 0.15 where bin = 2",
            "every_request_is_in_one_bin",
        ),
    },
    "evaluation.answer_refutations": {
        "verdicts_follow_from_the_interval": change(
            "update evaluation.answer_refutations set low = expected + 1, high = expected + 2 "
            "where refutation = 'placebo treatment'"
        ),
        "the_estimate_is_not_refuted": change(
            "update evaluation.answer_refutations set low = expected + 1, high = expected + 2, "
            "is_as_expected = false where refutation = 'placebo treatment'"
        ),
    },
    "features.note_images": {
        "covers_are_the_first_readable_images": change(
            f"update features.note_images set image_n = 2 where {ONE_COVER}",
            "contents_are_those_verified",
        ),
        "contents_are_those_verified": change(
            f"update features.note_images set content_hash = 'other' where {ONE_COVER}"
        ),
        "every_note_with_a_readable_image_is_here": change(
            f"delete from features.note_images where {ONE_COVER}"
        ),
    },
    "ablation.vlm_text_only_search": {
        "every_test_candidate_is_scored": change(f"delete from {VARIANT} where {ONE_OF_VARIANT}"),
        "only_test_candidates_are_scored": change(
            f"insert into {VARIANT} select qid, 987654321, score, shown_rank from {VARIANT} "
            f"where {ONE_OF_VARIANT}"
        ),
        "scores_are_finite": change(f"update {VARIANT} set score = 'nan' where {ONE_OF_VARIANT}"),
    },
    "ablation.image_worth": {
        "differences_are_of_their_means": change(
            f"update ablation.image_worth set mean = mean + 0.1 where {ONE_WORTH}"
        ),
        "intervals_hold_their_difference": change(
            f"update ablation.image_worth set low = difference + 0.1 where {ONE_WORTH}"
        ),
        "slices_are_parts_of_all": change(
            "update ablation.image_worth set n_requests = 100 * n_requests where rowid = "
            "(select min(rowid) from ablation.image_worth where slice <> 'all')"
        ),
        "all_comparisons_are_of_the_same_requests": change(
            f"update ablation.image_worth set n_requests = n_requests + 1 where {ONE_WORTH}"
        ),
    },
    "core.images": {
        "images_are_of_known_notes": change(
            f"update core.images set path = 'image/part_0/other.jpg' where {ONE_IMAGE}"
        ),
        "readable_images_are_measured": change(
            f"update core.images set content_hash = null where {ONE_IMAGE}"
        ),
        "unreadable_images_say_why": change(
            "update core.images set reason = null where not is_readable"
        ),
        "no_image_was_refused_as_an_attack": change(
            "update core.images set reason = 'image has too many pixels' where not is_readable"
        ),
        "few_images_are_unreadable": change(
            "update core.images set is_readable = false, reason = 'image is corrupt' "
            "where image_n = 1"
        ),
    },
    "bias.click_rate_by_position": {
        "position_bin_is_0_to_11": change(
            "update bias.click_rate_by_position set position_bin = position_bin + 1"
        ),
        "totals_are_those_of_core": lost("bias.click_rate_by_position"),
        "bins_have_no_gap": change(
            """
            update bias.click_rate_by_position as b
            set n_impressions = b.n_impressions + o.n_impressions,
                n_clicks = b.n_clicks + o.n_clicks
            from bias.click_rate_by_position as o
            where b.channel = o.channel and b.position_bin = 4 and o.position_bin = 3;
            delete from bias.click_rate_by_position where position_bin = 3
            """
        ),
    },
    "bias.click_rate_by_note_form": {
        "position_bin_is_0_to_11": change(
            "update bias.click_rate_by_note_form set position_bin = position_bin + 1"
        ),
        "note_form_is_one_of_two": renamed(
            "bias.click_rate_by_note_form", "note_form", "video", "audio"
        ),
        "totals_are_those_of_core": lost("bias.click_rate_by_note_form"),
    },
    "bias.video_share_by_position": {
        "position_bin_is_0_to_11": change(
            """
            update bias.click_rate_by_note_form set position_bin = position_bin + 1;
            update bias.video_share_by_position set position_bin = position_bin + 1
            """
        ),
        "videos_do_not_exceed_impressions": change(
            "update bias.video_share_by_position set n_videos = n_impressions + 1",
            "totals_are_those_of_the_forms",
        ),
        "totals_are_those_of_the_forms": lost("bias.video_share_by_position"),
    },
    "bias.click_rate_by_query_length": {
        "query_length_bin_is_a_documented_one": renamed(
            "bias.click_rate_by_query_length", "query_length_bin", 11, 12
        ),
        "request_shares_sum_to_1": less("bias.click_rate_by_query_length", "request_share"),
        "totals_are_those_of_core": lost("bias.click_rate_by_query_length"),
    },
    "bias.click_rate_by_query_source": {
        "query_source_name_is_documented": renamed(
            "bias.click_rate_by_query_source", "query_source_name", "filter", "9"
        ),
        "request_shares_sum_to_1": less("bias.click_rate_by_query_source", "request_share"),
        "totals_are_those_of_core": lost("bias.click_rate_by_query_source"),
    },
    "bias.click_rate_by_query_source_official": {
        "query_source_name_is_a_printed_one": renamed(
            "bias.click_rate_by_query_source_official", "query_source_name", "other", "not logged"
        ),
        "request_shares_sum_to_1": less(
            "bias.click_rate_by_query_source_official", "request_share"
        ),
        "totals_are_those_of_core": lost("bias.click_rate_by_query_source_official"),
    },
    "bias.click_rate_by_reformulation": {
        "reformulation_is_documented": renamed(
            "bias.click_rate_by_reformulation", "reformulation", "change", "swap"
        ),
        "transition_shares_sum_to_1": less("bias.click_rate_by_reformulation", "transition_share"),
        "pairs_are_fewer_than_searches": change(
            "update bias.click_rate_by_reformulation set n_transitions = 100 * n_transitions"
        ),
    },
    "bias.click_rate_by_session_position": {
        "session_position_bin_is_1_to_11": change(
            "update bias.click_rate_by_session_position set session_position_bin = 0 "
            "where session_position_bin = 1"
        ),
        "totals_are_those_of_core": lost("bias.click_rate_by_session_position"),
    },
    "bias.click_rate_by_session_position_official": {
        "channel_session_position_bin_is_1_to_11": change(
            "update bias.click_rate_by_session_position_official "
            "set channel_session_position_bin = 0 where channel_session_position_bin = 1"
        ),
        "totals_are_those_of_core": lost("bias.click_rate_by_session_position_official"),
    },
    "bias.click_rate_by_transition": {
        "transition_is_one_of_four": renamed(
            "bias.click_rate_by_transition", "transition", "S->S", "S->A"
        ),
        "transition_shares_sum_to_1": less("bias.click_rate_by_transition", "transition_share"),
        "totals_are_those_of_core": lost("bias.click_rate_by_transition"),
    },
    "bias.dataset_sizes": {
        "sizes_are_those_of_core": change(
            "update bias.dataset_sizes set n_entities = n_entities + 1 where entity = 'users'"
        ),
        "every_size_is_there": change(
            "delete from bias.dataset_sizes where entity = 'image paths'"
        ),
    },
    "bias.engagement_by_answer_shown": {
        "totals_are_those_of_core": lost("bias.engagement_by_answer_shown")
    },
    "bias.engagement_by_channel": {"totals_are_those_of_core": lost("bias.engagement_by_channel")},
    "bias.users_by_attribute": {
        "user_shares_sum_to_1": less("bias.users_by_attribute", "user_share"),
        "known_user_shares_sum_to_1": less("bias.users_by_attribute", "known_user_share"),
        "every_user_has_each_attribute": change(
            "update bias.users_by_attribute set n_users = n_users + 1"
        ),
        "attribute_is_one_of_four": renamed(
            "bias.users_by_attribute", "attribute", "gender", "sex"
        ),
    },
    "bias.paper_values": {
        "paper_value_is_never_null": change(
            "update bias.paper_values set paper_value = null "
            "where rowid = (select min(rowid) from bias.paper_values)"
        ),
        "printed_shares_are_in_0_to_1": change(
            "update bias.paper_values set paper_value = 20, difference = our_value - 20 "
            "where measure = 'click_rate'"
        ),
        "measured_shares_are_in_0_to_1": change(
            "update bias.paper_values set our_value = 20, difference = 20 - paper_value "
            "where measure = 'click_rate'"
        ),
        "differences_are_ours_less_the_papers": change(
            "update bias.paper_values set difference = - difference where difference <> 0"
        ),
        "most_values_are_measured": change(
            "update bias.paper_values set our_value = null, difference = null"
        ),
    },
    SEARCH: {
        "candidates_are_the_impressions": change(f"delete from {SEARCH} where {ONE}"),
        "labels_are_the_clicks": change(f"update {SEARCH} set label = 1 where {ONE}"),
        "label_is_0_or_1": change(f"update {SEARCH} set label = 2 where label = 1"),
        "label_is_never_null": change(f"update {SEARCH} set label = null where {ONE}"),
        "fold_is_known": change(f"update {SEARCH} set fold = 'held out' where fold = 'validation'"),
        "fold_follows_from_the_split": change(
            f"""
            update {SEARCH} set fold = 'test' where request_id =
            (select min(request_id) from {SEARCH} where fold = 'validation')
            """
        ),
        "a_request_is_in_one_fold": change(
            f"update {SEARCH} set fold = 'zero' where {ONE}", "fold_is_known"
        ),
        "a_session_is_in_one_fold": change(
            f"""
            update core.requests set session_id = (
                select any_value(session_id order by request_id) from core.requests
                where request_id in (from (select request_id from {SEARCH}
                    where fold = 'validation')))
            where request_id = (select min(request_id) from {SEARCH} where fold = 'fit')
            """
        ),
        "validation_comes_after_fit": change(
            f"""
            update core.requests set started_at = started_at + interval 30 days
            where session_id = (select session_id from core.requests where request_id =
                (select min(request_id) from {SEARCH} where fold = 'fit'))
            """
        ),
        "keys_are_those_of_the_request": change(
            f"update {SEARCH} set user_idx = user_idx + 1 where {ONE}"
        ),
        "note_key_is_that_of_the_note": change(
            f"update {SEARCH} set note_key = note_key + 1 where {ONE}"
        ),
        "features_are_finite": change(f"update {SEARCH} set session_n = 'nan' where {ONE}"),
        "scaling_is_that_of_fit": change(
            f"update {SEARCH} set n_history = n_history + 0.001 where fold = 'fit'"
        ),
        "vocabularies_are_those_of_fit": change(
            f"update {SEARCH} set gender = (select max(gender) + 1 from {SEARCH}) where {ONE}"
        ),
        "note_ids_are_met_in_fit": change(f"update {SEARCH} set note_id = 1000000 where {ONE}"),
        "ids_are_not_negative": change(f"update {SEARCH} set note_id = -1 where {ONE}"),
        "order_is_not_that_of_display": change(
            f"""
            create or replace table {SEARCH} as
            select f.* from {SEARCH} as f inner join (
                select request_id, note_idx, min(shown_rank) as shown_rank
                from core.impressions group by all
            ) as i using (request_id, note_idx)
            order by f.request_id, i.shown_rank
            """
        ),
        "a_request_stands_together": change(
            f"create or replace table {SEARCH} as from {SEARCH} order by rowid = 0, rowid"
        ),
        "most_candidates_have_their_note": change(
            f"update {SEARCH} set note_key = null; update core.notes set note_key = null"
        ),
        "fit_is_most_of_train": change(
            f"update {SEARCH} set fold = 'fit' where fold = 'validation'",
            "scaling_is_that_of_fit",
        ),
    },
    "features.search_vocabularies": {
        "ids_are_dense_from_1": change(
            "update features.search_vocabularies set id = 0 where feature = 'gender' and id = 1"
        ),
        "ids_are_those_of_the_feature_table": change(
            """
            delete from features.search_vocabularies where feature = 'location' and id =
            (select max(id) from features.search_vocabularies where feature = 'location')
            """
        ),
        "no_published_id_is_a_feature": change(
            "insert into features.search_vocabularies values ('note_idx', '7', 1)"
        ),
        "values_are_no_words_for_missing": change(
            "update features.search_vocabularies set value = 'nan' "
            "where feature = 'gender' and id = 1"
        ),
    },
    "features.search_statistics": {
        "statistics_are_finite": change(
            "update features.search_statistics set mean = 'nan' where feature = 'n_history'"
        ),
        "deviations_are_positive": change(
            "update features.search_statistics set deviation = 0 where feature = 'n_history'"
        ),
        "no_published_id_is_a_feature": change(
            "insert into features.search_statistics values ('user_idx', 0, 1)"
        ),
    },
    "features.note_tokens": {
        "token_ids_are_dense_from_0": change(
            "update features.note_tokens set token_id = token_id + 1"
        ),
        "tokens_are_unique": change(
            "update features.note_tokens set token = "
            "(select token from features.note_tokens where token_id = 9) where token_id = 8"
        ),
        "token_is_never_null": change(
            "update features.note_tokens set token = null where token_id = 8"
        ),
        "separators_stand_in_no_note": change(
            "update features.note_tokens set n_times = 1 where token = '[SEP]'"
        ),
        "few_tokens_are_unknown": change(
            "update features.note_tokens set n_times = (select sum(n_times) "
            "from features.note_tokens) where token = '[UNK]'"
        ),
    },
    "features.note_appeal": {
        "appeal_is_a_number": change(
            "update features.note_appeal set note_appeal = null where note_idx = "
            "(select min(note_idx) from features.note_appeal)"
        ),
        "appeal_is_a_difference_of_click_rates": change(
            "update features.note_appeal set note_appeal = 1.5 where note_idx = "
            "(select min(note_idx) from features.note_appeal)"
        ),
        "every_note_has_a_row": change(
            "delete from features.note_appeal where note_idx = "
            "(select min(note_idx) from features.note_appeal)"
        ),
    },
    "features.note_words": {
        "word_ids_are_dense_from_0": change("update features.note_words set word_id = word_id + 1"),
        "words_are_unique": change(
            "update features.note_words set word = "
            "(select word from features.note_words where word_id = 1) where word_id = 0"
        ),
        "word_is_never_null": change(
            "update features.note_words set word = null where word_id = 0"
        ),
        "every_word_stands_in_a_note": change(
            "update features.note_words set n_times = 0 where word_id = 0"
        ),
    },
    RUN: {
        "every_test_candidate_is_scored": change(f"delete from {RUN} where {ONE_SCORE}"),
        "only_test_candidates_are_scored": change(
            f"insert into {RUN} values (0, 999999999, 0.5, 1)"
        ),
        "scores_are_finite": change(f"update {RUN} set score = 'nan' where {ONE_SCORE}"),
        "scores_differ": change(f"update {RUN} set score = 1"),
        "shown_rank_is_that_of_the_log": change(
            f"update {RUN} set shown_rank = shown_rank + 1 where {ONE_SCORE}"
        ),
        "scores_do_not_follow_the_display": change(f"update {RUN} set score = - shown_rank"),
    },
    BOARD: {
        "every_model_stands_beside_the_anchors": change(
            f"delete from {BOARD} where run = 'popularity' and metric = 'mrr@10'"
        ),
        "both_tasks_and_modes_are_there": change(
            f"delete from {BOARD} where task = 'search' and mode = 'official'"
        ),
        "kind_is_model_or_anchor": change(
            f"update {BOARD} set kind = 'baseline' where run = 'bm25'"
        ),
        "values_are_in_0_to_1": scores("popularity", "mrr@10", "value = -0.5, low = -0.6"),
        "intervals_enclose_their_value": scores("popularity", "mrr@10", "low = value + 0.001"),
        "nothing_is_above_the_oracle": scores("oracle", "mrr@10", "value = 0, low = 0"),
        "chance_is_a_half": scores("random", "auc", "value = 0.501"),
        "display_and_its_reverse_mirror_each_other": scores(
            "display_order", "gauc", "value = value + 0.001"
        ),
        "every_test_request_is_counted": scores("bm25", "gauc", "n_requests = 7"),
        "no_test_request_is_missing": scores("bm25", "gauc", "n_missing = 1"),
        "no_model_knows_the_answers": scores("bm25", "gauc", "value = 0.99"),
        "no_model_is_below_chance": scores("bm25", "mrr@10", "value = 0.01, low = 0, high = 0.02"),
    },
    "propensity.by_position": {
        "intervals_enclose_their_estimate": change(
            f"update propensity.by_position set lower = estimate + 0.001 where {ONE_PLACE}"
        ),
        "estimates_are_not_negative": change(
            "update propensity.by_position set estimate = -0.1, lower = -0.1 "
            "where position_from = 5 and estimator = 'click rate'"
        ),
        "the_curve_in_use_is_positive": change(
            "update propensity.by_position set estimate = 0, lower = 0, upper = 0 "
            f"where {ONE_PLACE}"
        ),
        "the_first_position_is_the_unit": change(
            "update propensity.by_position set estimate = 1.1, lower = 1, upper = 1.2 "
            "where position_from = 1 and estimator = 'click rate' and channel = 'search'"
        ),
        "clicks_are_among_the_impressions": change(
            f"update propensity.by_position set n_clicks = n_impressions + 1 where {ONE_PLACE}"
        ),
        "the_curve_in_use_is_known": change(
            f"update propensity.by_position set upper = 2 * lower + 1 where {ONE_PLACE}"
        ),
    },
    "propensity.click_models": {
        "perplexities_are_between_certainty_and_a_coin": change(
            "update propensity.click_models set perplexity = 2.5 where estimator = 'cascade'"
        ),
        "calibration_errors_are_shares": change(
            "update propensity.click_models set calibration_error = -0.1 "
            "where estimator = 'cascade'"
        ),
    },
    "propensity.bias_factors": {
        "intervals_enclose_their_estimate": change(
            "update propensity.bias_factors set lower = estimate + 0.001 where channel = 'search'"
        ),
    },
    "propensity.trust": {
        "intervals_enclose_their_estimate": change(
            "update propensity.trust set lower = trust + 0.01 where position_from = 1"
        ),
        "trust_is_below_one": change(
            "update propensity.trust set trust = 1, upper = 1.1 where position_from = 1"
        ),
        "trust_is_not_below_none": change(
            "update propensity.trust set trust = -0.2, lower = -0.3, upper = -0.1 "
            "where position_from = 1"
        ),
    },
    "propensity.overlap": {
        "pairs_stand_once": change(
            "update propensity.overlap set other_position_from = position_from "
            "where position_from = 1 and other_position_from = 2 and channel = 'search'"
        ),
        "counts_are_not_negative": change(
            "update propensity.overlap set n_notes = -1 where position_from = 1 "
            "and other_position_from = 2"
        ),
    },
    "evaluation.retrieval": {
        "recalls_are_in_0_to_1": found("value = -0.5, low = -0.6", "recall@100"),
        "intervals_enclose_their_value": found("high = value - 0.001, low = 0", "recall@100"),
        "more_notes_find_no_less": found("value = 0.9, high = 0.95", "recall@100"),
        "every_test_request_is_counted": found("n_requests = 7", "recall@500"),
        "all_notes_are_searched": found("n_notes = n_notes - 1", "recall@500"),
    },
    "evaluation.per_request": {
        "every_test_request_is_there": change(
            # One more that changes no mean.
            "insert into evaluation.per_request select b.* replace (-1 as row_number, "
            "m.mrr_at_10 as mrr_at_10) from evaluation.per_request as b, (select avg(mrr_at_10) "
            "as mrr_at_10 from evaluation.per_request where task = 'search' and run = 'random') "
            f"as m where b.{ONE_REQUEST}",
            "user_is_that_of_the_request",
        ),
        "metrics_are_in_0_to_1": change(
            f"update evaluation.per_request set recall_at_10 = 2 where {ONE_REQUEST}"
        ),
        "means_are_those_of_the_leaderboard": change(
            "update evaluation.per_request set mrr_at_10 = mrr_at_10 / 2"
        ),
        "user_is_that_of_the_request": change(
            f"update evaluation.per_request set user_idx = user_idx + 1 where {ONE_REQUEST}"
        ),
    },
    "evaluation.comparisons": {
        "differences_are_a_less_b": compared(
            "difference = 0, low = -1, high = 1, is_resolvable = false"
        ),
        "intervals_enclose_their_difference": compared(
            "low = difference + 0.1, high = difference + 0.2, is_resolvable = p_holm < 0.05"
        ),
        "p_values_are_shares": compared("p_value = 1, p_holm = 0.9, is_resolvable = false"),
        "resolvable_is_both_test_and_interval": compared("is_resolvable = not is_resolvable"),
        "every_model_stands_against_chance": change(
            "delete from evaluation.comparisons where run_b = 'random' and metric = 'mrr@10'"
        ),
    },
    "evaluation.slices": {
        "values_of_a_slice_are_all_requests": sliced("n_requests = n_requests + 1"),
        "values_are_in_0_to_1": sliced("value = -0.5, low = case when n_users >= 10 then -0.6 end"),
        "intervals_enclose_their_value": sliced("low = value + 0.01, high = value + 0.02"),
    },
    "evaluation.unbiased": {
        "values_are_in_their_range": judged("value = 2, low = null, high = null", "raw", "ndcg@10"),
        "intervals_enclose_their_value": judged(
            "low = value + 0.01, high = value + 0.02", "raw", "ndcg@10"
        ),
        "the_shown_order_knows_no_neighbours": judged(
            "value = 0.6, low = 0.5, high = 0.7", "adjacent_pairs", "pair_accuracy"
        ),
        "weights_make_no_clicks": judged("n_effective = n_judged + 1", "ips", "dcg@10"),
        "every_run_is_judged_alike": change(
            "delete from evaluation.unbiased where judged_by = 'raw' and metric = 'dcg@10' "
            "and run = 'random'"
        ),
    },
    "evaluation.cold_start": {
        "values_are_in_0_to_1": cold("evaluation", "value = 2, high = 3"),
        "intervals_enclose_their_value": cold("evaluation", "low = value + 0.01, high = 1"),
        "values_of_a_slice_are_all_clicks": cold("evaluation", "n_clicks = n_clicks + 1"),
    },
    "ablation.cold_start": {
        "values_are_in_0_to_1": cold("ablation", "value = 2, high = 3"),
        "intervals_enclose_their_value": cold("ablation", "low = value + 0.01, high = 1"),
        "every_share_is_judged_on_the_same_clicks": cold("ablation", "n_clicks = n_clicks + 1"),
        "less_of_train_is_fewer_requests": change(
            "update ablation.cold_start set n_fit_requests = 1 where train_share = 1"
        ),
    },
    "ablation.context_runs": {
        "metrics_are_in_0_to_1": change(
            f"update ablation.context_runs set mrr_at_10 = 2 where {ONE_CONTEXT_RUN}"
        ),
        "every_variant_ranks_the_same_requests": change(
            f"delete from ablation.context_runs where {ONE_CONTEXT_RUN}"
        ),
        "the_bare_model_is_there": change(
            "update ablation.context_runs set variant = 'barer' where variant = 'bare'"
        ),
    },
    "ablation.context_worth": {
        "differences_are_of_their_means": change(
            f"update ablation.context_worth set mean = mean + 0.1 where {ONE_CONTEXT}"
        ),
        "intervals_hold_their_difference": change(
            "update ablation.context_worth set low = difference + 0.1, high = difference + 0.2 "
            f"where {ONE_CONTEXT}"
        ),
        "every_context_is_asked_both_ways": change(
            f"delete from ablation.context_worth where {ONE_CONTEXT}"
        ),
    },
    "evaluation.calibration": {
        "shares_are_in_0_to_1": change(
            "update evaluation.calibration set predicted_share = predicted_share + 1, "
            "clicked_share = clicked_share + 1, low = 0, high = 3 where bin = 10"
        ),
        "bins_are_tenths": change(
            "update evaluation.calibration set n_candidates = 2 * n_candidates where bin = 4",
            "predictions_add_up_to_the_clicks",
        ),
        "predictions_add_up_to_the_clicks": change(
            "update evaluation.calibration set predicted_share = predicted_share / 2"
        ),
        "intervals_enclose_their_share": change(
            "update evaluation.calibration set low = clicked_share + 0.001 where bin = 4"
        ),
    },
    "evaluation.examples": {
        "ranks_follow_the_scores": change("update evaluation.examples set rank = 100 - rank"),
        "clicks_are_those_of_the_log": change(
            "update evaluation.examples set is_clicked = not is_clicked"
        ),
    },
    "evaluation.history": {
        "evaluations_are_numbered_from_1": change(
            "update evaluation.history set evaluation_n = evaluation_n + 1"
        ),
        "the_newest_is_the_leaderboard": change(
            "update evaluation.history set metric = 'mrr@11' "
            "where evaluation_n = 2 and metric = 'mrr@10' and run = 'random'"
        ),
        "no_metric_left_its_interval": change(
            "update evaluation.history set low = value + 0.01, high = value + 0.02 "
            "where evaluation_n = 1 and metric = 'mrr@10' and run = 'random'"
        ),
    },
    "evaluation.data_drift": {
        "profiles_are_numbered_from_1": change(
            "update evaluation.data_drift set profile_n = profile_n + 1"
        ),
        "what_moved_is_said": change("update evaluation.data_drift set moved = 'it did'"),
        "click_rate_has_not_moved": moved("click rate"),
        "position_curve_has_not_moved": moved("position curve"),
        "query_sources_have_not_moved": moved("query source"),
        "features_have_not_moved": moved("feature"),
    },
}
