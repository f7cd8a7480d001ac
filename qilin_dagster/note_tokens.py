"""The tokens of all notes for the text encoders, made once and stored. Knows no Dagster.

The snapshot holds the vocabulary as a table, a row per token; beside it ``tokenizer.json`` and the
first tokens of each note as the flat arrays of `note_lists`: ``token_id.npy`` is uint16 or int32.

The vocabulary is counted on notes that train requests showed: the test evening adds no token to it.
A checkpoint brings its own.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qilin_dagster.errors import InputError
from qilin_dagster.lake import Written, write_rows
from qilin_dagster.note_lists import NOTES_AT_ONCE, rows_of, write_note_lists

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from models.tokens import SpecialTokens, TokenLists

CODE_VERSION = "1"
TABLE = "features.note_tokens"
READS = ("core.impressions", "core.notes")
TOKENIZER = "tokenizer.json"
# No recipe reads further into a note, and a BERT reads no further than twice of it.
MAX_TOKENS = 256
# More notes than these name no further character that matters.
MAX_COUNTED_NOTES = 200_000


@dataclass(frozen=True)
class NoteTokens:
    """C notes and their tokens, and what made them; the arrays are memory-mapped.

    Attributes:
        note_idx: int64 (C,).
        notes: C + 1 lists; the last is empty, for candidates whose note is not known.
        tokenizer: for the queries.
        special: numbers of the tokens around the texts.
        checkpoint: whose tokenizer it is; None for the one counted on the notes.
    """

    note_idx: "NDArray[np.int64]"
    notes: "TokenLists"
    tokenizer: "Tokenizer"
    special: "SpecialTokens"
    checkpoint: str | None

    def rows(self, note_idx: "NDArray[np.int64]") -> "NDArray[np.int64]":
        """Where these notes stand; C for one that is not there."""
        return rows_of(self.note_idx, note_idx)


def build_note_tokens(
    connection: "duckdb.DuckDBPyConnection",
    checkpoint: str | None,
    folder: Path,
    report: Callable[[str], None],
) -> Written:
    """Write the tokens of every note of core.notes, in the order of note_key.

    ``checkpoint`` is a local folder or a name of the hub; None counts a vocabulary.

    Raises InputError for a checkpoint that cannot be read.
    """
    import pyarrow as pa

    from models.tokens import TextNumbers, count_tokenizer, special_tokens

    if checkpoint is None:
        tokenizer = count_tokenizer(_texts_of_train(connection))
        special = special_tokens(tokenizer)
    else:
        from models.encoder import checkpoint_tokenizer

        try:
            tokenizer, special = checkpoint_tokenizer(checkpoint)
        except (OSError, ValueError) as error:
            raise InputError(
                f"QILIN_CHECKPOINT={checkpoint!r} cannot be read: {error}. Name a folder with "
                "config.json, tokenizer.json and model.safetensors, or a model of the hub that "
                "`hf download` has put on this machine"
            ) from error
    tokenizer.save(str(folder / TOKENIZER))
    described = {"checkpoint": checkpoint, "special": asdict(special)}
    (folder / "tokens.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
    n_vocabulary = tokenizer.get_vocab_size()
    dtype = np.dtype(np.uint16 if n_vocabulary <= 2**16 else np.int32)
    numbers = TextNumbers(tokenizer)

    def numbers_of(texts: list[str]) -> "tuple[NDArray[np.integer], NDArray[np.int64]]":
        lists = numbers(texts, MAX_TOKENS)
        n_of_note = np.array([len(of_note) for of_note in lists], dtype=np.int64)
        return np.fromiter(chain.from_iterable(lists), dtype, int(n_of_note.sum())), n_of_note

    n_notes, n_times = write_note_lists(
        connection,
        folder,
        "token_id",
        dtype,
        numbers_of,
        lambda n_done: report(f"{TABLE}: {n_done:,} notes cut into tokens"),
    )
    n_times = np.pad(n_times, (0, n_vocabulary - len(n_times)))
    table = pa.table(
        {
            "token_id": np.arange(n_vocabulary, dtype=np.int32),
            "token": pa.array([tokenizer.id_to_token(i) for i in range(n_vocabulary)], pa.string()),
            "n_times": n_times,
        }
    )
    n_unknown = int(n_times[tokenizer.token_to_id("[UNK]") or 0])
    facts = {
        "n_notes": n_notes,
        "n_tokens": int(n_times.sum()),
        "n_unknown": n_unknown,
        "max_tokens": MAX_TOKENS,
        "checkpoint": checkpoint,
    }
    return write_rows(table, folder, facts)


def read_note_tokens(folder: Path) -> NoteTokens:
    """The tokens in a snapshot folder of features.note_tokens."""
    from tokenizers import Tokenizer

    from models.tokens import SpecialTokens, TokenLists

    described = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
    offsets = np.load(folder / "offsets.npy")
    # An array without elements cannot be mapped.
    token_id = np.load(folder / "token_id.npy", mmap_mode="r" if offsets[-1] else None)
    return NoteTokens(
        note_idx=np.load(folder / "note_idx.npy"),
        notes=TokenLists(token_id, np.append(offsets, offsets[-1])),
        tokenizer=Tokenizer.from_file(str(folder / TOKENIZER)),
        special=SpecialTokens(**described["special"]),
        checkpoint=described["checkpoint"],
    )


def _texts_of_train(connection: "duckdb.DuckDBPyConnection") -> Iterator[str]:
    """Texts of notes shown in train requests, those with the lowest keys."""
    notes = connection.cursor().execute(
        "select concat_ws(' ', n.note_title, n.note_content) from core.notes as n "
        "where n.note_idx in (select i.note_idx from core.impressions as i "
        "where i.source_table in ('search_train', 'recommendation_train')) "
        "order by n.note_key, n.note_idx limit $1",
        [MAX_COUNTED_NOTES],
    )
    while rows := notes.fetchmany(NOTES_AT_ONCE):
        yield from (text for (text,) in rows)
