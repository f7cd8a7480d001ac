"""The analysis table by hand, and effects of answers on a small world and on real rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from qilin_dagster.answer_effect import (
    AIPW,
    ALL_FORMS,
    ATE,
    OUTCOMES,
    RAW,
    Study,
    answer_balance,
    answer_effects,
    answer_overlap,
    answer_refutations,
    read_study,
)
from tests import answer_worlds
from tests import published_log as log
from tests.conftest import Given


def test_the_analysis_table_by_hand(tiny: duckdb.DuckDBPyConnection) -> None:
    rows = tiny.execute(
        "select request_id, user_idx, is_shown, query_length, query_form, topic, hour_of_day, "
        "session_n, n_history, n_requests_before, n_clicks_before, previous_n_clicks, "
        "previous_channel, previous_gap_s, n_impressions, n_clicks, request_click_rate, "
        "is_abandoned, clicked_dwell_s, has_next_in_session, has_next_in_3_hours "
        "from core.answer_requests order by 1"
    ).fetchall()
    # The log ends two hours after noon UTC, so nobody can be seen to stay away for three.
    before = (5, "other", "5ab094a", 20)
    assert rows == [
        (0, 1, True, *before, 1, 3, 0, 0, None, None, None, 2, 1, 0.5, False, 7.0, True, None),
        (2, 1, False, *before, 2, 3, 1, 1, 1, "search", 60.0, 1, 0, 0.0, True, 0.0, False, None),
    ]


FORMS = {
    "西安门票多少钱": "how much",
    "几月去大理": "how much",
    "平价面膜价格": "how much",
    "红烧肉怎么做": "how to",
    "红烧肉好吃怎么样": "advice",
    "面膜怎么选": "advice",
    "平价面膜推荐": "advice",
    "考研条件": "what or whether",
    "上海 咖啡": "other",
    "": "other",
}


def test_forms_of_queries(given: Given) -> None:
    tables = log.quiet()
    row = log.tables()["dqa"][0]
    tables["dqa"] = [{**row, "query": q, "search_idx": n} for n, q in enumerate(FORMS)]
    connection = given(tables, "core.answer_requests")
    found = connection.execute(
        "select coalesce(query, ''), query_form from core.answer_requests"
    ).fetchall()
    assert dict(found) == FORMS


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    folder = tmp_path_factory.mktemp("answers")
    answer_worlds.write(folder / "data", seed=11, n_answers=240)
    connection = answer_worlds.connect(folder / "data", folder / "lake")
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def study(world: duckdb.DuckDBPyConnection) -> Study:
    return read_study(world)


def test_covariates_are_finite_and_none_is_an_outcome(study: Study) -> None:
    assert np.isfinite(study.covariates_NP).all()
    after = {outcome.name for outcome in OUTCOMES} | {"is_shown", "user_idx", "request_id"}
    assert not after & {name.partition(":")[0] for name in study.names}
    assert {"query_length", "hour_of_day: sine", "previous_n_clicks"} <= set(study.names)
    placebo = study.without(("previous_n_clicks",))
    assert not any(name.startswith("previous_n_clicks") for name in placebo.names)


def test_each_outcome_has_its_effect_beside_the_raw_difference(
    study: Study, world: duckdb.DuckDBPyConnection
) -> None:
    outcomes = [OUTCOMES[0], OUTCOMES[4]]
    rows = answer_effects(study, outcomes).to_pylist()
    found = {(r["outcome"], r["estimator"], r["effect_on"], r["query_form"]): r for r in rows}
    assert len(found) == len(rows)
    for outcome in outcomes:
        assert (outcome.name, RAW, ATE, ALL_FORMS) in found
        one = found[outcome.name, AIPW, ATE, ALL_FORMS]
        assert one["low"] <= one["estimate"] <= one["high"]
    ((shown, hidden),) = world.execute(
        "select avg(n_clicks) filter (where is_shown), avg(n_clicks) filter (where not is_shown) "
        "from core.answer_requests"
    ).fetchall()
    raw = found["n_clicks", RAW, ATE, ALL_FORMS]
    assert raw["estimate"] == pytest.approx(shown - hidden)
    assert raw["mean_hidden"] == pytest.approx(hidden)
    assert raw["e_value"] is None
    assert found["n_clicks", AIPW, ATE, ALL_FORMS]["e_value"] >= 1


def test_balance_overlap_and_refutations_stand_beside(study: Study) -> None:
    balance = answer_balance(study).to_pylist()
    assert [row["covariate"] for row in balance] == list(study.names)
    before, after = (
        sum(abs(row[name]) for row in balance)
        for name in ("difference_before", "difference_weighted")
    )
    assert after < before
    overlap = answer_overlap(study).to_pylist()
    assert sum(row["n_shown"] + row["n_hidden"] for row in overlap) == len(study)
    refutations = answer_refutations(study, n_draws=2).to_pylist()
    assert {row["refutation"] for row in refutations} == {
        "placebo treatment",
        "placebo outcome",
        "random common cause",
        "subset of users",
    }


def test_nothing_is_estimated_from_a_handful(real: duckdb.DuckDBPyConnection) -> None:
    few: Any = read_study(real)
    assert few.is_shown_N.sum() == 2
    for table in (answer_effects, answer_balance, answer_overlap, answer_refutations):
        assert table(few).num_rows == 0


def test_a_log_without_answers_is_no_fault(given: Given, tmp_path: Path) -> None:
    study = read_study(given(log.quiet(), "core.answer_requests", "core.users"))
    assert len(study) == 0
    assert answer_effects(study).num_rows == 0
