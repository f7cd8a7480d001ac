"""For each expectation, the one change to the valid log that breaks it.

A change is SQL over the stored relations. ``also`` names expectations of the same suite that fall
with it and cannot be kept: a lost impression, for instance, is also missing from its request.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Break:
    sql: str
    also: frozenset[str] = frozenset()


def change(sql: str, *also: str) -> Break:
    return Break(sql, frozenset(also))


def requests_table(table: str) -> dict[str, Break]:
    """What all five raw request tables have in common."""
    first = "where row_number = 0"
    return {
        "every_published_row_is_here_or_set_aside": change(
            f"update raw.{table} set row_number = 7 {first}"
        ),
        "user_idx_is_never_null": change(f"update raw.{table} set user_idx = null {first}"),
        "session_idx_is_never_null": change(f"update raw.{table} set session_idx = null {first}"),
        "history_has_at_most_20_notes": change(
            f"update raw.{table} set recent_clicked_note_list = range(21) {first}"
        ),
        "history_has_no_empty_entry": change(
            f"update raw.{table} set recent_clicked_note_list = [1, null] {first}"
        ),
    }


def search_table(table: str) -> dict[str, Break]:
    first = "where row_number = 0"
    return requests_table(table) | {
        "query_is_never_null": change(f"update raw.{table} set query = null {first}"),
        "query_from_type_is_1_to_8": change(f"update raw.{table} set query_from_type = 9 {first}"),
        "dpr_results_are_pairs": change(f"update raw.{table} set dpr_results = [[1.0]] {first}"),
    }


BREAKS: dict[str, dict[str, Break]] = {
    "raw.search_train": search_table("search_train"),
    "raw.search_test": search_table("search_test")
    | {
        "no_search_idx_of_search_train": change("update raw.search_test set search_idx = 0"),
        "candidates_are_the_impressions": change(
            "update raw.search_test set search_result_list = [5]"
        ),
        "bm25_results_are_pairs": change("update raw.search_test set bm25_results = [[1, 2, 3]]"),
    },
    "raw.dqa": search_table("dqa")
    | {
        "no_search_idx_of_search_train": change(
            "update raw.dqa set search_idx = 0 where search_idx = 3"
        ),
        "no_search_idx_of_search_test": change(
            "update raw.dqa set search_idx = 2 where search_idx = 3"
        ),
        "bm25_results_are_pairs": change("update raw.dqa set bm25_results = [[1.0], null]"),
    },
    "raw.recommendation_train": requests_table("recommendation_train"),
    "raw.recommendation_test": requests_table("recommendation_test")
    | {
        "no_request_idx_of_recommendation_train": change(
            "update raw.recommendation_test set request_idx = 0"
        ),
        "candidates_are_the_impressions": change(
            "update raw.recommendation_test set rec_result_list = [7, 0, 1]"
        ),
    },
    "raw.notes": {
        "every_published_row_is_here_or_set_aside": change(
            "update raw.notes set row_number = 1 where row_number = 0",
            "note_idx_is_the_row_number",
        ),
        "note_idx_is_the_row_number": change(
            "update raw.notes set note_idx = 8 where note_idx = 7"
        ),
        "note_type_is_image_text_or_video": change(
            "update raw.notes set note_type = 3 where note_idx = 0"
        ),
        "commercial_flag_is_0_or_1": change(
            "update raw.notes set commercial_flag = 9 where note_idx = 0"
        ),
        "taxonomy_ids_are_no_words_for_missing": change(
            "update raw.notes set taxonomy3_id = 'None' where note_idx = 0"
        ),
        "text_is_no_word_for_missing": change(
            "update raw.notes set note_content = 'nan' where note_idx = 0"
        ),
        "most_notes_have_a_title": change(
            "update raw.notes set note_title = null where note_idx < 5"
        ),
        "counters_are_not_negative": change(
            "update raw.notes set full_view_times = -1 where note_idx = 0"
        ),
        "counters_are_finite": change(
            "update raw.notes set view_time = 'infinity' where note_idx = 0"
        ),
        "clicks_do_not_exceed_impressions": change(
            "update raw.notes set click_num = 11 where note_idx = 0"
        ),
        "videos_have_a_duration": change(
            "update raw.notes set video_duration = 0 where note_idx = 1"
        ),
    },
    "raw.user_feat": {
        "every_published_row_is_here_or_set_aside": change(
            "update raw.user_feat set row_number = 2 where row_number = 0"
        ),
        "gender_is_documented": change(
            "update raw.user_feat set gender = 'Female' where user_idx = 0"
        ),
        "platform_is_documented": change(
            "update raw.user_feat set platform = 'ios' where user_idx = 0"
        ),
        "age_is_a_documented_band": change(
            "update raw.user_feat set age = '30-40' where user_idx = 0"
        ),
        "fans_num_is_not_negative": change(
            "update raw.user_feat set fans_num = -1 where user_idx = 0"
        ),
        "follows_num_is_not_negative": change(
            "update raw.user_feat set follows_num = -1 where user_idx = 0"
        ),
        "dense_features_are_finite": change(
            "update raw.user_feat set dense_feat40 = '-infinity' where user_idx = 0"
        ),
    },
    "core.impressions": {
        "note_idx_is_never_null": change(
            "update core.impressions set note_idx = null where note_idx = 1",
            "repeats_are_marked_once_each",
        ),
        "is_clicked_is_never_null": change(
            "update core.impressions set is_clicked = null where note_idx = 1"
        ),
        "exposed_at_is_never_null": change(
            "update core.impressions set exposed_at = null where note_idx = 1"
        ),
        "every_published_impression_is_here": change(
            "delete from core.impressions where note_idx = 7 and not is_clicked"
        ),
        "channel_follows_from_the_table": change(
            "update core.impressions set channel = 'recommendation' where source_table = 'dqa'"
        ),
        "positions_are_not_negative": change(
            "update core.impressions set position = -1 where note_idx = 1"
        ),
        "positions_are_below_2000": change(
            "update core.impressions set position = 53716 where note_idx = 1"
        ),
        "shown_rank_runs_from_1": change(
            "update core.impressions set shown_rank = 1 where note_idx = 1"
        ),
        "repeats_are_marked_once_each": change("update core.impressions set is_repeat = false"),
        "dwell_is_positive_and_finite": change(
            "update core.impressions set dwell_s = 0 where dwell_s = 5"
        ),
        "dwell_is_at_most_two_hours": change(
            "update core.impressions set dwell_s = 13000 where dwell_s = 12.5"
        ),
        "unclicked_notes_rarely_have_a_dwell": change(
            """
            update raw.search_train set result_detail_list =
                list_resize(result_detail_list, 102) where row_number = 0;
            insert into core.impressions
            select i.* replace (n as impression_n, n as shown_rank, n as note_idx, 5 as dwell_s),
            from core.impressions as i, range(3, 103) as t(n)
            where request_id = 0 and impression_n = 2
            """,
            "notes_are_described",
        ),
        "exposures_lie_around_the_log_day": change(
            "update core.impressions set exposed_at = '1970-01-20' where source_table = 'dqa'"
        ),
        "channels_are_on_one_clock": change(
            """
            update core.impressions set exposed_at = exposed_at + interval 8 hours
            where channel = 'search'
            """
        ),
        "click_rates_are_plausible": change(
            """
            update raw.search_train set result_detail_list =
                list_resize(result_detail_list, 1002) where row_number = 0;
            insert into core.impressions
            select i.* replace (n as impression_n, n as shown_rank, n as note_idx)
            from core.impressions as i, range(3, 1003) as t(n)
            where request_id = 0 and impression_n = 2
            """,
            "notes_are_described",
        ),
        "notes_are_described": change(
            "update core.impressions set note_idx = 99 where note_idx = 1"
        ),
    },
    "core.requests": {
        "every_published_request_is_here": change(
            "delete from raw.search_train where row_number = 1"
        ),
        "one_row_per_published_row": change(
            "update core.requests set row_number = 0 where source_table = 'dqa'"
        ),
        "impressions_have_their_request": change(
            """
            insert into core.impressions
            select * replace (99 as request_id) from core.impressions limit 1
            """
        ),
        "outcomes_are_those_of_the_impressions": change(
            "update core.requests set n_clicks = 2 where request_id = 0"
        ),
        "split_follows_from_the_table": change(
            "update core.requests set split = 'train' where source_table = 'search_test'"
        ),
        "each_channel_has_its_own_columns": change(
            "update core.requests set query = pseudo_query where channel = 'recommendation'"
        ),
        "first_click_is_within_the_depth": change(
            "update core.requests set first_click_position = browsing_depth + 1 where n_clicks > 0"
        ),
        "answers_are_those_of_the_sample": change(
            "update core.requests set has_answer = true where source_table = 'search_train'"
        ),
        "timed_requests_have_a_session": change(
            """
            update core.requests set session_id = null where session_n = (
                select max(session_n) from core.requests)
            """
        ),
        "session_order_runs_from_1": change(
            "update core.requests set session_n = 7 where session_n = 3"
        ),
        "a_session_is_of_one_user": change(
            """
            update core.requests set user_idx = 1, app_session_idx = 12
            where request_id = (select max(request_id) from core.requests where session_n = 3)
            """
        ),
        "an_app_session_is_of_one_user": change("update core.requests set app_session_idx = 10"),
        "requests_have_impressions": change(
            """
            delete from core.impressions where request_id = 8;
            update core.requests set n_impressions = 0 where request_id = 8
            """
        ),
        "started_at_is_never_null": change(
            "update core.requests set started_at = null, session_id = null where request_id = 8"
        ),
        "only_the_answer_sample_lacks_clicks": change(
            """
            update core.impressions set is_clicked = false where request_id = 0;
            update core.requests set n_clicks = 0 where request_id = 0
            """
        ),
        "test_comes_after_train": change(
            """
            update core.requests set started_at = started_at - interval 1 day
            where split = 'test'
            """
        ),
        "users_are_described": change(
            "update core.requests set user_idx = user_idx + 50, app_session_idx = 9 * user_idx"
        ),
    },
    "core.sessions": {
        "sessions_partition_the_requests": change("delete from core.requests where session_n = 3"),
        "channels_add_up": change("update core.sessions set path = 'S' where length(path) > 1"),
        "path_is_made_of_s_and_r": change(
            "update core.sessions set path = replace(path, 'R', 'X')"
        ),
        "sessions_are_30_minutes_apart": change(
            """
            update core.sessions set duration_s = 600 * 60 - 1800
            where started_at = (select min(started_at) from core.sessions where user_idx = 0)
            """
        ),
        "duration_is_not_negative": change(
            "update core.sessions set duration_s = -1 where n_requests = 1"
        ),
        "duration_is_at_most_a_day": change(
            """
            update core.sessions set duration_s = 86401
            where started_at = (select max(started_at) from core.sessions)
            """
        ),
    },
    "core.transitions": {
        "transition_is_one_of_four": change(
            "update core.transitions set transition = 'A->R' where transition = 'S->R'",
            "letters_name_the_channels",
        ),
        "gap_is_at_most_30_minutes": change("update core.transitions set gap_s = 1801"),
        "one_transition_per_following_request": change(
            "delete from core.transitions where transition = 'S->S'"
        ),
        "the_previous_request_is_one_step_earlier": change(
            """
            update core.transitions set previous_request_id = 4
            where request_id = (select request_id from core.requests where session_n = 3)
            """,
            "letters_name_the_channels",
        ),
        "letters_name_the_channels": change(
            "update core.transitions set transition = 'R->S' where transition = 'S->R'"
        ),
        "outcomes_are_those_of_the_second_request": change(
            "update core.transitions set n_clicks = n_clicks + 1"
        ),
    },
    "core.answers": {
        "one_row_per_request_of_the_sample": change("delete from core.answers where not is_shown"),
        "an_answer_has_text": change("update core.answers set answer = '-1' where is_shown"),
        "feedback_needs_an_answer": change(
            "update core.answers set is_body_clicked = false where not is_shown"
        ),
        "a_shown_answer_has_feedback": change(
            "update core.answers set is_answer_liked = null where is_shown"
        ),
        "a_shown_answer_has_references": change(
            "update core.answers set reference_note_list = [] where is_shown"
        ),
        "references_need_an_answer": change(
            "update core.answers set reference_note_list = [1] where not is_shown"
        ),
    },
    "core.answer_requests": {
        "one_row_per_answer_request": change("delete from core.answer_requests where not is_shown"),
        "treatment_is_that_of_the_answers": change(
            "update core.answer_requests set is_shown = not is_shown"
        ),
        "outcomes_are_those_of_the_request": change(
            "update core.answer_requests set n_impressions = n_impressions + 1"
        ),
        "abandoned_means_no_click": change(
            "update core.answer_requests set is_abandoned = not is_abandoned"
        ),
        "what_went_before_is_not_of_this_request": change(
            "update core.answer_requests set previous_gap_s = -1"
        ),
    },
    "core.notes": {
        "every_published_note_is_here": change("delete from core.notes where note_idx = 7"),
        "note_key_is_unique": change(
            "update core.notes set note_key = (select max(note_key) from core.notes) "
            "where note_idx in (0, 7)"
        ),
        "note_key_is_never_null": change(
            "update core.notes set note_key = null where note_idx = 0"
        ),
        "note_keys_say_nothing_of_the_order": change(
            """
            insert into raw.notes select n.* replace (i as note_idx, i as row_number)
            from (from raw.notes where note_idx = 0) as n, range(8, 200) as t(i);
            insert into core.notes
            select n.* replace (i as note_idx, 10000000000 * i as note_key)
            from (from core.notes where note_idx = 0) as n, range(8, 200) as t(i)
            """
        ),
        "image_count_is_that_of_the_paths": change(
            "update core.notes set n_images = 2 where note_idx = 0"
        ),
        "most_commercial_flags_are_known": change(
            "update core.notes set is_commercial = null where note_idx = 0"
        ),
    },
    "core.users": {
        "every_published_user_is_here": change("delete from core.users where user_idx = 1"),
        "a_located_user_has_a_country": change(
            "update core.users set country = null where user_idx = 0"
        ),
    },
    "core.relevance_labels": {
        "clicks_are_the_labels": change(
            "delete from core.relevance_labels where source_table = 'search_train'"
        ),
        "labels_have_a_source": change(
            """
            insert into core.relevance_labels
            select * replace (5 as note_idx, false as is_in_log)
            from core.relevance_labels where source_table = 'dqa' limit 1
            """
        ),
        "split_follows_from_the_table": change(
            "update core.relevance_labels set split = 'train' where source_table = 'search_test'"
        ),
        "label_files_are_of_this_order": change(
            """
            update core.relevance_labels set is_in_qrels = false
            where source_table = 'search_test'
            """,
            "label_files_agree_with_the_log",
        ),
        "label_files_agree_with_the_log": change(
            """
            insert into core.relevance_labels
            select * replace (5 as note_idx, false as is_in_log)
            from core.relevance_labels where source_table = 'search_test'
            """
        ),
        "labels_name_published_rows": change(
            """
            delete from core.requests where request_id = 8;
            insert into core.relevance_labels
            select * replace (9 as row_number, false as is_in_log, true as is_in_qrels)
            from core.relevance_labels where source_table = 'search_test'
            """,
            "label_files_agree_with_the_log",
        ),
    },
}
