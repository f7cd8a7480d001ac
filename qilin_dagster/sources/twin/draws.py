"""Random draws: one independent generator per part of the world, and exact quotas.

A part has its own stream, so a change in one part leaves the draws of the others as they were.
"""

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def stream(seed: int, part: str) -> np.random.Generator:
    """The generator of one named part of the world."""
    return np.random.Generator(
        np.random.PCG64DXSM(np.random.SeedSequence([seed, zlib.crc32(part.encode())]))
    )


def quota(shares: Sequence[float], count: int) -> Ints:
    """``count`` split by ``shares`` with the largest remainders rounded up; sums to ``count``."""
    exact = np.asarray(shares, dtype=float) / sum(shares) * count
    whole = np.floor(exact).astype(np.int64)
    short = count - int(whole.sum())
    whole[np.argsort(-(exact - whole), kind="stable")[:short]] += 1
    return whole


def dealt(rng: np.random.Generator, shares: Sequence[float], count: int) -> Ints:
    """``count`` categories in random order, each as often as its share says."""
    deck = np.repeat(np.arange(len(shares)), quota(shares, count))
    rng.shuffle(deck)
    return deck


def offsets(lengths: Ints) -> Ints:
    """Starts of consecutive runs with these lengths, and the end of the last."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def within(lengths: Ints) -> Ints:
    """0, 1, 2, ... inside each of the consecutive runs."""
    starts = offsets(lengths)
    return np.arange(starts[-1], dtype=np.int64) - np.repeat(starts[:-1], lengths)


def mixed(values: Ints, salt: int) -> NDArray[np.uint64]:
    """Well-mixed 64 bits per value and salt (splitmix64): stateless draws for text pieces."""
    with np.errstate(over="ignore"):
        bits = values.astype(np.uint64) + np.uint64((salt * 0x9E3779B97F4A7C15) % 2**64)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return bits ^ (bits >> np.uint64(31))


def picked(values: Ints, salt: int, size: int) -> Ints:
    """A stateless draw from 0..size-1 per value."""
    return (mixed(values, salt) % np.uint64(size)).astype(np.int64)
