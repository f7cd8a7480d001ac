"""What a generator is given: a question and numbered passages, each to be cited as [第N篇](#)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

# As the log writes it; some answers leave the empty link out.
CITATION = re.compile(r"\[第\s*(\d{1,3})\s*篇\](?:\(#?\))?")
_MARKUP = re.compile(r"\*\*|^#+\s*|`", re.MULTILINE)

INSTRUCTION = (
    "请只根据下面编号的笔记回答问题，用简洁的中文。每句话后用[第N篇](#)标出所依据的笔记，"
    "N是笔记的编号；笔记里没有的内容不要写。"
)
INSTRUCTION_WITHOUT = "请用简洁的中文回答问题。"


@dataclass(frozen=True)
class Question:
    """A query and the passages to answer from, numbered from 1 in this order; there may be none."""

    query: str
    passages: tuple[str, ...]

    def prompt(self) -> str:
        """The question as text for a language model."""
        if not self.passages:
            return f"{INSTRUCTION_WITHOUT}\n\n问题：{self.query}"
        notes = "\n\n".join(f"[第{n}篇]\n{text}" for n, text in enumerate(self.passages, start=1))
        return f"{INSTRUCTION}\n\n{notes}\n\n问题：{self.query}"


class Generator(Protocol):
    """Writes answers. ``identity`` changes with all that may change an answer."""

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str: ...

    @property
    def batch_size(self) -> int: ...

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """An answer to each question, in their order; empty where there is nothing to say."""
        ...


def cited(answer: str) -> list[int]:
    """Numbers of the passages that an answer cites, in order, each once."""
    return list(dict.fromkeys(int(number) for number in CITATION.findall(answer)))


def plain(text: str) -> str:
    """The words of an answer, without citations and Markdown."""
    return _MARKUP.sub("", CITATION.sub("", text)).strip()
