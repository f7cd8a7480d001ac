"""Prompts, generators and measures of answers; ROUGE-L by hand."""

import io
import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from models.answers.endpoint import Endpoint, EndpointError
from models.answers.extractive import Extractive
from models.answers.measures import citation_quality, groundedness, rouge_l
from models.answers.prompt import Question, cited, plain

QUESTION = Question("西安门票多少钱", ("门票80元，提前一天预约。人很多。", "坐地铁大约30分钟。"))


@pytest.mark.parametrize(
    ("answer", "reference", "unit", "precision", "recall"),
    [
        # 我爱京 of 我爱北京: three of three, three of four.
        ("我爱京", "我爱北京", "characters", 3 / 3, 3 / 4),
        # Order counts: of 京北 and 北京 one character is common in order.
        ("京北", "北京", "characters", 1 / 2, 1 / 2),
        # Punctuation, Markdown, citations, width and case do not count.
        ("**门票**：８０元[第1篇](#)。", "门票80元", "characters", 1.0, 1.0),
        ("ABC", "abc", "characters", 1.0, 1.0),
        # 北京大学 | 招生 | 条件 and 北京大学 | 的 | 条件: two words of three, two of three.
        ("北京大学招生条件", "北京大学的条件", "words", 2 / 3, 2 / 3),
        # In characters 北京大学条件: six of eight, six of seven.
        ("北京大学招生条件", "北京大学的条件", "characters", 6 / 8, 6 / 7),
        ("", "北京", "characters", 0.0, 0.0),
        ("[第1篇](#)", "北京", "words", 0.0, 0.0),
        ("上海", "北京", "characters", 0.0, 0.0),
    ],
)
def test_rouge_l_by_hand(
    answer: str, reference: str, unit: Any, precision: float, recall: float
) -> None:
    found = rouge_l(answer, reference, unit)
    assert (found.precision, found.recall) == (pytest.approx(precision), pytest.approx(recall))
    both = precision + recall
    assert found.f1 == pytest.approx(2 * precision * recall / both if both else 0.0)


def test_citations_are_read_and_taken_out() -> None:
    text = "门票80元[第1篇](#)，[第12篇](#)另说[第1篇]。"
    assert cited(text) == [1, 12]
    assert plain(text) == "门票80元，另说。"


@pytest.mark.parametrize(
    ("answer", "referred", "precision", "recall"),
    [
        ("甲[第1篇](#)乙[第2篇](#)", [7, 9], 1 / 2, 1 / 2),
        # A number beyond the passages cites nothing.
        ("甲[第1篇](#)乙[第5篇](#)", [7], 1 / 2, 1.0),
        ("没有引用", [7], None, 0.0),
        # No referred notes: nothing to find again.
        ("甲[第1篇](#)", [], 0.0, None),
    ],
)
def test_citation_quality(
    answer: str, referred: list[int], precision: float | None, recall: float | None
) -> None:
    assert citation_quality(answer, [7, 8], referred) == (precision, recall)


def test_groundedness_is_the_share_of_runs_that_a_passage_holds() -> None:
    # 门票80元呢: runs 门票80, 票80元, 80元呢; the passage holds two.
    assert groundedness("门票80元呢", ["门票80元，预约"]) == pytest.approx(2 / 3)
    assert groundedness("门票", ["门票80元"]) is None
    assert groundedness("门票80元", []) is None


def test_prompts_number_their_passages_and_ask_for_citations() -> None:
    prompt = QUESTION.prompt()
    assert "[第1篇]\n门票80元" in prompt
    assert "[第2篇]\n坐地铁" in prompt
    assert prompt.endswith("问题：西安门票多少钱")
    assert "篇" not in Question("西安", ()).prompt()


def test_the_extractive_generator_copies_and_cites() -> None:
    answer, without = Extractive().answer([QUESTION, Question("西安", ())])
    assert answer == (
        "关于西安门票多少钱：门票80元，提前一天预约[第1篇](#)。坐地铁大约30分钟[第2篇](#)。"
    )
    assert without == "关于西安："


def test_a_server_is_asked_as_chat_completions_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[urllib.request.Request] = []

    def answered(request: urllib.request.Request, timeout: float) -> io.BytesIO:
        asked.append(request)
        return io.BytesIO(json.dumps({"choices": [{"message": {"content": " 80元 "}}]}).encode())

    monkeypatch.setattr(urllib.request, "urlopen", answered)
    assert Endpoint("http://here/v1/", "small", "secret").answer([QUESTION]) == ["80元"]
    (request,) = asked
    assert request.full_url == "http://here/v1/chat/completions"
    assert request.get_header("Authorization") == "Bearer secret"
    assert json.loads(request.data)["messages"][0]["content"] == QUESTION.prompt()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (urllib.error.HTTPError("u", 401, "Unauthorized", {}, None), "status 401"),  # type: ignore[arg-type]
        (urllib.error.URLError("no route"), "cannot be reached"),
        (io.BytesIO(b'{"choices": []}'), "does not answer as"),
        (io.BytesIO(b"<html>"), "does not answer as"),
    ],
)
def test_a_server_that_fails_is_named_without_the_key(
    monkeypatch: pytest.MonkeyPatch, fault: Any, said: str
) -> None:
    def fails(request: urllib.request.Request, timeout: float) -> io.BytesIO:
        if isinstance(fault, Exception):
            raise fault
        return fault

    monkeypatch.setattr(urllib.request, "urlopen", fails)
    with pytest.raises(EndpointError, match=said) as error:
        Endpoint("http://here", "small", "secret").answer([QUESTION])
    assert "secret" not in str(error.value)


def tiny_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[EOS]", "[CLS]", "[SEP]", *"问题回答门票元钱西安多少提前预约"]
    tokenizer = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate(dict.fromkeys(words))}, "[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]"
    )


def test_a_causal_model_writes_each_answer_whatever_stands_beside_it() -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from models.answers.causal_lm import CausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=32, num_hidden_layers=1, max_position_embeddings=256, **sizes)
    model = CausalLM("tiny", LlamaForCausalLM(config), tiny_tokenizer(), most_new_tokens=6)
    questions = [Question("西安门票多少钱", ("门票",)), Question("钱", ())]
    together = model.answer(questions)
    assert together == [model.answer([question])[0] for question in questions]
    assert all(together)


def test_bert_score_is_one_for_the_same_text_and_names_its_encoder() -> None:
    import torch
    from transformers import BertConfig, BertModel

    from models.answers.bert_score import BertScore

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=32,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    score = BertScore(BertModel(config), tiny_tokenizer(), "tiny", layer=1)
    assert score.name == "tiny, layer 1 of 2"
    same, other, empty = score.f1(
        ["门票多少钱", "门票多少钱", ""], ["门票多少钱", "西安预约", "门票"]
    )
    assert same == pytest.approx(1.0, abs=1e-5)
    assert other < 0.999
    assert empty == 0.0
    with pytest.raises(ValueError, match="layer 3"):
        BertScore(BertModel(config), tiny_tokenizer(), "tiny", layer=3)
