"""Tokens of the text encoders: a vocabulary, texts to numbers, numbers to padded sequences.

Texts are numbered once and stored; sequences are put together from the numbers, so that no
separator is ever typed into a text.

Shapes: n = texts, T = tokens of all texts, V = vocabulary, B = sequences of a batch, L = tokens of
the longest of them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

TokenArray = NDArray[np.uint16] | NDArray[np.int32] | NDArray[np.int64]
IntArray = NDArray[np.int64]

PAD, UNKNOWN, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL: Final = (PAD, UNKNOWN, CLS, SEP, MASK)
VOCABULARY_SIZE: Final = 12_000
# A piece met once has nothing to be learned from.
MIN_COUNT: Final = 2
# In every vocabulary, so that no Latin word or number is unknown.
ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
# BERT's rules look at nothing beyond a space or a Chinese character; those here are some of them.
_PARTS = re.compile("[\u4e00-\u9fff]|[^ \t\n\r\u3000\u4e00-\u9fff]+")
# Longer ones seldom come again.
LONGEST_KEPT_PART: Final = 12


@dataclass(frozen=True)
class SpecialTokens:
    """Numbers of the tokens that sequences are put together with."""

    pad: int
    cls: int
    sep: int


@dataclass(frozen=True)
class TokenLists:
    """The tokens of n texts; both arrays may be memory-mapped.

    Attributes:
        token_id: integers (T,).
        offsets: int64 (n + 1,); text i has token_id[offsets[i]:offsets[i + 1]].
    """

    token_id: TokenArray
    offsets: IntArray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self, texts: IntArray, n_max: int) -> IntArray:
        """How many of the first n_max tokens each of these texts has, (B,)."""
        length: IntArray = np.minimum(self.offsets[texts + 1] - self.offsets[texts], n_max)
        return length

    def take(self, texts: IntArray, length: IntArray, place: IntArray) -> IntArray:
        """Tokens of these texts at places (B, L); 0 where a place is outside of 0..length-1."""
        is_inside = (place >= 0) & (place < length[:, None])
        if not is_inside.any():
            return np.zeros(place.shape, dtype=np.int64)
        at = np.where(is_inside, self.offsets[texts][:, None] + place, 0)
        return np.where(is_inside, self.token_id[at], 0).astype(np.int64)


@dataclass(frozen=True)
class Sequences:
    """Padded input of an encoder, all int64 (B, L).

    Attributes:
        token_id: padded behind.
        is_token: 1 for a token, 0 for padding.
        segment: 1 for the second text and its separator, else 0; 2 for a marked match.
    """

    token_id: IntArray
    is_token: IntArray
    segment: IntArray


def single(special: SpecialTokens, texts: TokenLists, rows: IntArray, n_max: int) -> Sequences:
    """[CLS] text [SEP] of each row, with the first n_max tokens of the text."""
    length = texts.lengths(rows, n_max)
    place = np.arange(int(length.max(initial=0)) + 2)[None, :].repeat(len(rows), axis=0)
    end = length[:, None] + 1
    token_id = texts.take(rows, length, place - 1)
    token_id[:, 0] = special.cls
    token_id[place == end] = special.sep
    token_id[place > end] = special.pad
    return Sequences(token_id, (place <= end).astype(np.int64), np.zeros_like(place))


def pairs(
    special: SpecialTokens,
    first: TokenLists,
    first_rows: IntArray,
    second: TokenLists,
    second_rows: IntArray,
    n_max: tuple[int, int],
    *,
    marks_matches: bool = False,
) -> Sequences:
    """[CLS] first [SEP] second [SEP] of each pair of rows.

    Args:
        n_max: tokens of the first and of the second text at most. A longer text loses its end, and
            a long second one never costs a token of the first.
        marks_matches: the tokens of the second text that stand in the first, too, get a segment of
            their own.
    """
    n_first = first.lengths(first_rows, n_max[0])
    n_second = second.lengths(second_rows, n_max[1])
    width = int((n_first + n_second).max(initial=0)) + 3
    place = np.arange(width)[None, :].repeat(len(first_rows), axis=0)
    middle = n_first[:, None] + 1
    end = middle + n_second[:, None] + 1
    token_id = first.take(first_rows, n_first, place - 1)
    of_first = token_id[:, : int(n_first.max(initial=0)) + 1]
    is_first = (place > 0) & (place < middle)
    token_id += second.take(second_rows, n_second, place - middle - 1)
    segment = ((place > middle) & (place <= end)).astype(np.int64)
    if marks_matches:
        same = token_id[:, :, None] == of_first[:, None, :]
        is_match = (same & is_first[:, None, : of_first.shape[1]]).any(axis=2)
        segment[is_match & (place > middle) & (place < end)] = 2
    token_id[:, 0] = special.cls
    token_id[(place == middle) | (place == end)] = special.sep
    token_id[place > end] = special.pad
    return Sequences(token_id, (place <= end).astype(np.int64), segment)


def lists_of(numbers: Sequence[Sequence[int]]) -> TokenLists:
    """Token lists from Python's."""
    offsets = np.cumsum([0, *map(len, numbers)], dtype=np.int64)
    flat = (token for of_text in numbers for token in of_text)
    return TokenLists(np.fromiter(flat, dtype=np.int32, count=int(offsets[-1])), offsets)


def count_tokenizer(texts: Iterable[str], vocabulary_size: int = VOCABULARY_SIZE) -> Tokenizer:
    """A WordPiece tokenizer with BERT's rules, its vocabulary counted on these texts.

    Pieces are single characters (every Chinese one is a word by BERT's rules), characters inside
    words, and whole words, the most frequent first. The trainers of the package would number the
    same pieces otherwise in each process, and a run would not come out twice.
    """
    tokenizer = _without_vocabulary()
    parts: Counter[str] = Counter()
    for text in texts:
        parts.update(_PARTS.findall(text))
    characters, words = Counter[str](), Counter[str]()
    for part, n in parts.items():
        normal = tokenizer.normalizer.normalize_str(part)
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal):
            characters[word[0]] += n
            for character in word[1:]:
                characters[f"##{character}"] += n
            if len(word) > 1:
                words[word] += n
    pieces = dict.fromkeys([*_alphabet(), *_most_frequent(characters), *_most_frequent(words)])
    kept = sorted([*pieces][: max(0, vocabulary_size - len(SPECIAL))])
    vocabulary = {piece: number for number, piece in enumerate((*SPECIAL, *kept))}
    tokenizer.model = WordPiece(vocabulary, unk_token=UNKNOWN)
    tokenizer.add_special_tokens(list(SPECIAL))
    cls, sep = vocabulary[CLS], vocabulary[SEP]
    tokenizer.post_processor = processors.BertProcessing((SEP, sep), (CLS, cls))
    return tokenizer


def special_tokens(
    tokenizer: Tokenizer, pad: str = PAD, cls: str = CLS, sep: str = SEP
) -> SpecialTokens:
    """Numbers of the special tokens of these names.

    Raises:
        ValueError: the tokenizer lacks one of them.
    """
    names = (pad, cls, sep)
    numbers = [n for n in map(tokenizer.token_to_id, names) if n is not None]
    if len(numbers) < len(names):
        raise ValueError(f"the tokenizer lacks one of {pad}, {cls}, {sep}: it is none of a BERT")
    return SpecialTokens(*numbers)


class TextNumbers:
    """Texts to token numbers, as the tokenizer gives them, without special tokens.

    By BERT's rules what stands between spaces and Chinese characters is cut by itself, so each
    such part is cut once and then looked up: far faster than cutting every text anew.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        # A text that holds the name of a special token must not become that token.
        self._tokenizer = _without_special(tokenizer)
        self._is_by_part = isinstance(
            tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer
        ) and isinstance(tokenizer.normalizer, normalizers.BertNormalizer)
        self._of_part: dict[str, list[int]] = {}

    def __call__(self, texts: Sequence[str], n_max: int) -> list[list[int]]:
        """The first n_max tokens of each text."""
        if self._is_by_part:
            return [self._numbers(text, n_max) for text in texts]
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.ids[:n_max] for encoding in encodings]

    def _numbers(self, text: str, n_max: int) -> list[int]:
        numbers: list[int] = []
        for part in _PARTS.findall(text):
            of_part = self._of_part.get(part)
            if of_part is None:
                of_part = self._tokenizer.encode(part, add_special_tokens=False).ids
                if len(part) <= LONGEST_KEPT_PART:
                    self._of_part[part] = of_part
            numbers += of_part
            if len(numbers) >= n_max:
                break
        return numbers[:n_max]


def _without_vocabulary() -> Tokenizer:
    tokenizer = Tokenizer(WordPiece({UNKNOWN: 0}, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _without_special(tokenizer: Tokenizer) -> Tokenizer:
    plain = Tokenizer(tokenizer.model)
    plain.normalizer, plain.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    return plain


def _alphabet() -> list[str]:
    return [piece for letter in ALPHABET for piece in (letter, f"##{letter}")]


def _most_frequent(counts: Counter[str]) -> list[str]:
    often = [(piece, n) for piece, n in counts.items() if n >= MIN_COUNT]
    return [piece for piece, _ in sorted(often, key=lambda item: (-item[1], item[0]))]
