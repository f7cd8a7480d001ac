"""BM25 over words of titles and bodies, scoring only the candidates of each request.

The index holds the whole corpus, so a word's weight (IDF) comes from all notes: among the fifteen
candidates of one request, every one of which answers the query, IDF means nothing.

Shapes: N = candidates of all requests, R = requests, C = notes of the corpus.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import rjieba
from numpy.typing import ArrayLike, NDArray
from rank_bm25 import BM25Okapi

from models.ranking_data import TooLittleData

FloatArray = NDArray[np.float64]

# The general dictionary cuts this name in running text (小红 | 书上).
_WORDS = rjieba.Jieba()
_WORDS.add_word("小红书", 100_000, "nz")

# A topic is written #痘坑[话题]#: the word is content, the tag is not. Emoji are [偷笑R].
_TOPIC_TAG = re.compile(r"\s*\[[^\[\]\n]{1,10}\](?=#)")
_EMOJI_CODE = re.compile(r"\[[^\[\]\s]{1,10}R\]")
_INVISIBLE = re.compile("[\ufeff\u200b-\u200f\u2060]")


def tokenize(text: str) -> list[str]:
    """Words in lower case, without spaces, punctuation, emoji, emoji codes and topic markup.

    Unknown words become single characters and not guesses: a guess depends on the neighbours, so
    that one name would be cut in two ways in two notes and not match itself.
    """
    text = _EMOJI_CODE.sub(" ", _TOPIC_TAG.sub("", _INVISIBLE.sub("", text)))
    text = unicodedata.normalize("NFKC", text).lower()
    # Most words are letters throughout; only the others need a look at each character.
    return [
        word
        for word in _WORDS.cut(text, False)
        if word.isalnum() or any(character.isalnum() for character in word)
    ]


@dataclass(frozen=True)
class BM25Scores:
    """Scores of all candidates of a run.

    Attributes:
        score: float64 (N,), higher is better; 0 where query and note share no word.
        constant_share: share of the requests with two or more candidates, in 0..1, whose
            candidates all have the same score.
    """

    score: FloatArray
    constant_share: float


class BM25Ranker:
    """BM25 (Okapi, with the ATIRE floor for frequent words) over one tokenised corpus.

    Source: Robertson et al., TREC-3 (1994); variant and floor: Trotman, Puurula and Burgess,
    ADCS 2014. The scores are those of the package rank-bm25.
    """

    def __init__(
        self,
        corpus: Sequence[Sequence[str]],
        *,
        k1: float = 1.5,
        b: float = 0.75,
        epsilon: float = 0.25,
    ) -> None:
        """Index the words of every note; a note without words is allowed and scores 0.

        Args:
            corpus: the words of each note, C in all; candidates are rows of it.
            k1: how fast repeated words stop counting.
            b: how much long notes are discounted, in 0..1.
            epsilon: weight of words that stand in over half of the notes, as a share of the mean.

        Raises:
            TooLittleData: no notes, or not one word in all notes.
        """
        if len(corpus) == 0:
            raise TooLittleData("BM25 needs notes to index, and there are none.")
        if not any(len(words) for words in corpus):
            raise TooLittleData(
                f"BM25 needs words to index, and none of {len(corpus):,} notes has one."
            )
        self._index = BM25Okapi(corpus, k1=k1, b=b, epsilon=epsilon)
        # The package turns this list of C lengths into an array at every call.
        self._index.doc_len = np.asarray(self._index.doc_len, dtype=np.int32)

    @property
    def n_notes(self) -> int:
        return int(self._index.corpus_size)

    def score_candidates(self, query: Sequence[str], candidates: ArrayLike) -> FloatArray:
        """Scores of one request's candidates.

        Args:
            query: the words of the query; one that stands twice counts twice.
            candidates: integers (n,), rows of the corpus.

        Returns:
            float64 (n,).

        Raises:
            ValueError: a candidate outside the corpus.
        """
        rows = np.asarray(candidates)
        if len(rows) == 0:
            return np.zeros(0)
        outside = np.flatnonzero((rows < 0) | (rows >= self.n_notes))
        if len(outside):
            raise ValueError(
                f"candidate {rows[outside[0]]} is outside the corpus of {self.n_notes:,} notes"
            )
        return np.asarray(self._index.get_batch_scores(query, rows.tolist()), dtype=np.float64)

    def score_requests(
        self,
        queries: Sequence[Sequence[str]],
        request_offsets: ArrayLike,
        candidates: ArrayLike,
    ) -> BM25Scores:
        """Scores of the candidates of many requests, in the order given.

        Args:
            queries: the words of each query, R in all.
            request_offsets: integers (R + 1,); request r has candidates[offsets[r]:offsets[r + 1]].
            candidates: integers (N,), rows of the corpus.

        Raises:
            ValueError: arrays that do not fit, a candidate outside the corpus.
            TooLittleData: scores that are constant in every request: a run that ranks nothing is
                no result.
        """
        offsets, rows = np.asarray(request_offsets), np.asarray(candidates)
        if len(offsets) != len(queries) + 1:
            raise ValueError(f"{len(queries)} queries need {len(queries) + 1} request offsets")
        if offsets[0] != 0 or offsets[-1] != len(rows) or (np.diff(offsets) < 0).any():
            raise ValueError("request offsets must rise from 0 to the number of candidates")
        score_N = np.zeros(len(rows))
        n_with_choice = n_constant = 0
        for query, start, end in zip(queries, offsets[:-1], offsets[1:], strict=True):
            score = self.score_candidates(query, rows[start:end])
            score_N[start:end] = score
            if end - start > 1:
                n_with_choice += 1
                n_constant += bool(score.min() == score.max())
        if n_with_choice and n_constant == n_with_choice:
            raise TooLittleData(
                f"BM25 gives all candidates of a request the same score, in each of "
                f"{n_with_choice:,} requests: queries and notes share no telling word."
            )
        return BM25Scores(score_N, n_constant / n_with_choice if n_with_choice else 0.0)
