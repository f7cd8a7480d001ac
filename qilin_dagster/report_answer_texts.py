"""Answers written anew, as a section of the report: contexts beside each other and the paper's."""

from __future__ import annotations

from qilin_dagster.answer_scores import (
    BERT_SCORE,
    FLAGS,
    ROUGE_CHARACTERS,
    ROUGE_WORDS,
    SHOWN,
)
from qilin_dagster.answer_texts import BI_ENCODER, BM25, NONE, REFERRED
from qilin_dagster.report_blocks import (
    NOTHING,
    Block,
    Cell,
    Column,
    Heading,
    Numbers,
    Row,
    Section,
    Table,
    Text,
    count,
    interval,
    missing,
    number,
    percent,
    percent_interval,
)

TITLE = "Answers written anew"
CONTEXT_LABELS = {
    NONE: "Nothing",
    BM25: "BM25, first five",
    BI_ENCODER: "Bi-encoder, first five",
    REFERRED: "Referred notes",
    SHOWN: "The shown answers",
}
METRIC_LABELS = {
    ROUGE_CHARACTERS: "ROUGE-L, characters",
    ROUGE_WORDS: "ROUGE-L, words",
    BERT_SCORE: "BERTScore F1",
    "citation_precision": "Citation precision",
    "citation_recall": "Citation recall",
    "groundedness": "Grounded",
    "n_characters": "Length",
}
FLAG_LABELS = dict(
    zip(FLAGS, ("liked", "reference clicked", "body clicked", "experiences clicked"), strict=True)
)
SHARES = ("citation_precision", "citation_recall", "groundedness")
# Table 11 of the paper: ROUGE-L without notes, BM25, BERT bi-encoder, referred notes; BERTScore F1.
PAPER_CONTEXTS = (NONE, BM25, BI_ENCODER, REFERRED)
PAPER_TABLE_11 = {
    "GPT3.5": ((0.332, 0.388, 0.390, 0.424), (0.708, 0.725, 0.722, 0.748)),
    "GPT4o-mini": ((0.316, 0.384, 0.380, 0.429), (0.710, 0.729, 0.728, 0.754)),
    "Qwen2.5-72B": ((0.342, 0.396, 0.396, 0.436), (0.714, 0.725, 0.724, 0.752)),
    "Llama3.3-70B": ((0.290, 0.349, 0.347, 0.396), (0.699, 0.730, 0.727, 0.760)),
    "GLM4": ((0.318, 0.363, 0.366, 0.401), (0.701, 0.715, 0.713, 0.739)),
}


def answers_section(numbers: Numbers) -> Section:
    """What each context was worth, the paper's Table 11 beside, and agreement with feedback."""
    metrics, feedback = numbers["evaluation.answer_metrics"], numbers["evaluation.answer_feedback"]
    if not metrics.rows:
        return Section("answer-texts", TITLE, (missing(metrics), missing(feedback)))
    rows = list(metrics.rows)
    blocks: list[Block] = [
        Text(context_sentence(rows)),
        Text(
            "Every search that was shown an answer is answered again, by the generator "
            f"“{_generator(rows)}”, and compared with the answer that was shown. ROUGE-L is the "
            "longest common subsequence; Chinese has no spaces, so it is counted in characters "
            "first and in words (cut by rjieba) beside. Grounded is the share of runs of four "
            "letters that a passage holds. Being near to the shown answer is not being right."
        ),
        _contexts(rows),
        *_bert_score_note(rows),
        Heading("The paper's Table 11 beside", "answer-texts-paper"),
        _paper(rows),
    ]
    blocks += [
        Heading("Do the metrics agree with users?", "answer-texts-feedback"),
        _agreement(list(feedback.rows)) if feedback.rows else missing(feedback),
    ]
    return Section("answer-texts", TITLE, tuple(blocks))


def context_sentence(rows: list[Row]) -> str:
    """What the referred notes are worth against no notes, as far as the intervals say."""
    found = {row["context"]: row for row in rows if row["metric"] == ROUGE_CHARACTERS}
    if not {NONE, REFERRED} <= found.keys():
        return "No answers could be written both with and without notes."
    without, best = found[NONE], found[REFERRED]
    if best["low"] is None or without["high"] is None:
        verdict = "too few users to tell them apart"
    elif best["low"] > without["high"]:
        verdict = "the notes make answers nearer to the shown ones"
    else:
        verdict = "these answers do not tell them apart"
    parts = ", ".join(
        f"{_in_words(context)} {_with_interval(found[context])}"
        for context in PAPER_CONTEXTS
        if context in found
    )
    return f"ROUGE-L in characters by what an answer is written from: {parts}; {verdict}."


def _in_words(context: str) -> str:
    return {NONE: "nothing", BM25: "BM25", BI_ENCODER: "bi-encoder"}.get(context, context)


def _with_interval(row: Row) -> str:
    limits = interval(row["low"], row["high"])
    return f"{number(row['value'], 3)} ({limits})" if limits else number(row["value"], 3)


def _generator(rows: list[Row]) -> str:
    return next(str(row["generator"]) for row in rows if row["context"] != SHOWN)


def _contexts(rows: list[Row]) -> Table:
    found = {(row["context"], row["metric"]): row for row in rows}
    shown = [metric for metric in METRIC_LABELS if any(row["metric"] == metric for row in rows)]
    body = []
    for context, label in CONTEXT_LABELS.items():
        of_context = [row for row in rows if row["context"] == context]
        if not of_context:
            continue
        lacking = of_context[0]["n_without_answer"]
        answered = max(row["n_requests"] for row in of_context)
        detail = f"{count(answered)} answers" + (f", {count(lacking)} lacking" if lacking else "")
        cells = [Cell(label, detail=detail)]
        cells += [_cell(metric, found.get((context, metric))) for metric in shown]
        body.append(tuple(cells))
    return Table(
        "table-answer-contexts",
        "Answers by what they are written from; small figures are 95% intervals over users.",
        (
            Column("Written from", is_number=False),
            *(Column(METRIC_LABELS[metric]) for metric in shown),
        ),
        tuple(body),
    )


def _cell(metric: str, row: Row | None) -> Cell:
    if row is None:
        return Cell(NOTHING)
    if metric in SHARES:
        return Cell(percent(row["value"], 0), detail=percent_interval(row["low"], row["high"]))
    if metric == "n_characters":
        return Cell(number(row["value"], 0))
    return Cell(number(row["value"], 3), detail=interval(row["low"], row["high"]))


def _bert_score_note(rows: list[Row]) -> list[Block]:
    of_score = [row for row in rows if row["metric"] == BERT_SCORE]
    if not of_score:
        return [
            Text(
                "No BERTScore: the bi-encoder of this lake was not trained, and no other encoder "
                "was named (QILIN_ANSWER_ENCODER).",
                tone="note",
            )
        ]
    return [Text(f"BERTScore compares tokens by {of_score[0]['how']}.", tone="note")]


def _paper(rows: list[Row]) -> Table:
    ours = {
        row["context"]: number(row["value"], 3) for row in rows if row["metric"] == ROUGE_CHARACTERS
    }
    score = {row["context"]: number(row["value"], 3) for row in rows if row["metric"] == BERT_SCORE}
    body = [
        (
            Cell("This log", detail=_generator(rows), tone="model"),
            *(Cell(ours.get(context, NOTHING), tone="model") for context in PAPER_CONTEXTS),
            *(Cell(score.get(context, NOTHING), tone="model") for context in PAPER_CONTEXTS),
        )
    ]
    body += [
        (Cell(name), *(Cell(number(value, 3), tone="muted") for value in (*rouge, *bert)))
        for name, (rouge, bert) in PAPER_TABLE_11.items()
    ]
    heads = ("nothing", "BM25", "bi-encoder", "referred")
    return Table(
        "table-answer-paper",
        "Another protocol: the paper does not say how it cut Chinese into units, by which encoder "
        "and layer it scored, nor which answers it took as engaged with. Compare the order of the "
        "contexts, not the numbers.",
        (
            Column("Generator", is_number=False),
            *(Column(head, group="ROUGE-L") for head in heads),
            *(Column(head, group="BERTScore F1") for head in heads),
        ),
        tuple(body),
    )


def _agreement(rows: list[Row]) -> Table:
    found = {(row["context"], row["metric"], row["flag"]): row for row in rows}
    body = []
    for context, label in CONTEXT_LABELS.items():
        if context not in (REFERRED, SHOWN):
            continue
        for metric, name in METRIC_LABELS.items():
            cells = [_chance(found.get((context, metric, flag))) for flag in FLAGS]
            if any(cell.text != NOTHING for cell in cells):
                body.append((Cell(name, detail=label), *cells))
    return Table(
        "table-answer-feedback",
        "The chance that of two searches, one whose shown answer users engaged with in this way "
        "and one without, the first has the higher value: 0.5 is no agreement. Bold where the 95% "
        "interval leaves that out; there are many cells, and some do by chance.",
        (
            Column("Metric", is_number=False),
            *(Column(FLAG_LABELS[flag]) for flag in FLAGS),
        ),
        tuple(body),
    )


def _chance(row: Row | None) -> Cell:
    if row is None:
        return Cell(NOTHING)
    tone = "" if row["low"] <= 0.5 <= row["high"] else "model"
    return Cell(number(row["auc"]), detail=interval(row["low"], row["high"]), tone=tone)
