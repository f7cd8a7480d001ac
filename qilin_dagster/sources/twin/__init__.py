"""A synthetic Qilin with known truth, in the published layout at any scale.

``README.md`` beside this file states the generative model, what is calibrated and what is
invented. Nothing heavy is imported before it is used.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

__all__ = ["describe_twin", "write_twin"]


def write_twin(
    out: Path,
    *,
    scale: float = 0.01,
    seed: int = 7,
    images: bool = False,
    dirty: bool = False,
    click_model: Literal["pbm", "cascade", "mixed"] = "pbm",
    leaks: bool = True,
    looks: bool = True,
    promotes: float = 0.0,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Write a twin to the folder ``out``; an earlier twin there is replaced, nothing else is.

    ``scale`` 1 has the row counts of the published log; above it the twin is made of islands, so
    that memory stays that of one. The same seed gives the same bytes.
    ``images`` adds small JPEG files, ``dirty`` plants rows that a reader must quarantine, and
    without ``leaks`` ids, counters and the order of feed lists know nothing about the clicks.
    Without ``looks`` the images are noise: each note's shows the look of another note.
    ``promotes`` makes the platform's ranker prefer notes with many images, which attract nobody
    more for it: what position bias costs a naive ranker then shows.
    """
    from qilin_dagster.sources.twin import generate

    options = generate.Options(scale, seed, images, dirty, click_model, leaks, looks, promotes)
    generate.write(Path(out), options, progress or (lambda message: None))


def describe_twin(data: Path) -> str:
    """A calibration report: values of the paper beside those of the twin in ``data``."""
    from qilin_dagster.sources.twin.calibration import report

    return report(Path(data))
