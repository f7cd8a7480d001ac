"""What context is worth: which variants there are, what each sees, and whose difference it is."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models import recipes
from qilin_dagster.context_worth import (
    ALONE,
    BARE,
    CONTEXTS,
    FULL,
    LEFT_OUT,
    METRICS,
    RUNS_SCHEMA,
    TOGETHER,
    _hidden,
    context_runs,
    context_worth,
    variants,
)
from qilin_dagster.exposures import read_curve
from qilin_dagster.features import CATEGORICAL, build_features
from qilin_dagster.sources.twin import write_twin
from tests.conftest import build_views, store_words


def test_every_context_stands_alone_and_is_left_out() -> None:
    assert "query_source" in CATEGORICAL
    for task, n in (("search", 6), ("recommendation", 5)):
        known = variants(task)
        assert len(known) == 2 + 2 * n
        assert known[BARE] == ()
        assert len(known[FULL]) == n
        for context in known[FULL]:
            assert known[f"{context.name}, {ALONE}"] == (context,)
            assert set(known[f"{context.name}, {LEFT_OUT}"]) == set(known[FULL]) - {context}


def test_the_bare_model_sees_no_context_and_the_full_one_hides_nothing() -> None:
    dense, categorical = _hidden("search", ())
    assert {"session_n", "n_history", "counter", "fans_num"} <= dense
    assert categorical == {"query_source"}
    assert "word_match" not in dense
    assert "word_match" in _hidden("recommendation", ())[0], "there it is of recent clicks"
    assert _hidden("search", CONTEXTS) == (set(), set())


def test_differences_are_of_means_over_seeds_and_positive_where_context_helps() -> None:
    n, draw = 120, np.random.default_rng(1)
    base = draw.uniform(0.2, 0.6, n)
    lift = {BARE: 0.0, FULL: 0.2}
    for name in variants("search"):
        if name.endswith(ALONE):
            lift[name] = 0.1 if name.startswith("recent") else 0.0
        elif name.endswith(LEFT_OUT):
            lift[name] = 0.05 if name.startswith("recent") else 0.2
    rows = [
        {"task": "search", "variant": name, "seed": seed, "row_number": r, "user_idx": r // 3}
        | {
            metric.replace("@", "_at_"): float(base[r] + by + 0.01 * seed * (name != BARE))
            for metric in METRICS[:-1]
        }
        for name, by in lift.items()
        for seed in (1, 2)
        for r in range(n)
    ]
    table = context_worth(pa.Table.from_pylist(rows, schema=RUNS_SCHEMA), "search").to_pylist()
    found = {(row["context"], row["design"], row["metric"]): row for row in table}
    assert (TOGETHER, TOGETHER, "mrr@10") in found
    assert not any(metric == "weighted_ndcg@10" for *_, metric in found), "no curve, no weights"
    row = found["recent clicks", ALONE, "mrr@10"]
    assert row["difference"] == pytest.approx(0.1 + 0.015)
    assert row["seed_deviation"] == pytest.approx(np.std([0.01, 0.02], ddof=1))
    assert row["is_told_apart"]
    assert found["recent clicks", LEFT_OUT, "mrr@10"]["difference"] == pytest.approx(0.15)
    assert found["query source", LEFT_OUT, "mrr@10"]["difference"] == pytest.approx(0.0)
    assert not found["query source", LEFT_OUT, "mrr@10"]["is_told_apart"]
    assert context_worth(pa.Table.from_pylist(rows, schema=RUNS_SCHEMA), "other").num_rows == 0


@pytest.mark.slow
def test_all_variants_are_trained_on_the_same_requests(tmp_path: Path) -> None:
    write_twin(tmp_path / "data", scale=0.01, seed=5)
    connection = build_views(tmp_path / "data", tmp_path / "lake").connect()
    for name in ("words", "features"):
        (tmp_path / name).mkdir()
    store_words(connection, tmp_path)
    build_features(
        connection, tmp_path / "words", tmp_path / "appeal", "search", tmp_path / "features"
    )
    connection.execute("create schema if not exists propensity")
    connection.execute(
        "create table propensity.by_position as select 'search' as channel, 'all pages' as "
        "surface, 'mixed position-based' as estimator, k as position_from, 1 - k / 40 as estimate, "
        "100 as n_impressions, 30 as n_clicks from range(1, 20) as t(k)"
    )
    assert len(read_curve(connection, "search").examination) == 19
    runs = context_runs(
        connection,
        tmp_path / "features",
        "search",
        7,
        "cpu",
        print,
        n_seeds=2,
        recipe=recipes.dcn_v2_search_smoke(),
    )
    counts = set(
        runs.group_by(["variant", "seed"])
        .aggregate([("row_number", "count")])["row_number_count"]
        .to_pylist()
    )
    assert len(counts) == 1
    assert set(runs["variant"].to_pylist()) == set(variants("search"))
    assert context_worth(runs, "search").num_rows == len(METRICS) * 13
