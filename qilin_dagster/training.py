"""Recipe in, weights and a run out. Knows no Dagster; the models know nothing of the lake.

A run is the scores of all test candidates, columns qid, pid, score (and shown_rank, for the
anchors): qid is the row of the request in its published test table. A recipe that finds too little
data gives an empty run and says why.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from models.ranking_data import RankingData, TooLittleData
from models.recipes import BM25Recipe, DCNV2Recipe, Recipe
from qilin_dagster.exposures import exposure_of
from qilin_dagster.features import HISTORY_LENGTH, FeatureColumns, read_feature_columns
from qilin_dagster.lake import Written, write_rows
from qilin_dagster.leaderboard import Candidates, ScoredRun, read_candidates
from qilin_dagster.note_words import read_note_words
from qilin_dagster.retrieval import RECALL_AT, retrieval

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

    from models.visual import VisualInputs
    from qilin_dagster.note_images import NoteImages

RUN_SCHEMA = pa.schema(
    [
        ("qid", pa.int64()),
        ("pid", pa.int64()),
        ("score", pa.float64()),
        ("shown_rank", pa.int64()),
    ]
)
CODE_VERSION = "7"
CHECKPOINT = "checkpoint.safetensors"

Report = Callable[[str], None]


def train_bm25(
    connection: "duckdb.DuckDBPyConnection",
    note_words: Path,
    recipe: BM25Recipe,
    folder: Path,
    report: Report,
) -> Written:
    """Score the test candidates by words, with word weights from all notes.

    ``note_words`` is the snapshot folder of features.note_words. A search recipe also looks for
    the clicked notes among all notes, see `retrieval`.
    """
    pseudo = "query" if recipe.task == "search" else "pseudo_query"
    requests = connection.execute(
        f"select row_number, {pseudo} from core.requests where source_table = $1 "
        "order by row_number",
        [f"{recipe.task}_test"],
    ).fetchall()
    candidates = read_candidates(connection, recipe.task)
    notes = read_note_words(note_words)
    n_notes = len(notes.note_idx)
    row = notes.rows(candidates.pid)
    query, query_offsets = notes.numbers([text for _, text in requests])
    qid = np.array([row_number for row_number, _ in requests], dtype=np.int64)
    request_offsets = np.append(np.searchsorted(candidates.qid, qid), len(candidates.qid))
    report(f"{recipe.name}: indexing {n_notes:,} notes")
    try:
        index = notes.index(k1=recipe.k1, b=recipe.b, epsilon=recipe.epsilon)
        scores = index.score_requests(query, query_offsets, row, request_offsets)
    except TooLittleData as reason:
        return not_trained(folder, recipe, reason)
    facts: dict[str, Any] = {
        "constant_share": scores.constant_share,
        "n_notes": n_notes,
        "candidates_without_note": int((row == n_notes).sum()),
    }
    if recipe.task == "search":
        report(f"{recipe.name}: searching all notes for {len(qid):,} queries")
        found = [
            index.top(words, max(RECALL_AT))[0]
            for words in np.split(query, query_offsets[1:-1])[: len(qid)]
        ]
        facts["retrieval"] = retrieval(
            candidates, qid, [notes.note_idx[rows] for rows in found], n_notes
        )
    (folder / "model.json").write_text(described(recipe, facts), encoding="utf-8")
    run = ScoredRun(recipe.name, candidates.qid, candidates.pid, scores.score)
    return write_run(folder, run, candidates, facts)


def train_dcn_v2(
    connection: "duckdb.DuckDBPyConnection",
    features: Path,
    images: "NoteImages | None",
    recipe: DCNV2Recipe,
    folder: Path,
    unfinished: Path,
    device: str,
    report: Report,
) -> Written:
    """Train on the fold ``fit``, choose the epoch on ``validation``, score the test candidates.

    ``features`` is the snapshot folder of the task's feature table; ``images`` are the covers that
    the recipe sees, if any; in ``unfinished`` a training that is interrupted leaves what the next
    one goes on with. With a correction for position it also reads propensity.by_position, with
    an affine one propensity.trust.
    """
    import polars as pl

    from models.dcn_v2 import DCNV2Config, save_weights
    from models.dcn_v2_training import score, train

    columns = read_feature_columns(features)
    table = pl.read_parquet(features / "part-0.parquet")
    is_fit = (table["fold"] == "fit").to_numpy()
    visual, inputs = visual_inputs(images, table["note_idx"].to_numpy(), is_fit)
    folds = {
        fold: ranking_data(
            table.filter(is_in := (table["fold"] == fold).to_numpy()), columns, visual[is_in]
        )
        for fold in ("fit", "validation", "test")
    }
    try:
        if recipe.training.correction is not None:
            with_trust = recipe.training.correction.method == "affine"
            exposure = exposure_of(connection, table, recipe.task, with_trust=with_trust)
            for fold in ("fit", "validation"):
                rows = np.flatnonzero((table["fold"] == fold).to_numpy())
                folds[fold] = dataclasses.replace(folds[fold], exposure=exposure.rows(rows))
    except TooLittleData as reason:
        return not_trained(folder, recipe, reason)
    config = DCNV2Config(
        architecture=recipe.architecture,
        cardinalities=columns.vocabulary_sizes,
        n_dense=len(columns.dense) + visual.shape[1],
        n_notes=columns.n_note_ids,
        has_history=columns.n_note_ids > 1,
    )
    try:
        model, history = train(
            config,
            folds["fit"],
            folds["validation"],
            recipe.training,
            device=device,
            checkpoint=unfinished / CHECKPOINT,
            on_progress=lambda progress: report_epoch(report, recipe.name, progress),
        )
    except TooLittleData as reason:
        return not_trained(folder, recipe, reason)
    save_weights(model, folder / "weights.safetensors")
    save_visual_inputs(inputs, folder)
    facts = {
        "history": dataclasses.asdict(history),
        "dense": columns.dense,
        "n_visual": visual.shape[1],
    }
    (folder / "model.json").write_text(described(recipe, facts), encoding="utf-8")
    test = table.filter(pl.col("fold") == "test")
    run = ScoredRun(
        recipe.name,
        test["row_number"].to_numpy(),
        test["note_idx"].to_numpy(),
        score(model, folds["test"], device=device),
    )
    return write_run(folder, run, read_candidates(connection, recipe.task), facts)


def visual_inputs(
    images: "NoteImages | None", note_idx: "NDArray[np.int64]", is_fit: "NDArray[np.bool_]"
) -> "tuple[NDArray[np.float32], VisualInputs | None]":
    """What the covers of these notes look like, (N, K); K is 0 where there are none."""
    if images is None:
        return np.zeros((len(note_idx), 0), dtype=np.float32), None
    return images.inputs_of(note_idx, note_idx[is_fit])


def save_visual_inputs(inputs: "VisualInputs | None", folder: Path) -> None:
    """Write visual_inputs.safetensors, which the covers of other notes need to become inputs."""
    if inputs is not None:
        from safetensors.numpy import save_file

        arrays = {"mean": inputs.mean, "directions": np.ascontiguousarray(inputs.directions)}
        save_file(arrays, folder / "visual_inputs.safetensors")


def ranking_data(
    table: Any, columns: FeatureColumns, visual: "NDArray[np.float32] | None" = None
) -> RankingData:
    """A feature table's rows as arrays; rows of one request must stand together.

    ``visual`` (N, K) are further dense inputs.
    """
    import polars as pl

    starts = request_starts(table)
    firsts = table[starts]
    # Arrays of one length each: the newest notes first, then 0 for none.
    history = (
        firsts.select(
            pl.col("history_note_id_list")
            .fill_null([])
            .list.concat(pl.lit([0] * HISTORY_LENGTH, dtype=pl.List(pl.Int32)))
            .list.head(HISTORY_LENGTH)
            .list.to_array(HISTORY_LENGTH)
        )
        .to_series()
        .to_numpy()
        .reshape(len(firsts), HISTORY_LENGTH)
    )
    dense = table.select(columns.dense).to_numpy()
    return RankingData(
        request_offsets=np.append(starts, len(table)),
        labels=table["label"].to_numpy(),
        dense=dense if visual is None else np.hstack([dense, visual]),
        categorical=table.select(columns.categorical).to_numpy(),
        history=np.ascontiguousarray(history, dtype=np.int32),
        note_id=table["note_id"].to_numpy(),
    )


def request_starts(table: Any) -> "NDArray[np.int64]":
    """The first row of each request of a feature table; rows of one request stand together."""
    request = table["request_id"].to_numpy()
    is_first = np.append(np.ones(min(1, len(request)), dtype=bool), request[1:] != request[:-1])
    return np.flatnonzero(is_first)


def report_epoch(report: Report, name: str, progress: Any) -> None:
    if progress.validation_metric is not None:
        report(
            f"{name}: epoch {progress.epoch}, loss {progress.loss:.4f}, "
            f"validation MRR@10 {progress.validation_metric:.4f}"
        )


def write_run(
    folder: Path, run: ScoredRun, candidates: Candidates, facts: dict[str, Any]
) -> Written:
    """Write the scores; where each note was shown goes along, for the anchors, unseen by models."""
    shown = pa.table(
        {"qid": candidates.qid, "pid": candidates.pid, "shown_rank": candidates.shown_rank}
    )
    table = (
        pa.table({"qid": run.qid, "pid": run.pid, "score": run.score})
        .append_column("row", pa.array(np.arange(len(run.qid))))
        .join(shown, keys=["qid", "pid"], join_type="left outer")
        .sort_by("row")
        .select(RUN_SCHEMA.names)
        .cast(RUN_SCHEMA)
    )
    pa_csv.write_csv(table, folder / "run.csv")
    return write_rows(table, folder, facts)


def not_trained(folder: Path, recipe: Recipe, reason: TooLittleData) -> Written:
    facts = {"not_trained": str(reason)}
    (folder / "model.json").write_text(described(recipe, facts), encoding="utf-8")
    empty = RUN_SCHEMA.empty_table()
    pa_csv.write_csv(empty, folder / "run.csv")
    return write_rows(empty, folder, facts)


def described(recipe: Recipe, facts: dict[str, Any]) -> str:
    """The model card, without the seconds of the epochs: the same training gives it again."""
    card = {"recipe": dataclasses.asdict(recipe), **facts}
    if "history" in facts:
        epochs = [
            {name: value for name, value in epoch.items() if name != "seconds"}
            for epoch in facts["history"]["epochs"]
        ]
        card["history"] = {**facts["history"], "epochs": epochs}
    return json.dumps(card, indent=1, ensure_ascii=False)
