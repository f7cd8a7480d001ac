"""Tokens: the vocabulary by counting, texts to numbers, sequences put together, all by hand."""

import subprocess
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel

from models.tokens import (
    SPECIAL,
    SpecialTokens,
    TextNumbers,
    count_tokenizer,
    lists_of,
    pairs,
    single,
    special_tokens,
)

TEXTS = ["咖啡 拉花 latte", "咖啡豆 latte art", "手冲咖啡！", "art"]
MARKS = SpecialTokens(pad=0, cls=101, sep=102)


def test_the_vocabulary_is_what_stands_there_twice_and_the_alphabet():
    vocabulary = count_tokenizer(TEXTS).get_vocab()
    assert [vocabulary[name] for name in SPECIAL] == [0, 1, 2, 3, 4]
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert {"咖", "啡", "latte", "art", "a", "##a", "9"} <= set(vocabulary)
    # Once only, and no character of a Chinese word is inside of it.
    assert not {"拉", "花", "豆", "！", "##啡"} & set(vocabulary)


def test_a_small_vocabulary_keeps_letters_then_the_frequent():
    counted = count_tokenizer(["咖咖咖啡啡 ab"] * 2, vocabulary_size=5 + 72 + 1).get_vocab()
    assert "咖" in counted
    assert "啡" not in counted
    assert "ab" not in counted


def test_every_process_counts_the_same_tokenizer():
    program = (
        f"from models.tokens import count_tokenizer;print(count_tokenizer({TEXTS!r}).to_str())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


ODD = [
    "咖啡latte拿铁",
    "  spaces\tand\u3000more\n",
    "Ünïcode ÀB",
    "か\u3099 zero\u200bwidth a\u0000b",
    "hello, world!! 100%",
    "a" * 150,
    "𠀀𠀁 emoji😀😀 [话题]#",
    "",
]


def test_cutting_by_parts_gives_what_the_tokenizer_gives():
    tokenizer = count_tokenizer([*TEXTS, *ODD] * 2)
    assert TextNumbers(tokenizer)(ODD, 512) == [
        encoding.ids for encoding in tokenizer.encode_batch(ODD, add_special_tokens=False)
    ]
    numbers = TextNumbers(tokenizer)
    assert [of[:3] for of in numbers(ODD, 512)] == numbers(ODD, 3)


def test_a_tokenizer_of_other_rules_cuts_whole_texts():
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "a b": 1}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("|", "removed")
    assert TextNumbers(tokenizer)(["A b|A b|c"], 2) == [[1, 1]]


def test_the_name_of_a_separator_in_a_text_is_text():
    tokenizer = count_tokenizer(["[SEP] [CLS] 咖啡 [ ]"] * 2)
    special = special_tokens(tokenizer)
    (numbers,) = TextNumbers(tokenizer)(["咖啡[SEP]咖啡 [CLS]"], 99)
    assert not {special.sep, special.cls, special.pad} & set(numbers)
    assert special.sep in tokenizer.encode("咖啡[SEP]咖啡").ids


def test_a_tokenizer_without_separators_is_refused():
    with pytest.raises(ValueError, match=r"lacks one of \[PAD\], \[CLS\], \[SEP\]"):
        special_tokens(Tokenizer(WordLevel({"a": 0}, unk_token="a")))


def test_single_sequences_by_hand():
    texts = lists_of([[7, 8, 9], [], [5]])
    sequences = single(MARKS, texts, np.array([2, 0, 1]), 2)
    assert sequences.token_id.tolist() == [[101, 5, 102, 0], [101, 7, 8, 102], [101, 102, 0, 0]]
    assert sequences.is_token.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]]
    assert not sequences.segment.any()


def test_pairs_by_hand_and_the_query_is_never_cut_for_the_note():
    queries, notes = lists_of([[1, 2, 3], [4]]), lists_of([[5] * 50, [], [6, 7]])
    sequences = pairs(MARKS, queries, np.array([0, 1, 1]), notes, np.array([0, 2, 1]), (3, 2))
    assert sequences.token_id.tolist() == [
        [101, 1, 2, 3, 102, 5, 5, 102],
        [101, 4, 102, 6, 7, 102, 0, 0],
        [101, 4, 102, 102, 0, 0, 0, 0],
    ]
    assert sequences.segment.tolist() == [
        [0, 0, 0, 0, 0, 1, 1, 1],
        [0, 0, 0, 1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0, 0, 0, 0],
    ]
    assert sequences.is_token.sum(axis=1).tolist() == [8, 6, 4]


def test_tokens_of_both_texts_are_marked_in_the_second():
    queries, notes = lists_of([[7, 101, 9], [8]]), lists_of([[9, 5, 7, 9], [7, 8, 102]])
    rows = np.array([0, 1, 1]), np.array([0, 1, 0])
    sequences = pairs(MARKS, queries, rows[0], notes, rows[1], (2, 9), marks_matches=True)
    # Of the first query two tokens are read, and of these 7 stands in the note.
    assert sequences.segment.tolist() == [
        [0, 0, 0, 0, 1, 1, 2, 1, 1],
        [0, 0, 0, 1, 2, 1, 1, 0, 0],
        [0, 0, 0, 1, 1, 1, 1, 1, 0],
    ]
    plain = pairs(MARKS, queries, rows[0], notes, rows[1], (2, 9))
    assert (plain.token_id == sequences.token_id).all()
    assert (plain.segment == np.minimum(sequences.segment, 1)).all()


def test_no_texts_are_no_rows():
    nothing = lists_of([])
    assert single(MARKS, nothing, np.zeros(0, dtype=np.int64), 5).token_id.shape == (0, 2)
    assert single(MARKS, lists_of([[]]), np.array([0, 0]), 5).token_id.tolist() == [[101, 102]] * 2
