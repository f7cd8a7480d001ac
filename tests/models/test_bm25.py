"""BM25 scores of candidates and the best notes, against the package rank-bm25."""

import math

import numpy as np
import pytest
from rank_bm25 import BM25Okapi

from models.bm25 import BM25Index
from models.ranking_data import TooLittleData
from models.words import WordNumbers, number_words

NOTES = [
    "脸上有痘坑治还是不治疗",
    "六次点阵解决不了的痘坑要咋办？#痘坑[话题]# #痘坑修复[话题]#",
    "上海周末去哪儿玩 city walk 路线",
    "显白美甲 春天的颜色",
    "",
    "[偷笑R][偷笑R]",
    "平价护肤品 学生党 痘痘肌",
]


def flat(lists):
    """Lists of words as one array, and where each begins and the last ends."""
    words = np.array([word for words in lists for word in words], dtype=np.int32)
    return words, np.cumsum([0, *map(len, lists)])


def index(corpus, **weights):
    """The index of a corpus of numbers, numbered from 0 in the order met as `WordNumbers` does."""
    return BM25Index(
        *flat(corpus), max((max(w, default=-1) for w in corpus), default=-1) + 1, **weights
    )


def random_corpora(n):
    """Corpora of frequent words only and of mostly rare ones; queries with unknown words."""
    rng = np.random.default_rng(0)
    for _ in range(n):
        n_words, n_notes = int(rng.integers(1, 60)), int(rng.integers(1, 80))
        share = rng.dirichlet(np.full(n_words, 0.3))
        drawn = [rng.choice(n_words, rng.integers(0, 30), p=share).tolist() for _ in range(n_notes)]
        number: dict[int, int] = {}
        corpus = [[number.setdefault(word, len(number)) for word in words] for words in drawn]
        if number:
            queries = [
                rng.integers(-1, len(number) + 1, rng.integers(0, 7)).tolist() for _ in range(12)
            ]
            yield corpus, queries


@pytest.fixture(scope="module")
def notes():
    """The index of NOTES, and the numbers of a query's words."""
    numbers = WordNumbers()
    word, n_of_note = number_words(NOTES, numbers)
    ranker = BM25Index(word, np.cumsum([0, *n_of_note]), len(numbers.words))
    return ranker, lambda query: number_words([query], numbers)[0]


def test_candidate_scores_equal_those_of_rank_bm25_to_the_last_bit():
    rng = np.random.default_rng(1)
    n_floored = 0
    for corpus, queries in random_corpora(60):
        ranker, plain = index(corpus, k1=1.2, b=0.6), BM25Okapi(corpus, k1=1.2, b=0.6)
        n_floored += min(plain.idf.values()) == 0.25 * plain.average_idf
        for query in queries:
            candidates = rng.permutation(len(corpus))[:15]
            expected = plain.get_scores(query)[candidates]
            assert ranker.score_candidates(query, candidates).tolist() == expected.tolist()
    assert n_floored > 10, "words of over half of the notes are what the floor is for"


def test_the_best_notes_are_those_of_rank_bm25_with_ties_by_row():
    n_cut = 0
    for corpus, queries in random_corpora(60):
        ranker, plain = index(corpus), BM25Okapi(corpus)
        for query in queries:
            scores = plain.get_scores(query)
            order = np.lexsort((np.arange(len(corpus)), -scores))
            order = order[scores[order] > 0]
            for k in (1, 3, 10, 1000):
                rows, found = ranker.top(query, k)
                assert rows.tolist() == order[:k].tolist()
                assert found.tolist() == scores[order[:k]].tolist()
                n_cut += len(order) > k
    assert n_cut > 500


def test_the_best_notes_of_a_corpus_in_which_frequent_words_decide_nothing():
    # One rare word in 200 of 20,000 notes and a word in half of them: only the 200 are looked at.
    rng = np.random.default_rng(2)
    corpus = [
        [0] * int(rng.integers(1, 4)) * (note % 100 == 0)
        + [1] * (note % 2) * int(rng.integers(1, 9))
        + [2 + note % 7] * int(rng.integers(1, 30))
        for note in range(20_000)
    ]
    ranker = index(corpus)
    for query in ([0, 1], [1, 0, 0], [1], [0, 3, 1], [5, 6, 7, 1, 2]):
        scores = ranker.score_candidates(query, np.arange(len(corpus)))
        order = np.lexsort((np.arange(len(corpus)), -scores))[:100]
        rows, found = ranker.top(query, 100)
        assert rows.tolist() == order[scores[order] > 0].tolist()
        assert found.tolist() == scores[rows].tolist()


def test_a_score_by_hand():
    # One of five notes holds word 0, once; every note has the mean length, two words.
    ranker = index([[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]])
    idf = math.log(5 - 1 + 0.5) - math.log(1 + 0.5)
    assert ranker.score_candidates([0], [0, 1]) == pytest.approx([idf * 2.5 / 2.5, 0.0])


def test_the_weight_of_a_word_comes_from_the_corpus_not_from_the_candidates():
    # Both words stand in one of two candidates; in the corpus one is rare and one is frequent.
    rare, usual = 0, 1
    corpus = [[rare, 2], [usual, 3]] + [[usual, 4]] * 3 + [[5, 6]] * 6
    scores = index(corpus).score_candidates([rare, usual], [0, 1])
    assert scores[0] > scores[1] > 0


def test_empty_queries_and_empty_notes_score_zero(notes):
    ranker, words = notes
    assert ranker.n_notes == len(NOTES)
    scores = ranker.score_candidates(words("痘坑"), [0, 1, 4, 5])
    assert scores[1] > scores[0] > 0
    assert scores[2:].tolist() == [0.0, 0.0]
    assert ranker.score_candidates([], [0, 1]).tolist() == [0.0, 0.0]
    assert ranker.score_candidates(words("痘"), []).tolist() == []
    assert ranker.top([], 5)[0].tolist() == []
    assert ranker.top(words("痘坑"), 1)[0].tolist() == [1]


def test_an_empty_corpus_is_refused_in_words():
    with pytest.raises(TooLittleData, match="needs notes to index"):
        index([])
    with pytest.raises(TooLittleData, match="none of 2 notes has one"):
        index([[], []])


def test_requests_are_scored_in_the_order_given(notes):
    ranker, words = notes
    queries = flat([words("痘坑"), [], words("美甲")])
    scores = ranker.score_requests(*queries, [2, 0, 1, 0, 1, 3, 2], [0, 3, 5, 7])
    assert scores.score.shape == (7,)
    assert scores.score[:3].argmax() == 2
    assert scores.score[3:5].tolist() == [0.0, 0.0]
    assert scores.score[5] > scores.score[6] == 0
    assert scores.constant_share == pytest.approx(1 / 3)
    alone = ranker.score_requests(*flat([words("痘坑")]), [0], [0, 1])
    assert alone.constant_share == 0.0, "one candidate is no choice, so it is not counted"


def test_the_constant_share_counts_requests_with_a_choice_only(notes):
    ranker, words = notes
    scores = ranker.score_requests(
        *flat([words("痘坑"), words("痘坑"), [], words("痘坑"), words("美甲"), []]),
        [0, 2, 3, 0, 1, 4, 5],
        [0, 1, 1, 3, 5, 5, 7],
    )
    # Requests of 1, 0, 2, 2, 0 and 2 candidates; two of the three with a choice are constant.
    assert scores.constant_share == pytest.approx(2 / 3)


def test_a_run_that_ranks_nothing_is_refused(notes):
    ranker, words = notes
    with pytest.raises(
        TooLittleData, match="each of 2 requests: queries and notes share no telling"
    ):
        ranker.score_requests(*flat([words("zz"), []]), [0, 1, 2, 3], [0, 2, 4])


def test_arrays_that_do_not_fit_are_refused():
    ranker = index([[0], [1]])
    with pytest.raises(ValueError, match="candidate 2 is outside the corpus of 2 notes"):
        ranker.score_candidates([0], [0, 2])
    with pytest.raises(ValueError, match="candidate -1 is outside"):
        ranker.score_candidates([0], [-1])
    with pytest.raises(ValueError, match="1 queries need 2 request offsets"):
        ranker.score_requests([0], [0, 1], [0, 1], [0, 1, 2])
    with pytest.raises(ValueError, match="request offsets must rise from 0 to the number of cand"):
        ranker.score_requests([0], [0, 1], [0, 1], [0, 3])
    with pytest.raises(ValueError, match="query offsets must rise from 0 to the number of words"):
        ranker.score_requests([0], [0, 2], [0, 1], [0, 2])
    with pytest.raises(ValueError, match="k = 0 must be at least 1"):
        ranker.top([0], 0)
    with pytest.raises(ValueError, match=r"a word is outside 0\.\.0"):
        BM25Index(np.array([0, 1], dtype=np.int32), [0, 2], 1)
    with pytest.raises(ValueError, match=r"a word is outside 0\.\.4"):
        BM25Index(np.array([0, -1], dtype=np.int32), [0, 2], 5)
