"""Words of titles, bodies and queries, and their numbers.

Shapes: n = texts, T = words of all texts, V = different words.
"""

import re
import unicodedata
from collections.abc import Sequence
from itertools import chain
from typing import Final

import numpy as np
import rjieba
from numpy.typing import NDArray

# The general dictionary cuts this name in running text (小红 | 书上).
_WORDS = rjieba.Jieba()
_WORDS.add_word("小红书", 100_000, "nz")

# A topic is written #痘坑[话题]#: the word is content, the tag is not. Emoji are [偷笑R].
_TOPIC_TAG = re.compile(r"\s*\[[^\[\]\n]{1,10}\](?=#)")
_EMOJI_CODE = re.compile(r"\[[^\[\]\s]{1,10}R\]")
_INVISIBLE = re.compile("[\ufeff\u200b-\u200f\u2060]")
# Full-width marks as NFKC writes them. Most texts need no other change, which NFKC then sees at a
# glance: it takes a fifth of the time.
_FULL_WIDTH: Final = tuple(
    (mark, unicodedata.normalize("NFKC", mark)) for mark in "，！？：；（）～…．－＋｜"
)

NO_WORD: Final = -1


def tokenize(text: str) -> list[str]:
    """Words in lower case, without spaces, punctuation, emoji, emoji codes and topic markup.

    Unknown words become single characters and not guesses: a guess depends on the neighbours, so
    that one name would be cut in two ways in two notes and not match itself.
    """
    return [piece for piece in _pieces(text) if _is_word(piece)]


class WordNumbers(dict[str, int]):
    """Numbers words from 0 as they are met; what is no word gets `NO_WORD`.

    Attributes:
        words: the V words by number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def __missing__(self, piece: str) -> int:
        number = NO_WORD
        if _is_word(piece):
            number = len(self.words)
            self.words.append(piece)
        self[piece] = number
        return number


def number_words(
    texts: Sequence[str], numbers: WordNumbers
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The words of `tokenize` as numbers; new words are added to ``numbers``.

    Returns:
        The numbers of all words in order, int32 (T,), and how many each text has, int64 (n,).
    """
    pieces = [_pieces(text) for text in texts]
    number_P = np.fromiter(map(numbers.__getitem__, chain.from_iterable(pieces)), dtype=np.int32)
    text_P = np.repeat(np.arange(len(pieces)), [len(of_text) for of_text in pieces])
    is_word_P = number_P != NO_WORD
    return number_P[is_word_P], np.bincount(text_P[is_word_P], minlength=len(pieces))


def _pieces(text: str) -> list[str]:
    """The text cut into words and what stands between them."""
    text = _EMOJI_CODE.sub(" ", _TOPIC_TAG.sub("", _INVISIBLE.sub("", text)))
    for mark, normal in _FULL_WIDTH:
        text = text.replace(mark, normal)
    pieces: list[str] = _WORDS.cut(unicodedata.normalize("NFKC", text).lower(), False)
    return pieces


def _is_word(piece: str) -> bool:
    # Most words are letters throughout; only the others need a look at each character.
    return piece.isalnum() or any(character.isalnum() for character in piece)
