"""Words and their numbers."""

import numpy as np
import pytest

from models.words import NO_WORD, WordNumbers, number_words, tokenize


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


def test_numbers_are_those_of_the_words_in_the_order_met():
    texts = ["痘坑修复，痘坑！", "", "[偷笑R] 。。", "修复 OOTD ＯＯＴＤ"]
    numbers = WordNumbers()
    number, n_of_text = number_words(texts, numbers)
    assert number.dtype == np.int32
    assert n_of_text.tolist() == [len(tokenize(text)) for text in texts]
    assert [numbers.words[i] for i in number] == [word for t in texts for word in tokenize(t)]
    assert numbers.words == ["痘", "坑", "修复", "ootd"]
    assert numbers["，"] == NO_WORD

    again, _ = number_words(["新 修复"], numbers)
    assert again.tolist() == [4, 2], "numbers once given stay"
    assert number_words([], numbers)[0].shape == (0,)
    assert number_words([""], numbers)[1].tolist() == [0]


def test_full_width_marks_are_what_nfkc_makes_of_them():
    marks = "".join(map(chr, range(0x3000, 0x3020))) + "".join(map(chr, range(0xFF00, 0xFFF0)))
    assert tokenize(f"春天{marks}护肤…⑨") == [*tokenize(f"春天 {marks}"), "护肤", "9"]
