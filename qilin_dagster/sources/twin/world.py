"""Who and what there is: notes with their latent worth, users with their tastes.

Notes live in *latent order*, sorted by (pool, form, domain, subject, aspect): every cell, subject
and domain is one contiguous interval, so drawing a note "about X" is one multiplication. The
published ``note_idx`` is given out afterwards (see ``blocks``), because in the published log it
depends on what was clicked.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from qilin_dagster.sources.twin.draws import Floats, Ints, dealt, picked, stream
from qilin_dagster.sources.twin.lexicon import (
    ASPECTS_PER_FAMILY,
    FAMILIES,
    aspects,
    domains,
    subjects,
)
from qilin_dagster.sources.twin.targets import AGE, GENDER, PLATFORM, WITH_IMAGE, Sizes

# Pools: notes that search shows, that the feed shows, that only the late feed shows, that the
# answer traffic shows, and advertisements. Sizes follow the blocks and the coverage of the log.
SEARCH_POOL, FEED_POOL, FRESH_POOL, ANSWER_POOL, COMMERCIAL_POOL = range(5)
POOL_SHARES: Final = (0.489, 0.310, 0.065, 0.122, 0.014)
POOL_VIDEO: Final = (0.23, 0.41, 0.41, 0.23, 0.41)
TEXT, VIDEO = 0, 1
TASTES: Final = 4  # subjects a user likes
TASTE_WEIGHTS: Final = (0.4, 0.3, 0.2, 0.1)
IMAGE_SALT: Final = 100


@dataclass(frozen=True)
class Notes:
    """One entry per note, in latent order."""

    pool: Ints
    form: Ints  # 0 image-text, 1 video
    subject: Ints
    aspect: Ints
    surface: Ints  # which of the two names of the subject the note uses
    quality: Floats  # standard normal; shows in text and static numbers
    look: Floats  # standard normal; shows in the images only
    has_image: Ints
    starts: Ints  # of each cell, and the end
    first_draw: int  # where this world's stateless text draws begin
    first_folder: int  # where its image folders begin

    def __len__(self) -> int:
        return len(self.subject)

    def interval(
        self, pool: Ints, form: Ints, subject: Ints, aspect: Ints, level: Ints
    ) -> tuple[Ints, Ints]:
        """Latent interval of notes in a cell (level 0), subject (1), domain (2) or pool (3).

        Widened by a level where it is empty: small worlds do not have a note about everything.
        """
        first, last = _domain_edges()
        domain = SUBJECT_DOMAIN[subject]
        row = pool * 2 + form
        low = np.zeros(len(subject), dtype=np.int64)
        high = np.zeros(len(subject), dtype=np.int64)
        bounds = (
            (cell_id(row, subject, aspect), cell_id(row, subject, aspect) + 1),
            (cell_id(row, subject, 0), cell_id(row, subject + 1, 0)),
            (cell_id(row, first[domain], 0), cell_id(row, last[domain], 0)),
            (cell_id(row, 0, 0), cell_id(row + 1, 0, 0)),
        )
        for number, (begin, end) in enumerate(bounds):
            use = (level <= number) & (high <= low)
            low = np.where(use, self.starts[begin], low)
            high = np.where(use, self.starts[end], high)
        return low, high

    def n_images(self, latent: Ints) -> Ints:
        """How many image paths a note has; better notes have a few more."""
        u = (picked(latent + self.first_draw, IMAGE_SALT, 1 << 30) + 0.5) / (1 << 30)
        # A discrete exponential around the mean, such that notes with an image have 4.68 on average
        # (paper, table 2): stateless, so that every reader finds the same.
        mean = np.exp(1.42 + 0.25 * self.quality[latent])
        extra = np.floor(-np.log1p(-u) * mean).astype(np.int64)
        return np.where(self.has_image[latent] == 1, np.minimum(1 + extra, 18), 0)


@dataclass(frozen=True)
class Users:
    """One entry per user; tastes are ``TASTES`` subjects, most liked first."""

    taste: Ints  # (users, TASTES)
    activity: Floats
    gender: Ints
    platform: Ints
    age: Ints


SUBJECT_DOMAIN: Final = np.array([subject.domain for subject in subjects()])
SUBJECT_FAMILY: Final = np.array([FAMILIES.index(subject.family) for subject in subjects()])
FACTUAL: Final = np.array(
    [[aspect.is_factual for aspect in aspects()[family]] for family in FAMILIES]
)


def cell_id(row: Ints | int, subject: Ints | int, aspect: Ints | int) -> Ints:
    """Number of a cell; ``row`` is pool * 2 + form."""
    return np.asarray((row * len(subjects()) + subject) * ASPECTS_PER_FAMILY + aspect)


def _domain_edges() -> tuple[Ints, Ints]:
    numbers = np.arange(len(domains()))
    return (
        np.searchsorted(SUBJECT_DOMAIN, numbers, side="left"),
        np.searchsorted(SUBJECT_DOMAIN, numbers, side="right"),
    )


def subject_weights() -> Floats:
    """How much is written and asked about each subject: a mild power law over the word list."""
    order = np.argsort((np.arange(len(subjects())) * 7919) % 1009, kind="stable")
    weights: Floats = np.empty(len(subjects()))
    weights[order] = 1.0 / (np.arange(len(subjects())) + 20.0) ** 0.6
    weights /= weights.sum()
    return weights


def make_notes(sizes: Sizes, seed: int, first_folder: int = 0) -> Notes:
    """Draw all notes and put them in latent order."""
    rng = stream(seed, "notes")
    count = sizes.notes
    pool = dealt(rng, POOL_SHARES, count).astype(np.int64)
    form = (rng.random(count) < np.array(POOL_VIDEO)[pool]).astype(np.int64)
    subject = rng.choice(len(subjects()), count, p=subject_weights())
    aspect = rng.integers(0, ASPECTS_PER_FAMILY, count)
    cell = cell_id(pool * 2 + form, subject, aspect)
    order = np.argsort(cell, kind="stable")
    n_cells = len(POOL_SHARES) * 2 * len(subjects()) * ASPECTS_PER_FAMILY
    has_image = (rng.random(count) < WITH_IMAGE).astype(np.int64)
    return Notes(
        pool=pool[order],
        form=form[order],
        subject=subject[order],
        aspect=aspect[order],
        surface=(rng.random(count) < 0.4).astype(np.int64),
        quality=rng.standard_normal(count),
        look=rng.standard_normal(count),
        has_image=has_image,
        starts=np.searchsorted(cell[order], np.arange(n_cells + 1)),
        first_draw=int(rng.integers(1 << 40)),
        first_folder=first_folder,
    )


def make_users(sizes: Sizes, seed: int) -> Users:
    """Draw users with four liked subjects, two of them from one domain."""
    rng = stream(seed, "users")
    count = sizes.users
    taste = rng.choice(len(subjects()), (count, TASTES), p=subject_weights())
    first, last = _domain_edges()
    home = SUBJECT_DOMAIN[taste[:, 0]]
    span = last[home] - first[home]
    taste[:, 1] = first[home] + (rng.random(count) * span).astype(np.int64)
    return Users(
        taste=taste,
        activity=rng.gamma(0.9, 1.0, count) + 0.05,
        gender=dealt(rng, [share for _, share in GENDER], count),
        platform=dealt(rng, [share for _, share in PLATFORM], count),
        age=dealt(rng, [share for _, share in AGE], count),
    )
