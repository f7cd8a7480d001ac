"""Answers written anew: what they are written from, what is kept, and every kind of bad input."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pytest

from models.answers.extractive import Extractive
from models.answers.prompt import Question
from qilin_dagster.answer_scores import (
    ROUGE_CHARACTERS,
    SHOWN,
    answer_feedback,
    answer_metrics,
    read_pairs,
)
from qilin_dagster.answer_texts import (
    BI_ENCODER,
    BM25,
    NO_PASSAGE,
    NONE,
    PASSAGE_CHARACTERS,
    REFERRED,
    Asked,
    answer_passages,
    answer_texts,
    generator_named,
    written_answers,
)
from qilin_dagster.errors import InputError
from tests import answer_worlds

LONG = "很长。" * 1000


class Counting(Extractive):
    """Counts what it is asked, and dies on the second batch if told to."""

    batch_size = 2

    def __init__(self, dies: bool = False) -> None:
        self.asked: list[Question] = []
        self.dies = dies

    def answer(self, questions: Sequence[Question]) -> list[str]:
        if self.dies and self.asked:
            raise KeyboardInterrupt
        self.asked += questions
        return super().answer(questions)


@pytest.fixture
def few() -> Iterator[duckdb.DuckDBPyConnection]:
    """Five requests: answered from two notes, without references, from notes that are not there,
    from a very long and an empty note; and one that was shown none ('-1' in the release)."""
    connection = duckdb.connect()
    connection.execute(
        f"""
        create schema core; create schema evaluation;
        create table core.requests as select unnest(range(5))::bigint as request_id,
            unnest([1, 1, 2, 3, 3])::bigint as user_idx, '西安门票' as query;
        create table core.answers (request_id bigint, is_shown boolean, answer varchar,
            reference_note_list bigint[], is_answer_liked boolean, is_reference_clicked boolean,
            is_body_clicked boolean, is_experience_clicked boolean);
        insert into core.answers values
            (0, true, '门票80元[第1篇](#)。', [7, 8], false, false, true, false),
            (1, true, '不知道。', [], false, false, false, false),
            (2, true, '门票90元。', [404, 405], false, false, false, false),
            (3, true, '很长。', [9, 10], true, false, false, false),
            (4, false, null, null, null, null, null, null);
        create table core.notes (note_idx bigint, note_title varchar, note_content varchar);
        insert into core.notes values (7, '西安', '门票80元，提前预约。'),
            (8, null, '地铁30分钟到。'), (9, '长', '{LONG}'), (10, null, '');
        """
    )
    yield connection
    connection.close()


def written(connection: duckdb.DuckDBPyConnection, folder: Path) -> list[dict]:
    asked = Asked.read(connection)
    found = {BM25: [np.array([7, 404, 9]) for _ in asked.request_id]}
    passages = answer_passages(connection, asked, found)
    texts = answer_texts(asked, passages, Extractive(), folder, print, lacking=[BI_ENCODER])
    connection.register("passages", passages)
    connection.register("texts", texts)
    connection.execute("create table evaluation.answer_passages as from passages")
    connection.execute("create table evaluation.answer_texts as from texts")
    return texts.to_pylist()


def test_every_bad_input_has_its_outcome(few: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    rows = {(row["context"], row["request_id"]): row for row in written(few, tmp_path)}
    # One that was shown no answer is not asked; the others in every context that is there.
    assert sorted(rows) == [(context, n) for context in (BM25, NONE, REFERRED) for n in range(4)]
    assert rows[REFERRED, 0]["answer_written"].endswith("地铁30分钟到[第2篇](#)。")
    # No references, and none that are known: no answer, with the reason.
    for request in (1, 2):
        assert rows[REFERRED, request]["answer_written"] is None
        assert rows[REFERRED, request]["problem"] == NO_PASSAGE
    # A note without text gives no passage; a very long one is cut.
    assert rows[REFERRED, 3]["n_passages"] == 1
    assert few.execute(
        "select passage_n, note_idx, length(passage), is_cut from evaluation.answer_passages "
        "where context = 'referred notes' and request_id = 3"
    ).fetchall() == [(1, 9, PASSAGE_CHARACTERS, True)]
    # What a retriever found and is no note takes no number.
    assert few.execute(
        "select passage_n, note_idx from evaluation.answer_passages "
        "where context = 'bm25' and request_id = 0 order by 1"
    ).fetchall() == [(1, 7), (2, 9)]


def test_metrics_count_what_could_not_be_answered(
    few: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    written(few, tmp_path)
    pairs = read_pairs(few)
    rows = {(row["context"], row["metric"]): row for row in answer_metrics(pairs, None).to_pylist()}
    assert (
        rows[REFERRED, ROUGE_CHARACTERS]["n_requests"],
        rows[REFERRED, ROUGE_CHARACTERS]["n_without_answer"],
    ) == (2, 2)
    assert (NONE, "citation_precision") not in rows
    # Of the shown answers one cites, its first note.
    assert rows[SHOWN, "citation_precision"]["value"] == 1.0
    assert rows[SHOWN, "citation_precision"]["n_requests"] == 1
    assert (SHOWN, ROUGE_CHARACTERS) not in rows
    # Too few with any flag to say that a metric agrees with it.
    assert answer_feedback(pairs).num_rows == 0
    flagged = [
        replace(pair, flags={**pair.flags, "is_body_clicked": pair.request_id % 2 == 0}, user_idx=n)
        for n, pair in enumerate(p for p in pairs * 5 if p.context == NONE)
    ]
    (length,) = [
        row
        for row in answer_feedback(flagged).to_pylist()
        if (row["metric"], row["flag"]) == ("n_characters", "is_body_clicked")
    ]
    # All answers without notes have one length.
    assert (length["auc"], length["n_with"], length["n_without"]) == (0.5, 10, 10)


def test_answers_are_kept_and_a_killed_build_goes_on(tmp_path: Path) -> None:
    questions = [Question(f"问{n}", ()) for n in range(4)]
    with pytest.raises(KeyboardInterrupt):
        written_answers(questions, Counting(dies=True), tmp_path, print)
    (kept,) = tmp_path.iterdir()
    # The kill came in the middle of a line.
    with kept.open("a", encoding="utf-8") as file:
        file.write('{"prompt": "12')
    again = Counting()
    answers = written_answers(questions, again, tmp_path, print)
    assert answers == Extractive().answer(questions)
    assert len(again.asked) == 2
    assert [set(json.loads(line)) for line in kept.read_text(encoding="utf-8").splitlines()] == [
        {"prompt", "answer"}
    ] * 4
    third = Counting()
    assert written_answers(questions[::-1], third, tmp_path, print) == answers[::-1]
    assert third.asked == []


def test_a_generator_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert isinstance(generator_named(None, None, None, "cpu"), Extractive)
    assert generator_named("https://here/v1", "small", "secret", "cpu").name == (
        "small at https://here/v1"
    )
    with pytest.raises(InputError, match="QILIN_GENERATOR_MODEL"):
        generator_named("https://here/v1", None, None, "cpu")
    with pytest.raises(InputError, match=f"QILIN_GENERATOR={tmp_path} cannot be used"):
        generator_named(str(tmp_path), None, None, "cpu")


def test_the_notes_an_answer_refers_to_beat_no_notes(tmp_path: Path) -> None:
    answer_worlds.write(tmp_path / "data", seed=12, n_answers=140)
    connection = answer_worlds.connect(tmp_path / "data", tmp_path / "lake")
    connection.execute("create schema evaluation")
    asked = Asked.read(connection)
    assert len(asked.request_id) >= 55
    passages = answer_passages(connection, asked, {})
    without = [BM25, BI_ENCODER]
    texts = answer_texts(asked, passages, Extractive(), tmp_path, print, lacking=without)
    connection.register("passages", passages)
    connection.register("texts", texts)
    connection.execute("create view evaluation.answer_passages as from passages")
    connection.execute("create view evaluation.answer_texts as from texts")
    rows = {
        (row["context"], row["metric"]): row
        for row in answer_metrics(read_pairs(connection), None).to_pylist()
    }
    connection.close()
    nothing, best = rows[NONE, ROUGE_CHARACTERS], rows[REFERRED, ROUGE_CHARACTERS]
    assert best["low"] > nothing["high"]
    # It copies: all but the words around what it copied is in the passages, and it cites.
    assert rows[REFERRED, "groundedness"]["value"] > 0.7
    assert rows[REFERRED, "citation_recall"]["value"] > 0.9


def test_real_answers_are_written_anew(real: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    asked = Asked.read(real)
    assert len(asked.request_id) == 2
    passages = answer_passages(real, asked, {})
    without = [BM25, BI_ENCODER]
    texts = answer_texts(asked, passages, Extractive(), tmp_path, print, lacking=without)
    assert {*texts["context"].to_pylist()} == {NONE, REFERRED}
    for row in texts.to_pylist():
        assert (row["answer_written"] is None) == (row["problem"] is not None)
