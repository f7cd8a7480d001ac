"""Chinese text of notes, users' pseudo queries and answers, from the project's own grammar.

All pieces are chosen by stateless draws on the latent number of a note, so the title of a note can
be written wherever it is needed without keeping two million strings.
"""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qilin_dagster.sources.twin import lexicon
from qilin_dagster.sources.twin.draws import Ints, picked
from qilin_dagster.sources.twin.lexicon import FACTS, FAMILIES, Fact, aspects, domains, subjects
from qilin_dagster.sources.twin.world import (
    COMMERCIAL_POOL,
    SUBJECT_DOMAIN,
    SUBJECT_FAMILY,
    Notes,
)

# Salts of the stateless draws; one per piece of text.
(HEAD, TAIL, ASPECT_NAME, OPENING, EMOJI_1, EMOJI_2, FACT, NUMBER, SECOND, LINE) = range(10)
(CLOSING, OTHER_NAME, STYLE, SECOND_NUMBER, MODIFIER, DETAIL) = range(10, 16)
N_DETAILS: Final = 5
NO_TEXT: Final = 0.0018  # files: 99.82 % of notes have text

_NAMES: Final = [name for subject in subjects() for name in subject.names]
_ASPECT_NAMES: Final = [
    name for family in FAMILIES for aspect in aspects()[family] for name in aspect.names
]
_FACTS: Final[list[Fact]] = [fact for family in FAMILIES for fact in FACTS[family]]
_FACTS_PER_FAMILY: Final = 4


def _pick(notes: Notes, latent: Ints, salt: int, size: int) -> Ints:
    return picked(latent + notes.first_draw, salt, size)


def _from(words: tuple[str, ...] | list[str], index: Ints) -> pa.Array:
    return pa.array(words, pa.string()).take(pa.array(index))


def _joined(pieces: list[pa.Array | str]) -> pa.Array:
    parts = [pa.scalar(piece) if isinstance(piece, str) else piece for piece in pieces]
    return pc.binary_join_element_wise(*parts, "")


def subject_names(notes: Notes, latent: Ints) -> pa.Array:
    """The name each note uses for its subject."""
    return _from(_NAMES, notes.subject[latent] * 2 + notes.surface[latent])


def aspect_names(notes: Notes, latent: Ints) -> pa.Array:
    """The name each note uses for its aspect."""
    place = SUBJECT_FAMILY[notes.subject[latent]] * lexicon.ASPECTS_PER_FAMILY
    return _from(
        _ASPECT_NAMES, (place + notes.aspect[latent]) * 2 + _pick(notes, latent, ASPECT_NAME, 2)
    )


def titles(notes: Notes, latent: Ints) -> pa.Array:
    """Titles of notes: head, subject, aspect, tail."""
    modifiers = lexicon.MODIFIERS[2] + ("",) * 10
    return _joined(
        [
            _from(lexicon.TITLE_HEADS, _pick(notes, latent, HEAD, len(lexicon.TITLE_HEADS))),
            _from(modifiers, _pick(notes, latent, MODIFIER, len(modifiers))),
            subject_names(notes, latent),
            aspect_names(notes, latent),
            _from(lexicon.TITLE_TAILS, _pick(notes, latent, TAIL, len(lexicon.TITLE_TAILS))),
        ]
    )


def facts(notes: Notes, latent: Ints, second: bool = False) -> pa.Array:
    """A sentence with a number that the note states, and that an answer may quote."""
    family = SUBJECT_FAMILY[notes.subject[latent]]
    shift = 1 + _pick(notes, latent, SECOND, _FACTS_PER_FAMILY - 1) if second else 0
    which = (_pick(notes, latent, FACT, _FACTS_PER_FAMILY) + shift) % _FACTS_PER_FAMILY
    index = family * _FACTS_PER_FAMILY + which
    low = np.array([fact.low for fact in _FACTS])[index]
    high = np.array([fact.high for fact in _FACTS])[index]
    step = np.array([fact.step for fact in _FACTS])[index]
    salt = SECOND_NUMBER if second else NUMBER
    number = low + step * (_pick(notes, latent, salt, 1 << 30) % ((high - low) // step + 1))
    return _joined(
        [
            _from([fact.before for fact in _FACTS], index),
            pa.array(number).cast(pa.string()),
            _from([fact.after for fact in _FACTS], index),
        ]
    )


def quality_lines(notes: Notes, latent: Ints) -> pa.Array:
    """A sentence that gives the quality of a note away, not without error."""
    noise = (_pick(notes, latent, STYLE, 1000) - 499.5) / 300.0
    shown = notes.quality[latent] + noise
    kind = np.where(shown > 0.7, 0, np.where(shown > -0.7, 1, 2))
    lines = lexicon.GOOD_LINES + lexicon.PLAIN_LINES + lexicon.POOR_LINES
    return _from(lines, kind * 6 + _pick(notes, latent, LINE, 6))


def _detail(notes: Notes, latent: Ints, slot: int) -> pa.Array:
    """A line around the facts, or none; slots choose from different lines, so none comes twice."""
    lines = (*lexicon.DETAIL_LINES[slot::N_DETAILS], "", "")
    return _from(lines, _pick(notes, latent, DETAIL + slot, len(lines)))


def contents(notes: Notes, latent: Ints) -> pa.Array:
    """Bodies of notes: opening, facts, a telling line, closing and hashtags."""
    names, sides = subject_names(notes, latent), aspect_names(notes, latent)
    emoji = lexicon.EMOJI
    # A third of the notes mention the other name too: lexical matching is possible there.
    other = np.where(_pick(notes, latent, OTHER_NAME, 3) == 0, 1 - notes.surface[latent], -1)
    other_names = _from(
        [*_NAMES, ""], np.where(other < 0, len(_NAMES), notes.subject[latent] * 2 + other)
    )
    advert = np.where(notes.pool[latent] == COMMERCIAL_POOL, _pick(notes, latent, LINE, 4), 4)
    return _joined(
        [
            _from(lexicon.OPENINGS, _pick(notes, latent, OPENING, len(lexicon.OPENINGS))),
            names,
            sides,
            _from(emoji, _pick(notes, latent, EMOJI_1, len(emoji))),
            "\n一：",
            facts(notes, latent),
            "。\n二：",
            facts(notes, latent, second=True),
            "。\n",
            *[_detail(notes, latent, slot) for slot in range(N_DETAILS)],
            quality_lines(notes, latent),
            _from(emoji, _pick(notes, latent, EMOJI_2, len(emoji))),
            _from((*lexicon.COMMERCIAL_LINES, ""), advert),
            "\n",
            _from(lexicon.CLOSINGS, _pick(notes, latent, CLOSING, len(lexicon.CLOSINGS))),
            "\n#",
            names,
            "[话题]# #",
            sides,
            "[话题]# #",
            _from(list(domains()), SUBJECT_DOMAIN[notes.subject[latent]]),
            "[话题]# ",
            other_names,
        ]
    )


def answer(query: str, facts_of_notes: list[tuple[str, str]]) -> str:
    """A direct answer in Markdown; every statement cites the referred note it is taken from."""
    lines = [f"关于**{query}**，综合大家的笔记，要点如下：\n"]
    for number, (said, also) in enumerate(facts_of_notes, start=1):
        head = _ANSWER_HEADS[(number - 1) % len(_ANSWER_HEADS)]
        lines.append(
            f"{number}. {head}：{said}[第{number}篇](#)。另外，{also}[第{number}篇](#)。\n"
        )
    lines.append("以上内容仅供参考，建议结合自己的情况选择。")
    return "".join(lines)


_ANSWER_HEADS: Final = ("**基本情况**", "**具体做法**", "**需要留意**", "**补充说明**")
