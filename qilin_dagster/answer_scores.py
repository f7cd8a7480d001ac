"""How good the answers written anew are, beside those that were shown. Knows no Dagster."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from models.answers.bert_score import BertScore
from models.answers.measures import citation_quality, groundedness, rouge_l, units
from models.metrics import area_under_curve, bootstrap_interval, bootstrap_means
from qilin_dagster.answer_texts import CONTEXTS, NONE, REFERRED

if TYPE_CHECKING:
    import duckdb

CODE_VERSION = "1"
SHOWN = "as shown"
ROUGE_CHARACTERS, ROUGE_WORDS, BERT_SCORE = "rouge_l_characters", "rouge_l_words", "bert_score_f1"
HOW = {
    ROUGE_CHARACTERS: "F1 of the longest common subsequence of letters and digits, one by one",
    ROUGE_WORDS: "F1 of the longest common subsequence of words, cut by rjieba",
    "citation_precision": "cited notes that the shown answer refers to, of those cited",
    "citation_recall": "notes the shown answer refers to that are cited",
    "groundedness": "runs of four letters that a passage holds",
    "n_characters": "letters and digits of the answer, citations left out",
}
FLAGS = ("is_answer_liked", "is_reference_clicked", "is_body_clicked", "is_experience_clicked")
LEAST_PER_FLAG = 5

METRICS = pa.schema(
    [
        ("context", pa.string()),
        ("metric", pa.string()),
        ("generator", pa.string()),
        ("how", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n_requests", pa.int64()),
        ("n_without_answer", pa.int64()),
    ]
)
FEEDBACK = pa.schema(
    [
        ("context", pa.string()),
        ("metric", pa.string()),
        ("flag", pa.string()),
        ("mean_with", pa.float64()),
        ("mean_without", pa.float64()),
        ("auc", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n_with", pa.int64()),
        ("n_without", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Pair:
    """An answer beside the shown one, with what it was written from and what users did with the
    latter; ``answer`` is None where none could be written."""

    request_id: int
    user_idx: int
    context: str
    generator: str
    answer: str | None
    shown: str
    passages: tuple[str, ...]
    notes: tuple[int, ...]
    referred: tuple[int, ...]
    flags: dict[str, bool | None]


def lake_encoder(folder: Path, device: str) -> BertScore:
    """BERTScore by the bi-encoder in this snapshot folder, for want of a better encoder."""
    from transformers import AutoTokenizer

    from models.bi_encoder import load_model
    from models.loop import device_named

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = load_model(folder).to(device_named(device))
    return BertScore(
        model.bert, tokenizer, "this lake's small bi-encoder, comparable with nothing else"
    )


def read_pairs(connection: "duckdb.DuckDBPyConnection") -> list[Pair]:
    """All answers of evaluation.answer_texts, and each shown one with the notes it refers to."""
    passages: dict[tuple[int, str], list[tuple[int, str]]] = {}
    for request, context, note, passage in connection.execute(
        "select request_id, context, note_idx, passage from evaluation.answer_passages "
        "order by request_id, context, passage_n"
    ).fetchall():
        passages.setdefault((request, context), []).append((note, passage))
    cursor = connection.execute(
        f"""
        select t.request_id, r.user_idx, t.context, t.generator, t.answer_written, a.answer,
            a.reference_note_list, {", ".join(f"a.{flag}" for flag in FLAGS)}
        from evaluation.answer_texts as t
        inner join core.answers as a using (request_id)
        inner join core.requests as r using (request_id)
        order by t.context, t.request_id
        """
    )
    pairs = []
    for request, user, context, generator, answer, shown, referred, *flags in cursor.fetchall():
        found = passages.get((request, context), [])
        pair = Pair(
            request,
            user,
            context,
            generator,
            answer,
            shown,
            tuple(text for _, text in found),
            tuple(note for note, _ in found),
            tuple(referred or ()),
            dict(zip(FLAGS, flags, strict=True)),
        )
        pairs.append(pair)
        if context == REFERRED:
            # [第N篇] of a shown answer is the N-th of its notes, known or not.
            as_shown = {"context": SHOWN, "generator": SHOWN, "answer": shown}
            pairs.append(Pair(**{**vars(pair), **as_shown, "notes": pair.referred}))
    return pairs


def measured(pair: Pair) -> dict[str, float | None]:
    """Each metric of an answer; None where it does not apply."""
    assert pair.answer is not None
    precision, recall = citation_quality(pair.answer, pair.notes, pair.referred)
    cites = pair.context != NONE
    found: dict[str, float | None] = {
        "citation_precision": precision if cites else None,
        "citation_recall": recall if cites else None,
        "groundedness": groundedness(pair.answer, pair.passages),
        "n_characters": float(len(units(pair.answer, "characters"))),
    }
    if pair.context != SHOWN:
        found[ROUGE_CHARACTERS] = rouge_l(pair.answer, pair.shown, "characters").f1
        found[ROUGE_WORDS] = rouge_l(pair.answer, pair.shown, "words").f1
    return found


def answer_metrics(pairs: list[Pair], bert_score: BertScore | None) -> pa.Table:
    """A row per context and metric, see METRICS: means over the requests that have an answer there,
    with 95 % intervals over users (null below two)."""
    rows: list[dict[str, Any]] = []
    for context in (*CONTEXTS, SHOWN):
        of_context = [pair for pair in pairs if pair.context == context]
        written = [pair for pair in of_context if pair.answer is not None]
        if not written:
            continue
        values = [measured(pair) for pair in written]
        how = dict(HOW)
        if bert_score is not None and context != SHOWN:
            how[BERT_SCORE] = bert_score.name
            answers = [pair.answer or "" for pair in written]
            scores = bert_score.f1(answers, [pair.shown for pair in written])
            for of_pair, score in zip(values, scores, strict=True):
                of_pair[BERT_SCORE] = score
        users = np.array([pair.user_idx for pair in written])
        for metric, said in how.items():
            is_known = np.array([one.get(metric) is not None for one in values])
            if not is_known.any():
                continue
            known = np.array([one[metric] for one in values if one.get(metric) is not None], float)
            rows.append(
                {
                    "context": context,
                    "metric": metric,
                    "generator": written[0].generator,
                    "how": said,
                    "value": float(known.mean()),
                    **_limits(known, users[is_known]),
                    "n_requests": len(known),
                    "n_without_answer": len(of_context) - len(written),
                }
            )
    return pa.Table.from_pylist(rows, schema=METRICS)


def answer_feedback(pairs: list[Pair]) -> pa.Table:
    """A row per context, metric and flag, see FEEDBACK: whether answers with a high value are those
    that users did something with. None where fewer than LEAST_PER_FLAG have or lack the flag."""
    rows: list[dict[str, Any]] = []
    for context in (*CONTEXTS, SHOWN):
        written = [p for p in pairs if p.context == context and p.answer is not None]
        values = [measured(pair) for pair in written]
        for metric in HOW:
            for flag in FLAGS:
                known = [
                    (one[metric], bool(pair.flags[flag]), pair.user_idx)
                    for pair, one in zip(written, values, strict=True)
                    if one.get(metric) is not None and pair.flags[flag] is not None
                ]
                row = _agreement(known)
                if row is not None:
                    rows.append({"context": context, "metric": metric, "flag": flag, **row})
    return pa.Table.from_pylist(rows, schema=FEEDBACK)


def _agreement(known: list[tuple[float | None, bool, int]]) -> dict[str, Any] | None:
    value = np.array([one[0] for one in known], dtype=np.float64)
    has_flag = np.array([one[1] for one in known], dtype=bool)
    n_with = int(has_flag.sum())
    if min(n_with, len(known) - n_with) < LEAST_PER_FLAG:
        return None
    # The chance that one with the flag has the higher value is a mean of ranks: so is its spread.
    ahead = np.array(
        [
            (value[~has_flag] < v).mean() + (value[~has_flag] == v).mean() / 2
            for v in value[has_flag]
        ]
    )
    sampled = bootstrap_means(ahead[:, None], groups=np.array([one[2] for one in known])[has_flag])[
        :, 0
    ]
    low, high = np.percentile(sampled, [2.5, 97.5])
    return {
        "mean_with": float(value[has_flag].mean()),
        "mean_without": float(value[~has_flag].mean()),
        "auc": area_under_curve(has_flag, value),
        "low": float(low),
        "high": float(high),
        "n_with": n_with,
        "n_without": len(known) - n_with,
    }


def _limits(values: "np.ndarray[Any, np.dtype[np.float64]]", users: Any) -> dict[str, float | None]:
    if len(np.unique(users)) < 2:
        return {"low": None, "high": None}
    found = bootstrap_interval(values, groups=users)
    return {"low": found.low, "high": found.high}
