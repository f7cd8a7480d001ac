"""BM25 over numbered words: the candidates of many requests, or the best notes of the corpus.

The index holds the whole corpus, so a word's weight (IDF) comes from all notes: among the fifteen
candidates of one request, every one of which answers the query, IDF means nothing.

For each word the index lists the notes that hold it, ascending, and how often: six bytes for each
(word, note). Weights are not stored but worked out from these counts in the order of operations of
rank-bm25, so that the scores are its scores to the last bit, in half the memory.

Shapes: C = notes of the corpus, T = words of all notes, V = different words, P = (word, note)
pairs; R = requests, Q = words of all queries, N = candidates of all requests.
"""

import heapq
import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.ranking_data import TooLittleData

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Int32Array = NDArray[np.int32]
CountArray = NDArray[np.uint16] | NDArray[np.uint32]


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


class BM25Index:
    """BM25 (Okapi, with the ATIRE floor for frequent words) over one corpus.

    A word in n of C notes weighs idf = log(C - n + 0.5) - log(n + 0.5), and ``epsilon`` times the
    mean idf where that is negative; f times in a note of l words, of a mean of m, it scores
    idf * f * (k1 + 1) / (f + k1 * (1 - b + b * l / m)).

    Source: Robertson et al., TREC-3 (1994); variant and floor: Trotman, Puurula and Burgess,
    ADCS 2014. The scores are those of the package rank-bm25.
    """

    def __init__(
        self,
        word: Int32Array,
        note_offsets: ArrayLike,
        n_words: int,
        *,
        k1: float = 1.5,
        b: float = 0.75,
        epsilon: float = 0.25,
    ) -> None:
        """Index the words of every note; a note without words is allowed and scores 0.

        Args:
            word: int32 (T,), in 0..V-1, the words of all notes; may be memory-mapped.
            note_offsets: integers (C + 1,); note i has word[offsets[i]:offsets[i + 1]].
            n_words: V.
            k1: how fast repeated words stop counting.
            b: how much long notes are discounted, in 0..1.
            epsilon: weight of words that stand in over half of the notes, as a share of the mean.

        Raises:
            TooLittleData: no notes, or not one word in all notes.
            ValueError: arrays that do not fit.
        """
        offsets = _offsets(note_offsets, len(word), "note offsets", "words")
        self.n_notes = len(offsets) - 1
        if self.n_notes == 0:
            raise TooLittleData("BM25 needs notes to index, and there are none.")
        if len(word) == 0:
            raise TooLittleData(
                f"BM25 needs words to index, and none of {self.n_notes:,} notes has one."
            )
        n_notes_V = np.zeros(n_words, dtype=np.int64)
        if not _count_notes(word, offsets, n_notes_V):
            raise ValueError(f"a word is outside 0..{n_words - 1}")
        length_C = np.diff(offsets)
        self._start = np.concatenate([[0], np.cumsum(n_notes_V)])
        self._note = np.empty(self._start[-1], dtype=np.int32)
        # A word cannot stand more often in a note than the note has words.
        self._count: CountArray = np.empty(len(self._note), dtype=np.uint16)
        if length_C.max() >= 2**16:
            self._count = np.empty(len(self._note), dtype=np.uint32)
        _list_notes(word, offsets, self._start, self._note, self._count)
        self._idf = _idf(n_notes_V, self.n_notes, epsilon)
        self._k1 = k1
        self._norm = k1 * (1 - b + b * length_C / (len(word) / self.n_notes))
        self._most = _most(self._start, self._note, self._count, self._norm, k1)
        # Scores of the notes met so far in a search; zero between searches.
        self._sum = np.zeros(self.n_notes)

    def score_candidates(self, query: ArrayLike, candidates: ArrayLike) -> FloatArray:
        """Scores of one request's candidates.

        Args:
            query: integers (Q,), the words of the query; one that stands twice counts twice, one
                outside the vocabulary (-1) counts nothing.
            candidates: integers (N,), rows of the corpus.

        Returns:
            float64 (N,).

        Raises:
            ValueError: a candidate outside the corpus.
        """
        n_words, n_candidates = len(np.asarray(query)), len(np.asarray(candidates))
        return self._scores(query, [0, n_words], candidates, [0, n_candidates])

    def score_requests(
        self,
        query: ArrayLike,
        query_offsets: ArrayLike,
        candidates: ArrayLike,
        request_offsets: ArrayLike,
    ) -> BM25Scores:
        """Scores of the candidates of many requests, in the order given.

        Args:
            query: integers (Q,), the words of all queries.
            query_offsets: integers (R + 1,); request r asks query[offsets[r]:offsets[r + 1]].
            candidates: integers (N,), rows of the corpus.
            request_offsets: integers (R + 1,); request r has candidates[offsets[r]:offsets[r + 1]].

        Raises:
            ValueError: arrays that do not fit, a candidate outside the corpus.
            TooLittleData: scores that are constant in every request: a run that ranks nothing is
                no result.
        """
        score_N = self._scores(query, query_offsets, candidates, request_offsets)
        offsets = np.asarray(request_offsets)
        has_choice = np.diff(offsets) > 1
        starts = offsets[:-1][has_choice]
        n_with_choice = len(starts)
        # Every candidate beside the next one; of the pairs only those inside a request count.
        differs = np.append(score_N[1:] != score_N[:-1], False)
        differs[offsets[1:][np.diff(offsets) > 0] - 1] = False
        n_differing = np.concatenate([[0], np.cumsum(differs)])
        n_constant = int((n_differing[offsets[1:][has_choice]] == n_differing[starts]).sum())
        if n_with_choice and n_constant == n_with_choice:
            raise TooLittleData(
                f"BM25 gives all candidates of a request the same score, in each of "
                f"{n_with_choice:,} requests: queries and notes share no telling word."
            )
        return BM25Scores(score_N, n_constant / n_with_choice if n_with_choice else 0.0)

    def top(self, query: ArrayLike, k: int) -> tuple[IntArray, FloatArray]:
        """The k best of the notes that score above 0, best first.

        Exact: the scores are those of `score_candidates`, equal ones by ascending row. One search
        at a time: the index keeps a vector of sums for it.

        Args:
            query: as in `score_candidates`.
            k: at least 1; there may be fewer notes.

        Returns:
            Rows, int64 (n,), and scores, float64 (n,).
        """
        if k < 1:
            raise ValueError(f"k = {k} must be at least 1")
        words = np.asarray(query, dtype=np.int64)
        words = words[(words >= 0) & (words < len(self._idf))]
        words, times = np.unique(words, return_counts=True)
        # The word that can give most first: what frequent words can add soon decides nothing.
        order = np.argsort(-self._idf[words] * self._most[words] * times, kind="stable")
        rows = _contenders(
            words[order],
            times[order],
            k,
            self._start,
            self._note,
            self._count,
            self._idf,
            self._norm,
            self._most,
            self._k1,
            self._sum,
        )
        score = self.score_candidates(query, rows)
        rows, score = rows[score > 0], score[score > 0]
        best = np.lexsort((rows, -score))[:k]
        return rows[best], score[best]

    def _scores(
        self,
        query: ArrayLike,
        query_offsets: ArrayLike,
        candidates: ArrayLike,
        request_offsets: ArrayLike,
    ) -> FloatArray:
        words = np.asarray(query, dtype=np.int64)
        rows = np.asarray(candidates, dtype=np.int64)
        of_query = _offsets(query_offsets, len(words), "query offsets", "words")
        of_request = _offsets(request_offsets, len(rows), "request offsets", "candidates")
        if len(of_request) != len(of_query):
            n_queries = len(of_query) - 1
            raise ValueError(f"{n_queries} queries need {n_queries + 1} request offsets")
        outside = np.flatnonzero((rows < 0) | (rows >= self.n_notes))
        if len(outside):
            raise ValueError(
                f"candidate {rows[outside[0]]} is outside the corpus of {self.n_notes:,} notes"
            )
        score_N = np.zeros(len(rows))
        _score(
            words,
            of_query,
            rows,
            of_request,
            self._start,
            self._note,
            self._count,
            self._idf,
            self._norm,
            self._k1,
            score_N,
        )
        return score_N


def _offsets(values: ArrayLike, n: int, name: str, what: str) -> IntArray:
    offsets = np.asarray(values, dtype=np.int64)
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != n or (np.diff(offsets) < 0).any():
        raise ValueError(f"{name} must rise from 0 to the number of {what}")
    return offsets


def _idf(n_notes_V: IntArray, n_notes: int, epsilon: float) -> FloatArray:
    """Weight of each word; 0 for a word that no note holds."""
    values, which = np.unique(n_notes_V, return_inverse=True)
    # The logarithm and the sum of rank-bm25, not NumPy's, which differ in the last bit.
    idf_of = [math.log(n_notes - n + 0.5) - math.log(n + 0.5) for n in values.tolist()]
    idf_V: FloatArray = np.array(idf_of)[which]
    is_used = n_notes_V > 0
    mean = float(np.cumsum(idf_V[is_used])[-1]) / int(is_used.sum())
    idf_V[idf_V < 0] = epsilon * mean
    idf_V[~is_used] = 0
    return idf_V


@numba.njit(cache=True)
def _count_notes(word: Int32Array, offsets: IntArray, n_notes: IntArray) -> bool:
    """Count for each word the notes that hold it; False when a word is outside the vocabulary."""
    last = np.full(len(n_notes), -1, dtype=np.int32)
    for note in range(len(offsets) - 1):
        for i in range(offsets[note], offsets[note + 1]):
            w = word[i]
            if w < 0 or w >= len(n_notes):
                return False
            if last[w] != note:
                last[w] = note
                n_notes[w] += 1
    return True


@numba.njit(cache=True)
def _list_notes(
    word: Int32Array, offsets: IntArray, start: IntArray, notes: Int32Array, counts: CountArray
) -> None:
    """Fill the list of notes of each word, and how often each holds it."""
    end = start[:-1].copy()
    last = np.full(len(end), -1, dtype=np.int32)
    for note in range(len(offsets) - 1):
        for i in range(offsets[note], offsets[note + 1]):
            w = word[i]
            if last[w] != note:
                last[w] = note
                notes[end[w]] = note
                counts[end[w]] = 1
                end[w] += 1
            else:
                counts[end[w] - 1] += 1


@numba.njit(cache=True)
def _place(notes: Int32Array, low: int, high: int, note: int) -> int:
    """Place of the note in the ascending notes[low:high], or -1."""
    end = high
    while low < high:
        middle = (low + high) // 2
        if notes[middle] < note:
            low = middle + 1
        else:
            high = middle
    return low if low < end and notes[low] == note else -1


@numba.njit(cache=True)
def _score(
    query: IntArray,
    query_offsets: IntArray,
    rows: IntArray,
    request_offsets: IntArray,
    start: IntArray,
    notes: Int32Array,
    counts: CountArray,
    idf: FloatArray,
    norm: FloatArray,
    k1: float,
    score: FloatArray,
) -> None:
    """Add to each candidate's score what the words of its query give, in their order."""
    for r in range(len(query_offsets) - 1):
        for q in range(query_offsets[r], query_offsets[r + 1]):
            w = query[q]
            if w < 0 or w >= len(idf):
                continue
            for c in range(request_offsets[r], request_offsets[r + 1]):
                at = _place(notes, start[w], start[w + 1], rows[c])
                if at >= 0:
                    f = counts[at]
                    score[c] += idf[w] * (f * (k1 + 1) / (f + norm[rows[c]]))


@numba.njit(cache=True)
def _contenders(
    words: IntArray,
    times: IntArray,
    k: int,
    start: IntArray,
    notes: Int32Array,
    counts: CountArray,
    idf: FloatArray,
    norm: FloatArray,
    most: FloatArray,
    k1: float,
    total: FloatArray,
) -> IntArray:
    """Rows of all notes that may be among the k best, few more than k.

    MaxScore (Turtle and Flood 1995), word by word. ``words`` come by what they can give, most
    first. A note is met only if it can still get to the k-th best total, the bar, with what the
    words to come can add, and is dropped when it no longer can. ``total`` is 0 and is left so.
    """
    n_words = len(words)
    # What the words from j on can add at most (rise) and at least (fall, at most 0).
    rise, fall = np.zeros(n_words + 1), np.zeros(n_words + 1)
    for j in range(n_words - 1, -1, -1):
        limit = times[j] * idf[words[j]] * most[words[j]]
        rise[j], fall[j] = rise[j + 1] + max(limit, 0.0), fall[j + 1] + min(limit, 0.0)
    # The sums here are in another order than those of the scores.
    slack = 1e-9 * rise[0]
    met = np.empty(min(len(total), (start[words + 1] - start[words]).sum()), dtype=np.int64)
    n_met = 0
    bar = 0.0
    for j in range(n_words):
        low, high = start[words[j]], start[words[j] + 1]
        gain = times[j] * idf[words[j]] * (k1 + 1)
        if gain > 0 and rise[j] + slack >= bar:
            # A word has a note once, so its k best totals are those of k notes.
            heap = [0.0] * k
            for at in range(low, high):
                note, f = notes[at], counts[at]
                gives = gain * f / (f + norm[note])
                if total[note] == 0:
                    if gives + rise[j + 1] + slack < bar:
                        continue
                    met[n_met] = note
                    n_met += 1
                total[note] += gives
                if total[note] > heap[0]:
                    heapq.heapreplace(heap, total[note])
                    bar = max(bar, heap[0] + fall[j + 1])
        elif n_met * math.log2(high - low + 1) < high - low:
            for i in range(n_met):
                at = _place(notes, low, high, met[i])
                if at >= 0:
                    f = counts[at]
                    total[met[i]] += gain * f / (f + norm[met[i]])
        else:
            for at in range(low, high):
                note, f = notes[at], counts[at]
                if total[note] > 0:
                    total[note] += gain * f / (f + norm[note])
        bar = max(bar, _kth_largest(total, met[:n_met], k) + fall[j + 1])
        n_kept = 0
        for i in range(n_met):
            note = met[i]
            if total[note] > 0 and total[note] + rise[j + 1] + slack >= bar:
                met[n_kept] = note
                n_kept += 1
            else:
                total[note] = 0
        n_met = n_kept
    for i in range(n_met):
        total[met[i]] = 0
    return met[:n_met]


@numba.njit(cache=True)
def _kth_largest(total: FloatArray, met: IntArray, k: int) -> float:
    """The k-th largest total of the notes met, 0 when they are fewer."""
    heap = [0.0] * k
    for i in range(len(met)):
        if total[met[i]] > heap[0]:
            heapq.heapreplace(heap, total[met[i]])
    return heap[0]


@numba.njit(cache=True)
def _most(
    start: IntArray, notes: Int32Array, counts: CountArray, norm: FloatArray, k1: float
) -> FloatArray:
    """What each word gives, at most, to a note, in units of its idf."""
    most = np.zeros(len(start) - 1)
    for w in range(len(most)):
        for at in range(start[w], start[w + 1]):
            f = counts[at]
            most[w] = max(most[w], f * (k1 + 1) / (f + norm[notes[at]]))
    return most
