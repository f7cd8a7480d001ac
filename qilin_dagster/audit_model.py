"""What an audit is made of: checks with their verdicts, and the values they are held against."""

import copy
import difflib
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from qilin_dagster.errors import InputError
from qilin_dagster.settings import EXPECTATIONS_ROOT
from qilin_dagster.sources.layout import TIME_FIELD

Verdict = Literal["ok", "alarm", "unknown"]
EXPECTED = EXPECTATIONS_ROOT / "audit.toml"

LOG_TABLES = tuple(TIME_FIELD)
# The published list of candidates of each test table.
CANDIDATE_LISTS = {"search_test": "search_results", "recommendation_test": "rec_results"}

SIZE, LABELS, TIME = "Size and ids", "Clicks and labels", "Time"
POSITIONS, TYPES, COLD = "Positions and lists", "Types and missing values", "New in test"
IDS, COLUMNS, ORDER = "Leaks: note ids", "Leaks: single columns", "Leaks: order and history"
# What checks are grouped by, in the order they are told.
SUBJECTS = (SIZE, LABELS, TIME, POSITIONS, TYPES, IDS, COLUMNS, ORDER, COLD)


@dataclass(frozen=True)
class Check:
    """One question about the data; ``unknown`` means there is nothing to compare with.

    ``about`` is the question in plain words, ``value`` the measured number where one number says
    it all, for plots and queries.
    """

    name: str
    subject: str
    about: str
    expected: str
    measured: str
    value: float | None
    verdict: Verdict
    what_to_do: str


@dataclass
class Findings:
    """The expected values, what the data says it is, and the checks found so far."""

    expected: dict[str, dict[str, Any]]
    is_full_size: bool
    is_twin: bool
    checks: list[Check] = field(default_factory=list)

    def add(
        self,
        subject: str,
        name: str,
        *,
        about: str,
        expected: str,
        measured: str,
        is_good: bool | None,
        advice: str,
        value: float | None = None,
    ) -> None:
        """Add a check; ``is_good`` None is the verdict unknown. Advice is kept for alarms only."""
        verdict: Verdict = "unknown" if is_good is None else "ok" if is_good else "alarm"
        what_to_do = advice if verdict == "alarm" else ""
        self.checks.append(
            Check(name, subject, about, expected, measured, value, verdict, what_to_do)
        )

    @property
    def why_counts_are_not_judged(self) -> str | None:
        """Why counts of the published release say nothing here; None where they are judged."""
        if self.is_twin:
            return "not the published release: a twin"
        return None if self.is_full_size else "not judged: smaller than the published release"

    def value(self, section: str, key: str) -> Any:
        return self.expected[section][key]

    def number(self, section: str, key: str) -> float:
        return float(self.expected[section][key])

    def margin(self, share: float, n: float) -> float:
        """How far a share of n rows may lie beyond its bound by chance alone."""
        width = math.sqrt(max(share * (1 - share), 0.25 / max(n, 1)) / max(n, 1))
        return self.number("judge", "n_standard_errors") * width


def read_expected(overrides: Path | None) -> dict[str, dict[str, Any]]:
    """The expected values of the project with those of a file on top.

    Raises InputError for a file that is no TOML, or names a key or type the audit does not know.
    """
    expected: dict[str, dict[str, Any]] = tomllib.loads(EXPECTED.read_text(encoding="utf-8"))
    if overrides is None:
        return expected
    try:
        given = tomllib.loads(overrides.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"expected values {overrides} cannot be read: {error}") from error
    merged = copy.deepcopy(expected)
    for section, values in given.items():
        if section not in expected or not isinstance(values, dict):
            raise InputError(
                f"{overrides}: no section [{section}]; there are {', '.join(expected)}"
            )
        for key, value in values.items():
            if key not in expected[section]:
                close = difflib.get_close_matches(key, expected[section], n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise InputError(f"{overrides}: no key {key} in [{section}]{hint}")
            known = expected[section][key]
            if _kind(value) is not _kind(known) or (
                isinstance(known, list)
                and (len(value) != len(known) or any(_kind(v) is not float for v in value))
            ):
                raise InputError(
                    f"{overrides}: [{section}] {key} must be like {known!r}, not {value!r}"
                )
            merged[section][key] = value
    return merged


def _kind(value: object) -> type:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float if is_number else type(value)


def rows_of(n: int) -> str:
    return f"{n:,} row{'' if n == 1 else 's'}"


def percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.2%}".replace("%", " %")
