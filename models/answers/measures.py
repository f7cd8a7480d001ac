"""How near an answer is to the one that was shown, and how far its passages bear it out.

ROUGE-L after Lin 2004 with F1 of precision and recall. Chinese has no spaces, so what is compared
must be said: characters (each letter or digit one, lower case, no punctuation), or the words of
`models.words`.
"""

import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from models.answers.prompt import cited, plain

Unit = Literal["characters", "words"]
GRAM = 4


@dataclass(frozen=True)
class Overlap:
    """Shares in 0..1; ``f1`` is 0 when either text is empty."""

    precision: float
    recall: float
    f1: float


def units(text: str, unit: Unit) -> list[str]:
    """What is compared: letters and digits one by one, or words; citations and Markdown are not."""
    if unit == "words":
        from models.words import tokenize

        return tokenize(plain(text))
    return [c for c in unicodedata.normalize("NFKC", plain(text)).lower() if c.isalnum()]


def rouge_l(answer: str, reference: str, unit: Unit = "characters") -> Overlap:
    """Longest common subsequence of the two texts, as shares of either length."""
    from rapidfuzz.distance import LCSseq

    ours, theirs = units(answer, unit), units(reference, unit)
    if not ours or not theirs:
        return Overlap(0.0, 0.0, 0.0)
    common = LCSseq.similarity(ours, theirs)
    precision, recall = common / len(ours), common / len(theirs)
    f1 = 2 * precision * recall / (precision + recall) if common else 0.0
    return Overlap(precision, recall, f1)


def groundedness(answer: str, passages: Sequence[str]) -> float | None:
    """Share of the runs of four letters of an answer that some passage holds; None without any."""
    grams = _grams(units(answer, "characters"))
    if not grams or not passages:
        return None
    held = set[str]().union(*(_grams(units(passage, "characters")) for passage in passages))
    return sum(gram in held for gram in grams) / len(grams)


def citation_quality(
    answer: str, passage_notes: Sequence[int], referred: Collection[int]
) -> tuple[float | None, float | None]:
    """Precision and recall of the notes that an answer cites, against those the shown one did.

    A number beyond the passages cites nothing: it lowers precision. Precision is None without
    citations, recall without referred notes.
    """
    numbers = cited(answer)
    notes = {passage_notes[n - 1] for n in numbers if 1 <= n <= len(passage_notes)}
    n_invented = sum(not 1 <= n <= len(passage_notes) for n in numbers)
    hit = len(notes & set(referred))
    n_cited = len(notes) + n_invented
    return (hit / n_cited if n_cited else None, hit / len(set(referred)) if referred else None)


def _grams(characters: list[str]) -> list[str]:
    return ["".join(characters[i : i + GRAM]) for i in range(len(characters) - GRAM + 1)]
