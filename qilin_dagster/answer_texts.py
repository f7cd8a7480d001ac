"""Answers written anew: what each is written from, and the writing. Knows no Dagster.

Every request that was shown an answer is answered again from four contexts: nothing, the five notes
that BM25 finds among all, the five that the bi-encoder finds, and the notes the shown answer refers
to. Answers are kept by the hash of all that made them: a build that was killed goes on where it
stopped, and one with the same notes and generator asks for nothing.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from models.answers.prompt import Generator, Question
from qilin_dagster.errors import InputError

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

CODE_VERSION = "1"
NONE, BM25, BI_ENCODER, REFERRED = "none", "bm25", "bi_encoder", "referred notes"
CONTEXTS = (NONE, BM25, BI_ENCODER, REFERRED)
N_PASSAGES = 5
# Of a note; the longest fill a page each.
PASSAGE_CHARACTERS = 800
NO_PASSAGE = "no note of the context has text"

PASSAGES = pa.schema(
    [
        ("request_id", pa.int64()),
        ("context", pa.string()),
        ("passage_n", pa.int64()),
        ("note_idx", pa.int64()),
        ("passage", pa.string()),
        ("is_cut", pa.bool_()),
    ]
)
TEXTS = pa.schema(
    [
        ("request_id", pa.int64()),
        ("context", pa.string()),
        ("generator", pa.string()),
        ("answer_written", pa.string()),
        ("n_passages", pa.int64()),
        ("problem", pa.string()),
    ]
)
QUESTIONS = """
    select a.request_id, r.query, a.reference_note_list
    from core.answers as a inner join core.requests as r using (request_id)
    where a.is_shown and r.query is not null
    order by a.request_id
"""
# What a retriever found for each request, best first.
Found = dict[str, "list[NDArray[np.int64]]"]


@dataclass(frozen=True)
class Asked:
    """The requests that were shown an answer, one entry each, and the notes it refers to."""

    request_id: list[int]
    query: list[str]
    referred: list[list[int]]

    @classmethod
    def read(cls, connection: "duckdb.DuckDBPyConnection") -> "Asked":
        rows = connection.execute(QUESTIONS).fetchall()
        return cls(
            [row[0] for row in rows],
            [row[1] for row in rows],
            [list(dict.fromkeys(row[2] or [])) for row in rows],
        )


def answer_passages(
    connection: "duckdb.DuckDBPyConnection", asked: Asked, found: Found
) -> pa.Table:
    """A row per request, context and passage, see PASSAGES.

    Notes that are not in core.notes, or have no text, give no passage; a long one is cut at
    PASSAGE_CHARACTERS. Contexts that are not ``found`` have no rows.
    """
    lists: Found = {
        **found,
        REFERRED: [np.array(notes, dtype=np.int64) for notes in asked.referred],
    }
    wanted = sorted(
        {int(note) for of_context in lists.values() for one in of_context for note in one}
    )
    texts = _note_texts(connection, wanted)
    rows = []
    for context, notes_of in lists.items():
        for request, notes in zip(asked.request_id, notes_of, strict=True):
            known = [int(note) for note in notes if texts.get(int(note))]
            if context != REFERRED:
                known = known[:N_PASSAGES]
            rows += [
                {
                    "request_id": request,
                    "context": context,
                    "passage_n": number,
                    "note_idx": note,
                    "passage": texts[note][:PASSAGE_CHARACTERS],
                    "is_cut": len(texts[note]) > PASSAGE_CHARACTERS,
                }
                for number, note in enumerate(known, start=1)
            ]
    return pa.Table.from_pylist(rows, schema=PASSAGES)


def _note_texts(connection: "duckdb.DuckDBPyConnection", notes: list[int]) -> dict[int, str]:
    wanted = pa.table({"note_idx": pa.array(notes, pa.int64())})
    connection.register("wanted_notes", wanted)
    rows = connection.execute(
        "select note_idx, concat_ws('\n', note_title, note_content) "
        "from core.notes semi join wanted_notes using (note_idx)"
    ).fetchall()
    connection.unregister("wanted_notes")
    return {note: text.strip() for note, text in rows}


def found_by_bm25(note_words: Path, queries: Sequence[str]) -> "list[NDArray[np.int64]]":
    """The first notes of all by BM25, for each query; raises TooLittleData without any words."""
    from qilin_dagster.note_words import read_note_words

    words = read_note_words(note_words)
    index = words.index()
    numbers, offsets = words.numbers(queries)
    found = []
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        rows, _ = index.top(numbers[start:end], N_PASSAGES)
        found.append(words.note_idx[rows[rows < len(words.note_idx)]])
    return found


def found_by_bi_encoder(
    model_folder: Path, note_tokens: Path, queries: Sequence[str], device: str
) -> "list[NDArray[np.int64]]":
    """The notes of all whose embedding is nearest to that of each query."""
    from models.bi_encoder import EMBEDDINGS, embed, load_model
    from models.loop import device_named
    from models.note_index import nearest
    from models.text_data import NoteTexts
    from models.tokens import TextNumbers, lists_of
    from qilin_dagster.note_tokens import MAX_TOKENS, read_note_tokens

    tokens = read_note_tokens(note_tokens)
    card = json.loads((model_folder / "model.json").read_text(encoding="utf-8"))
    lists = lists_of(TextNumbers(tokens.tokenizer)(list(queries), MAX_TOKENS))
    embedded = embed(
        load_model(model_folder),
        NoteTexts(tokens.notes, tokens.special),
        lists,
        np.arange(len(queries)),
        card["recipe"]["encoder"]["max_query_tokens"],
        device_named(device),
    )
    notes = np.load(model_folder / EMBEDDINGS, mmap_mode="r")
    nearby = nearest(notes, embedded, N_PASSAGES)
    return [tokens.note_idx[rows[rows >= 0]] for rows in nearby.rows]


def answer_texts(
    asked: Asked,
    passages: pa.Table,
    generator: Generator,
    cache: Path,
    report: Callable[[str], None],
    *,
    lacking: Collection[str] = (),
) -> pa.Table:
    """A row per request and context, see TEXTS: the answer that the generator writes.

    A context has every request, or none where its retriever is ``lacking``. A request without a
    passage has no answer and says why, but in the context none.
    """
    of_request: dict[tuple[str, int], list[str]] = {}
    for context, request, passage in zip(
        *(passages[name].to_pylist() for name in ("context", "request_id", "passage")), strict=True
    ):
        of_request.setdefault((context, request), []).append(passage)
    rows: list[dict[str, Any]] = []
    questions: list[Question] = []
    for context in (name for name in CONTEXTS if name not in lacking):
        for request, query in zip(asked.request_id, asked.query, strict=True):
            texts = tuple(of_request.get((context, request), ()))
            is_written = context == NONE or bool(texts)
            rows.append(
                {
                    "request_id": request,
                    "context": context,
                    "generator": generator.name,
                    "answer_written": None,
                    "n_passages": len(texts),
                    "problem": None if is_written else NO_PASSAGE,
                }
            )
            if is_written:
                questions.append(Question(query, texts))
    written = iter(written_answers(questions, generator, cache, report))
    for row in rows:
        if row["problem"] is None:
            row["answer_written"] = next(written)
            if not row["answer_written"].strip():
                row |= {"answer_written": None, "problem": "the generator wrote nothing"}
    return pa.Table.from_pylist(rows, schema=TEXTS)


def written_answers(
    questions: Sequence[Question],
    generator: Generator,
    cache: Path,
    report: Callable[[str], None],
) -> list[str]:
    """An answer to each question, from the cache or else from the generator, batch by batch.

    ``cache`` is a folder. Each batch is appended to a file of the generator as it comes; a last
    line that a killed build left half written is written anew.
    """
    cache.mkdir(parents=True, exist_ok=True)
    identity = hashlib.sha256(generator.identity.encode()).hexdigest()
    path = cache / f"{identity[:32]}.jsonl"
    known = dict(_kept(path))
    keys = [hashlib.sha256(question.prompt().encode()).hexdigest() for question in questions]
    missing = {
        key: question for key, question in zip(keys, questions, strict=True) if key not in known
    }
    # Longest first: what does not fit into memory fails at once.
    todo = sorted(missing.items(), key=lambda item: (-len(item[1].prompt()), item[0]))
    size = generator.batch_size
    if todo:
        with path.open("a", encoding="utf-8") as file:
            for start in range(0, len(todo), size):
                batch = todo[start : start + size]
                answers = generator.answer([question for _, question in batch])
                for (key, _), answer in zip(batch, answers, strict=True):
                    known[key] = answer
                    line = json.dumps({"prompt": key, "answer": answer}, ensure_ascii=False)
                    file.write(line + "\n")
                file.flush()
                report(f"{generator.name}: {start + len(batch):,} of {len(todo):,} answers written")
    return [known[key] for key in keys]


def _kept(path: Path) -> Iterator[tuple[str, str]]:
    if not path.exists():
        return
    text = path.read_bytes()
    # Without its line end, a last line may be a part of one.
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        path.write_bytes(whole)
    for line in whole.decode().splitlines():
        entry = json.loads(line)
        yield entry["prompt"], entry["answer"]


def generator_named(name: str | None, model: str | None, key: str | None, device: str) -> Generator:
    """The generator that the settings name.

    Args:
        name: None or "extractive"; the address of a server that speaks chat completions; or a
            causal language model of transformers, a folder or a name of the hub that is here.
        model: which model the server is to use.
        key: for the server.

    Raises InputError when there is no such thing.
    """
    if name is None or name == "extractive":
        from models.answers.extractive import Extractive

        return Extractive()
    if name.startswith(("http://", "https://")):
        from models.answers.endpoint import Endpoint

        if not model:
            raise InputError(
                f"QILIN_GENERATOR={name} is a server: name the model it is to use with "
                "QILIN_GENERATOR_MODEL"
            )
        return Endpoint(name, model, key)
    from models.answers.causal_lm import CausalLM

    try:
        return CausalLM.from_checkpoint(name, device)
    except (OSError, ValueError) as error:
        raise InputError(
            f"QILIN_GENERATOR={name} cannot be used: {str(error).splitlines()[0]}. Name a folder "
            "with a causal language model, a model of the hub that `hf download` has put on this "
            "machine, the address of a server, or extractive"
        ) from error
