"""What words tell of clicks is found, and a note's own clicks never reach its appeal."""

import numpy as np
import pytest

from models.note_appeal import N_FOLDS, click_surplus, note_appeal

N_NOTES, N_WORDS, LENGTH = 3_000, 40, 12


def notes(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets and words of notes, and their true surplus: word 1 right after word 0 makes it."""
    rng = np.random.default_rng(seed)
    words = rng.integers(2, N_WORDS, (N_NOTES, LENGTH))
    has = rng.random(N_NOTES) < 0.3
    words[has, 4:6] = (0, 1)
    # Both words, but apart: only the pair counts.
    words[~has, 2], words[~has, 8] = 0, 1
    return np.arange(N_NOTES + 1) * LENGTH, words.ravel(), np.where(has, 0.2, -0.1)


def test_a_click_is_compared_with_its_request() -> None:
    surplus = click_surplus(
        np.array([0, 0, 1, 1, 2, 2, 2, 2]), np.array([1, 0, 1, 1, 1, 0, 0, 0]) > 0
    )
    assert surplus[:2].tolist() == [0.5, -0.5]
    assert np.isnan(surplus[2:4]).all(), "all clicked: nobody was preferred"
    assert surplus[4:].tolist() == [0.75, -0.25, -0.25, -0.25]


def test_what_pairs_of_words_tell_is_found_also_for_notes_never_shown() -> None:
    offsets, words, truth = notes(1)
    rng = np.random.default_rng(2)
    shown = np.where(rng.random(N_NOTES) < 0.8, 20, 0)
    surplus = shown * truth + np.sqrt(shown) * 0.4 * rng.standard_normal(N_NOTES)
    said: list[str] = []
    found = note_appeal(offsets, words, surplus, shown, said.append)
    for of in (shown > 0, shown == 0):
        assert np.corrcoef(found[of], truth[of])[0, 1] > 0.9
    assert "penalty" in said[0]


def test_the_clicks_on_a_note_do_not_move_its_own_appeal(monkeypatch: pytest.MonkeyPatch) -> None:
    # What all clicks choose together is how strongly to shrink.
    monkeypatch.setattr("models.note_appeal.PENALTIES", (300.0,))
    offsets, words, truth = notes(3)
    shown = np.full(N_NOTES, 10)
    before = note_appeal(offsets, words, shown * truth, shown, print)
    surplus = shown * truth
    # All of one fold gets clicks like never before.
    changed = np.arange(N_NOTES) % N_FOLDS == 2
    surplus[changed] += 8 * np.random.default_rng(0).standard_normal(changed.sum())
    after = note_appeal(offsets, words, surplus, shown, print)
    np.testing.assert_allclose(after[changed], before[changed], atol=1e-6)
    assert np.abs(after - before)[~changed].max() > 1e-3


def test_notes_that_nobody_was_shown_tell_nothing() -> None:
    offsets, words, _ = notes(4)
    nothing = np.zeros(N_NOTES)
    assert (note_appeal(offsets, words, nothing, nothing.astype(int), print) == 0).all()
    empty = np.zeros(1, dtype=np.int64)
    assert len(note_appeal(empty, empty[:0], nothing[:0], empty[:0], print)) == 0
