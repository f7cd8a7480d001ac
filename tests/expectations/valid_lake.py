"""A small lake on which every expectation holds, from bias to the leaderboard: a twin's, as tables.

Raw is that of the twin; runs are scores drawn at random, so that nothing is trained.
"""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from PIL import Image

from models.answers.extractive import Extractive
from models.recipes import TASKS, Task
from qilin_dagster import answer_effect, answer_scores, answer_texts, comparisons, propensities
from qilin_dagster.assets import ablation
from qilin_dagster.assets.training import RECIPES
from qilin_dagster.calibration import calibration
from qilin_dagster.cold_start import CURVES_SCHEMA, cold_start
from qilin_dagster.context_worth import RUNS_SCHEMA, context_worth, variants
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.examples import examples
from qilin_dagster.features import build_features, statistics_rows, vocabulary_rows
from qilin_dagster.image_facts import build_images, fingerprints
from qilin_dagster.image_worth import image_worth
from qilin_dagster.leaderboard import (
    Candidates,
    ScoredRun,
    leaderboard,
    read_candidates,
    read_runs,
)
from qilin_dagster.note_appeal import build_note_appeal
from qilin_dagster.note_images import build_note_images
from qilin_dagster.note_tokens import build_note_tokens
from qilin_dagster.note_words import build_note_words
from qilin_dagster.per_request import per_request, read_per_request
from qilin_dagster.retrieval import RECALL_AT, retrieval, retrieval_table
from qilin_dagster.slices import slices
from qilin_dagster.sources.twin import write_twin
from qilin_dagster.unbiased import twin_truth, unbiased
from tests.conftest import build_views

SCALE = 0.004
SCHEMAS = ("core", "bias", "propensity", "features", "training", "evaluation", "ablation")


def build(folder: Path) -> duckdb.DuckDBPyConnection:
    """A connection with every relation; those of SCHEMAS are tables, with a copy to repair from."""
    write_twin(folder / "data", scale=SCALE, seed=5)
    engine = build_views(folder / "data", folder / "lake")
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'; set threads = 1")
    engine.define(connection)
    for schema in ("held", *(f"valid_{schema}" for schema in SCHEMAS)):
        connection.execute(f"create schema {schema}")
    _store_core(connection, engine)
    for schema in SCHEMAS[2:]:
        connection.execute(f"create schema {schema}")
    _store_images(connection, folder / "data")
    _store_propensities(connection)
    words = _store_note_words(connection, folder)
    appeal = _store_note_appeal(connection, words, folder)
    for task in TASKS:
        _store_features(connection, words, appeal, task, folder)
    _store_note_tokens(connection, folder)
    _store_note_images(connection, folder)
    _store_runs(connection, folder)
    _store_retrieval(connection)
    _store_answer_effects(connection)
    _store_answers(connection, folder)
    for relation in relations(connection):
        connection.execute(f"create table valid_{relation} as from {relation}")
    return connection


def relations(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Names of all relations of SCHEMAS."""
    rows = connection.execute(
        "select schema_name || '.' || table_name from duckdb_tables() "
        f"where schema_name in {SCHEMAS} order by all"
    ).fetchall()
    return [name for (name,) in rows]


def _store_core(connection: duckdb.DuckDBPyConnection, engine: DuckDBEngine) -> None:
    """Views of core and bias become tables, so that a test can break one without the others."""
    for view in engine.catalog.views:
        if view.schema != "raw":
            connection.execute(f"create table held.{view.name} as from {view.qualified}")
            connection.execute(f"drop view {view.qualified}")
            connection.execute(f"create table {view.qualified} as from held.{view.name}")
            connection.execute(f"drop table held.{view.name}")


def _store_features(
    connection: duckdb.DuckDBPyConnection, words: Path, appeal: Path, task: Task, folder: Path
) -> None:
    folder = folder / task
    folder.mkdir()
    build_features(connection, words, appeal, task, folder)
    vocabularies, statistics = vocabulary_rows(folder), statistics_rows(folder)  # noqa: F841
    connection.execute(
        f"create table features.{task}_ranking as from read_parquet('{folder}/part-0.parquet')"
    )
    connection.execute(f"create table features.{task}_vocabularies as from vocabularies")
    connection.execute(f"create table features.{task}_statistics as from statistics")


def _store_images(connection: duckdb.DuckDBPyConnection, data: Path) -> None:
    """Files for some of the notes that search requests show, each note's of its own colour."""
    notes = connection.execute(
        "select note_idx, image_path_list from core.notes "
        "where n_images > 0 and note_idx in (select note_idx from core.impressions "
        "where channel = 'search') order by note_key limit 60"
    ).fetchall()
    for number, (_, paths) in enumerate(notes):
        for path in paths[not number :]:
            (data / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 40), (4 * number, 90, 240 - 4 * number)).save(data / path)
    folder = data.parent / "images"
    folder.mkdir()
    build_images(connection, data, fingerprints(data), None, folder, data.parent / "left", 1)
    connection.execute(
        f"create table core.images as from read_parquet('{folder}/part-0.parquet')"
        f"where note_idx in {tuple(note for note, _ in notes)}"
    )


def _store_note_words(connection: duckdb.DuckDBPyConnection, folder: Path) -> Path:
    folder = folder / "note_words"
    folder.mkdir()
    build_note_words(connection, folder, print)
    connection.execute(
        f"create table features.note_words as from read_parquet('{folder}/part-0.parquet')"
    )
    return folder


def _store_note_appeal(connection: duckdb.DuckDBPyConnection, words: Path, folder: Path) -> Path:
    folder = folder / "note_appeal"
    folder.mkdir()
    build_note_appeal(connection, words, folder, print)
    connection.execute(
        f"create table features.note_appeal as from read_parquet('{folder}/part-0.parquet')"
    )
    return folder


def _store_note_tokens(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    folder = folder / "note_tokens"
    folder.mkdir()
    build_note_tokens(connection, None, folder, print)
    connection.execute(
        f"create table features.note_tokens as from read_parquet('{folder}/part-0.parquet')"
    )


def _store_note_images(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    own = folder / "note_images"
    own.mkdir()
    build_note_images(connection, folder / "data", None, None, own, folder / "left", "cpu", print)
    connection.execute(
        f"create table features.note_images as from read_parquet('{own}/part-0.parquet')"
    )


def _store_propensities(connection: duckdb.DuckDBPyConnection) -> None:
    """Curves of a dozen places: a straight fall, known well, by all estimators."""
    curve = [
        {
            "channel": channel,
            "surface": "all pages",
            "estimator": estimator,
            "position_from": place,
            "position_to": place,
            "estimate": 1 - (place - 1) / 20,
            "lower": 1 - (place - 1) / 19,
            "upper": 1 - (place - 1) / 21,
            "n_impressions": 1_000,
            "n_clicks": 300 - 10 * place,
        }
        for channel in ("search", "recommendation")
        for estimator in ("click rate", "mixed position-based", "cascade")
        for place in range(1, 13)
    ]
    models = [
        {"channel": row["channel"], "surface": "all pages", "estimator": row["estimator"]}
        | {"n_requests": 500, "n_held_out": 100, "log_likelihood": -7.0, "perplexity": 1.6}
        | {"calibration_error": 0.01}
        for row in curve
        if row["position_from"] == 1
    ]
    factors = [
        {"channel": channel, "factor": "a commercial note", "scale": "odds of attraction"}
        | {"estimate": 0.2, "lower": 0.1, "upper": 0.3}
        for channel in ("search", "recommendation")
    ]
    overlap = [
        {"channel": "search", "position_from": 1, "other_position_from": 2, "n_notes": 40},
        {"channel": "search", "position_from": 1, "other_position_from": 3, "n_notes": 30},
    ]
    trust = [
        {"channel": channel, "position_from": place, "position_to": place, "n_requests": 500}
        | {"trust": 0.1 / place, "lower": 0.1 / place - 0.05, "upper": 0.1 / place + 0.05}
        for channel in ("search", "recommendation")
        for place in range(1, 11)
    ]
    for name, rows, schema in (
        ("by_position", curve, propensities.BY_POSITION),
        ("click_models", models, propensities.CLICK_MODELS),
        ("bias_factors", factors, propensities.BIAS_FACTORS),
        ("overlap", overlap, propensities.OVERLAP),
        ("trust", trust, propensities.TRUST),
    ):
        found = pa.Table.from_pylist(rows, schema=schema)  # noqa: F841 # DuckDB reads it by name
        connection.execute(f"create table propensity.{name} as from found")


def _store_retrieval(connection: duckdb.DuckDBPyConnection) -> None:
    """A first stage that finds notes at random."""
    candidates = read_candidates(connection, "search")
    qid = np.unique(candidates.qid)
    notes = connection.execute("select note_idx from core.notes order by 1").fetchnumpy()[
        "note_idx"
    ]
    draw = np.random.default_rng(5)
    found = [draw.choice(notes, max(RECALL_AT), replace=False) for _ in qid]
    rows = [
        {"task": "search", "run": "bm25", **row}
        for row in retrieval(candidates, qid, found, len(notes))
    ]
    found_rows = retrieval_table(rows)  # noqa: F841 # DuckDB reads it by name
    connection.execute("create table evaluation.retrieval as from found_rows")


def _store_answer_effects(connection: duckdb.DuckDBPyConnection) -> None:
    """Effects on an answer sample of eight copies, so that there is enough to estimate from."""
    connection.execute(
        """
        insert into core.answer_requests by name
        select a.* replace (request_id + n * 1000000 as request_id, user_idx + n * 1000 as user_idx)
        from core.answer_requests as a, (select unnest(range(1, 8)) as n) as copies
        """
    )
    study = answer_effect.read_study(connection)
    for name in ("effects", "balance", "overlap"):
        _store(connection, f"answer_{name}", [getattr(answer_effect, f"answer_{name}")(study)])
    found = {"outcome": "n_clicks", "estimate": 0.1, "low": -0.1, "high": 0.3, "n_requests": 100}
    refutations = [
        {**found, "refutation": name, "expected": 0.0, "n_draws": 10, "is_as_expected": True}
        for name in ("placebo treatment", "subset of users")
    ]
    rows = pa.Table.from_pylist(refutations, schema=answer_effect.REFUTATIONS)
    _store(connection, "answer_refutations", [rows])


def _store_answers(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Answers written by copying, from notes drawn at random and from those referred to."""
    asked = answer_texts.Asked.read(connection)
    notes = connection.execute(
        "select note_idx from core.notes where note_title is not null order by 1 limit 40"
    ).fetchnumpy()["note_idx"]
    found = {answer_texts.BM25: [notes[:3] for _ in asked.request_id]}
    passages = answer_texts.answer_passages(connection, asked, found)
    _store(connection, "answer_passages", [passages])
    texts = answer_texts.answer_texts(
        asked,
        passages,
        Extractive(),
        folder / "answers",
        print,
        lacking=[answer_texts.BI_ENCODER],
    )
    _store(connection, "answer_texts", [texts])
    pairs = answer_scores.read_pairs(connection)
    _store(connection, "answer_metrics", [answer_scores.answer_metrics(pairs, None)])
    agreement = {"context": "none", "metric": "n_characters", "mean_with": 20.0, "auc": 0.6}
    agreement |= {"mean_without": 18.0, "low": 0.5, "high": 0.7, "n_with": 9, "n_without": 30}
    rows = [agreement | {"flag": flag} for flag in answer_scores.FLAGS]
    feedback = pa.Table.from_pylist(rows, schema=answer_scores.FEEDBACK)
    _store(connection, "answer_feedback", [feedback])


def _store_runs(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    connection.execute("select setseed(0.5)")
    named = [("training", recipe) for recipe in RECIPES]
    named += [("ablation", recipe) for recipe in ablation.RECIPES]
    for schema, recipe in named:
        connection.execute(
            f"""
            create table {schema}.{recipe.name} as
            select r.row_number as qid, i.note_idx as pid, random() as score,
                min(i.shown_rank) as shown_rank
            from core.impressions as i join core.requests as r using (request_id)
            where r.source_table = '{recipe.task}_test'
            group by all
            """
        )
    tables = tuple(f"training.{recipe.name}" for recipe in RECIPES)
    tasks = {
        task: (read_candidates(connection, task), read_runs(connection, task, tables))
        for task in TASKS
    }
    _store(connection, "leaderboard", [leaderboard(task, *tasks[task]) for task in TASKS])
    _store(connection, "per_request", [per_request(task, *tasks[task]) for task in TASKS])
    _store(connection, "calibration", [calibration(task, *tasks[task]) for task in TASKS])
    _store(connection, "examples", [examples(connection, task, tasks[task][1]) for task in TASKS])
    requests = {task: read_per_request(connection, task, comparisons.METRICS) for task in TASKS}
    _store(
        connection,
        "comparisons",
        [comparisons.comparisons(task, requests[task]) for task in TASKS],
    )
    _store(connection, "slices", [slices(connection, task, requests[task]) for task in TASKS])
    worth = [
        image_worth(connection, task, tasks[task][0], read_runs(connection, task, ablation.RUNS))
        for task in TASKS
    ]
    _store(connection, "image_worth", worth, "ablation")
    _store_lab(connection, tasks, folder)
    # Two evaluations of the same runs.
    connection.execute(
        """
        create table evaluation.history as
        select unnest([1, 2])::bigint as evaluation_n, now() as evaluated_at,
            'twin' as data_fingerprint, task, run, kind, metric, value, low, high
        from evaluation.leaderboard where mode = 'full'
        """
    )
    connection.execute(
        """
        create table evaluation.data_drift as
        select unnest([1, 2])::bigint as profile_n, 'twin' as data_fingerprint, subject,
            'a' as item, 100::bigint as n_requests, 0.2 as value, 0.01 as standard_error,
            0.2 as previous_value, false as is_moved, null::varchar as moved
        from (values ('click rate'), ('position curve'), ('query source'), ('feature'))
            as s(subject)
        """
    )


def _store_lab(
    connection: duckdb.DuckDBPyConnection,
    tasks: dict[Task, tuple[Candidates, list[ScoredRun]]],
    folder: Path,
) -> None:
    """Runs without the position, cold start, context: of scores drawn at random."""
    truth = twin_truth(folder / "data")
    assert truth is not None
    _store(
        connection, "unbiased", [unbiased(connection, task, *tasks[task], truth) for task in TASKS]
    )
    cold = [cold_start(connection, task, *tasks[task]) for task in TASKS]
    _store(connection, "cold_start", cold)
    curves = [
        {name: row[name] for name in CURVES_SCHEMA.names if name in row}
        | {"ranker": "bm25", "based_on": "content", "train_share": share}
        | {"n_fit_requests": round(100 * share)}
        for table in cold
        for row in table.to_pylist()
        if row["run"] == "bm25"
        for share in (1.0, 0.5)
    ]
    _store(
        connection, "cold_start", [pa.Table.from_pylist(curves, schema=CURVES_SCHEMA)], "ablation"
    )
    draw = np.random.default_rng(5)
    rows = [
        {"task": task, "variant": variant, "seed": seed, "row_number": row, "user_idx": user}
        | {name: float(draw.random()) for name in RUNS_SCHEMA.names[5:]}
        for task in TASKS
        for variant in variants(task)
        for seed in (5, 6)
        for row, user in connection.execute(
            "select row_number, user_idx from core.requests where source_table = $1 order by 1",
            [f"{task}_test"],
        ).fetchall()
    ]
    runs = pa.Table.from_pylist(rows, schema=RUNS_SCHEMA)
    _store(connection, "context_runs", [runs], "ablation")
    _store(connection, "context_worth", [context_worth(runs, task) for task in TASKS], "ablation")


def _store(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    parts: list[pa.Table],
    schema: str = "evaluation",
) -> None:
    rows = pa.concat_tables(parts)  # noqa: F841 # DuckDB reads it by name
    connection.execute(f"create table {schema}.{name} as from rows")
