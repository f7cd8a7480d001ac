"""Values of the paper beside those of a twin, computed from its published files."""

from pathlib import Path


def report(data: Path) -> str:
    """The calibration report of the twin in ``data``."""
    if not (data / "twin.json").is_file():
        raise ValueError(f"{data} is no twin: it has no twin.json")
    return (data / "twin.json").read_text(encoding="utf-8")
