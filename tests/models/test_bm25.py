"""Words and BM25 scores of candidates."""

import math

import numpy as np
import pytest
from rank_bm25 import BM25Okapi

from models.bm25 import BM25Ranker, tokenize
from models.ranking_data import TooLittleData

NOTES = [
    "脸上有痘坑治还是不治疗",
    "六次点阵解决不了的痘坑要咋办？#痘坑[话题]# #痘坑修复[话题]#",
    "上海周末去哪儿玩 city walk 路线",
    "显白美甲 春天的颜色",
    "",
    "[偷笑R][偷笑R]",
    "平价护肤品 学生党 痘痘肌",
]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("在小红书上看到", ["在", "小红书", "上", "看到"]),
        ("刷小红书时", ["刷", "小红书", "时"]),
        ("iPhone 15Pro，好用吗？！", ["iphone", "15pro", "好", "用", "吗"]),
        ("#通勤[话题]# #美甲[话题]#", ["通勤", "美甲"]),
        ("会选择治疗吗 [PK]#", ["会", "选择", "治疗", "吗"]),
        ("好吃[偷笑R]好玩[哭惹R]😂✨", ["好吃", "好玩"]),
        ("\ufeff护肤\u200b品", ["护肤品"]),
        ("ＯＯＴＤ　１２３", ["ootd", "123"]),
        ("[重要]看这里", ["重要", "看", "这里"]),
        ("  \n,。#!", []),
        ("", []),
    ],
)
def test_words_without_markup_punctuation_and_emoji(text, words):
    assert tokenize(text) == words


def test_candidate_scores_equal_those_of_the_whole_corpus():
    rng = np.random.default_rng(0)
    vocabulary = [f"w{i}" for i in range(60)]
    corpus = [rng.choice(vocabulary, size=rng.integers(0, 30)).tolist() for _ in range(80)]
    ranker = BM25Ranker(corpus, k1=1.2, b=0.6)
    plain = BM25Okapi(corpus, k1=1.2, b=0.6)
    for _ in range(30):
        query = rng.choice([*vocabulary, "unknown"], size=rng.integers(0, 6)).tolist()
        candidates = rng.permutation(80)[:15]
        expected = plain.get_scores(query)[candidates]
        found = ranker.score_candidates(query, candidates)
        assert found.tolist() == expected.tolist()


def test_a_score_by_hand():
    # One of five notes holds w, once; every note has the mean length, two words.
    ranker = BM25Ranker([["w", "x"], ["y", "z"], ["u", "v"], ["s", "t"], ["q", "r"]])
    idf = math.log(5 - 1 + 0.5) - math.log(1 + 0.5)
    assert ranker.score_candidates(["w"], [0, 1]) == pytest.approx([idf * 2.5 / 2.5, 0.0])


def test_the_weight_of_a_word_comes_from_the_corpus_not_from_the_candidates():
    # Both words stand in one of two candidates; in the corpus one is rare and one is frequent.
    corpus = [["rare", "a"], ["usual", "b"]] + [["usual", "c"]] * 3 + [["d", "e"]] * 6
    rare, usual = BM25Ranker(corpus).score_candidates(["rare", "usual"], [0, 1])
    assert rare > usual > 0


def test_empty_queries_and_empty_notes_score_zero():
    ranker = BM25Ranker([tokenize(note) for note in NOTES])
    assert ranker.n_notes == len(NOTES)
    scores = ranker.score_candidates(tokenize("痘坑"), [0, 1, 4, 5])
    assert scores[1] > scores[0] > 0
    assert scores[2:].tolist() == [0.0, 0.0]
    assert ranker.score_candidates([], [0, 1]).tolist() == [0.0, 0.0]
    assert ranker.score_candidates(["痘"], []).tolist() == []


def test_an_empty_corpus_is_refused_in_words():
    with pytest.raises(TooLittleData, match="needs notes to index"):
        BM25Ranker([])
    with pytest.raises(TooLittleData, match="none of 2 notes has one"):
        BM25Ranker([[], []])


def test_requests_are_scored_in_the_order_given():
    ranker = BM25Ranker([tokenize(note) for note in NOTES])
    queries = [tokenize("痘坑"), [], tokenize("美甲")]
    scores = ranker.score_requests(queries, [0, 3, 5, 7], [2, 0, 1, 0, 1, 3, 2])
    assert scores.score.shape == (7,)
    assert scores.score[:3].argmax() == 2
    assert scores.score[3:5].tolist() == [0.0, 0.0]
    assert scores.score[5] > scores.score[6] == 0
    assert scores.constant_share == pytest.approx(1 / 3)
    alone = ranker.score_requests(queries[:1], [0, 1], [0])
    assert alone.constant_share == 0.0, "one candidate is no choice, so it is not counted"


def test_a_run_that_ranks_nothing_is_refused():
    ranker = BM25Ranker([tokenize(note) for note in NOTES])
    with pytest.raises(
        TooLittleData, match="each of 2 requests: queries and notes share no telling"
    ):
        ranker.score_requests([["zz"], []], [0, 2, 4], [0, 1, 2, 3])


def test_arrays_that_do_not_fit_are_refused():
    ranker = BM25Ranker([["a"], ["b"]])
    with pytest.raises(ValueError, match="candidate 2 is outside the corpus of 2 notes"):
        ranker.score_candidates(["a"], [0, 2])
    with pytest.raises(ValueError, match="candidate -1 is outside"):
        ranker.score_candidates(["a"], [-1])
    with pytest.raises(ValueError, match="need 2 request offsets"):
        ranker.score_requests([["a"]], [0, 1, 2], [0, 1])
    with pytest.raises(ValueError, match="must rise from 0"):
        ranker.score_requests([["a"]], [0, 3], [0, 1])
