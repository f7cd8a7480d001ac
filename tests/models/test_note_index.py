"""The nearest notes: exact by hand, and what an inverted file leaves out is measured."""

import numpy as np

from models import note_index
from models.note_index import nearest


def embeddings(n: int, seed: int) -> np.ndarray:
    """Points around 40 centres, of unit length."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(40, 16))
    points = centres[draw.integers(0, 40, n)] + 0.5 * draw.normal(size=(n, 16))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def test_exact_search_is_a_sorted_product_in_however_many_parts(monkeypatch):
    notes, queries = embeddings(500, 1).astype(np.float16), embeddings(20, 2)
    product = queries @ notes.astype(np.float32).T
    expected = np.argsort(-product, axis=1, kind="stable")[:, :10]
    whole = nearest(notes, queries, 10)
    monkeypatch.setattr(note_index, "NOTES_AT_ONCE", 77)
    parts = nearest(notes, queries, 10)
    for found in (whole, parts):
        assert (found.method, found.share_of_exact) == ("exact", 1.0)
        assert np.allclose(found.score, np.take_along_axis(product, expected, axis=1), atol=1e-6)
    assert (parts.rows == expected).mean() > 0.99, "but for ties in the last bit"


def test_equal_notes_come_in_their_order_and_missing_ones_are_marked():
    note = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float16)
    found = nearest(note, np.array([[1, 0]], dtype=np.float32), 4)
    assert found.rows.tolist() == [[0, 2, 1, -1]]


def test_an_inverted_file_reports_its_share_of_the_exact_notes():
    notes, queries = embeddings(4000, 3).astype(np.float16), embeddings(50, 4)
    exact = nearest(notes, queries, 20)
    found = nearest(notes, queries, 20, exact_below=1000)
    share = np.mean([np.isin(a, b).mean() for a, b in zip(exact.rows, found.rows, strict=True)])
    assert found.method.startswith("inverted file, ")
    assert found.share_of_exact == share >= note_index.LEAST_SHARE
    again = nearest(notes, queries, 20, exact_below=1000)
    assert (again.rows == found.rows).all()
