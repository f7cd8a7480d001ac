"""An answer by copying: no model, nothing invented, the same every time.

Of each passage the sentences that share most with the question, or else its first: the baseline
that a language model has to beat, and proof that better passages make better answers.
"""

import re
from collections.abc import Sequence

from models.answers.prompt import Question

_SENTENCE = re.compile(r"[^。！？!?\n]+[。！？!?]?")
PER_PASSAGE = 2
LEAST, MOST = 6, 80  # characters of a sentence that is worth copying


class Extractive:
    """Lead and overlap: ``PER_PASSAGE`` sentences of each passage, cited."""

    name = "extractive (lead and overlap)"
    identity = "extractive-1"
    batch_size = 256

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """An answer to each question; one without passages repeats the question."""
        return [self._answer(question) for question in questions]

    def _answer(self, question: Question) -> str:
        lines = [f"关于{question.query}："]
        said: set[str] = set()
        for number, passage in enumerate(question.passages, start=1):
            sentences = [
                one
                for sentence in _SENTENCE.findall(passage)
                if LEAST <= len(one := sentence.strip()) <= MOST and one not in said
            ]
            asked = _pairs(question.query)
            # A fact mostly has a number in it; of equals the earlier sentence.
            best = sorted(
                range(len(sentences)),
                key=lambda i: (
                    -len(asked & _pairs(sentences[i])) - 2 * any(map(str.isdigit, sentences[i])),
                    i,
                ),
            )[:PER_PASSAGE]
            for i in sorted(best):
                said.add(sentences[i])
                lines.append(f"{sentences[i].rstrip('。')}[第{number}篇](#)。")
        return "".join(lines)


def _pairs(text: str) -> set[str]:
    return {text[i : i + 2] for i in range(len(text) - 1)}
