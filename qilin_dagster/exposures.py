"""Where notes stood on the page, and how far their places are examined. Knows no Dagster."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.ranking_data import Exposure, TooLittleData
from qilin_dagster.click_sessions import ALL, RECOMMENDED, WITH_TRUST

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

    from models.metrics import FloatArray

# Trust above this leaves an attractive note next to nothing to be known by.
MOST_TRUST = 0.9


@dataclass(frozen=True)
class PlaceCurve:
    """The curve in use of one channel: K places, the first and all others from ``position_from``.

    Attributes:
        position_from: int64 (K,), ascending.
        examination: float64 (K,), relative to position 1, above 0.
        attraction: float64 (K,), click rate over examination, in 0..1.
    """

    position_from: "NDArray[np.int64]"
    examination: "NDArray[np.float64]"
    attraction: "NDArray[np.float64]"

    def place(self, position: "NDArray[np.int64]") -> "NDArray[np.int64]":
        """The place of each position; what stands above the first counts as there."""
        place = np.searchsorted(self.position_from, position, side="right") - 1
        return np.maximum(place, 0).astype(np.int64)


def read_curve(
    connection: "duckdb.DuckDBPyConnection", task: str, estimator: str = RECOMMENDED
) -> PlaceCurve:
    """The curve that `propensity.by_position` recommends, or another of its estimators.

    Raises TooLittleData where none was estimated.
    """

    curve = connection.sql(
        "select position_from, estimate, n_clicks / nullif(n_impressions, 0) as click_rate "
        "from propensity.by_position where channel = $task and surface = $surface "
        "and estimator = $estimator and estimate is not null order by position_from",
        params={"task": task, "surface": ALL, "estimator": estimator},
    ).pl()
    if curve.is_empty():
        raise TooLittleData("Too little data to correct for position: no curve was estimated.")
    examination = curve["estimate"].to_numpy()
    return PlaceCurve(
        curve["position_from"].to_numpy(),
        examination,
        np.clip(curve["click_rate"].to_numpy() / examination, 0.0, 1.0),
    )


def read_trust(
    connection: "duckdb.DuckDBPyConnection", task: str, curve: PlaceCurve
) -> "FloatArray":
    """Trust in the places of a curve by `propensity.trust`, float64 (K,): 0 where none was looked
    for or found, and never so much that nothing would be left for attraction."""
    rows = connection.sql(
        "select position_from, trust from propensity.trust where channel = $task",
        params={"task": task},
    ).fetchall()
    found = dict(rows)
    trust = [found.get(position, 0.0) for position in curve.position_from.tolist()]
    return np.clip(np.array(trust, dtype=np.float64), 0.0, MOST_TRUST)


def exposure_of(
    connection: "duckdb.DuckDBPyConnection", table: Any, task: str, *, with_trust: bool = False
) -> Exposure:
    """Where the rows of a feature table stood, with examination by `propensity.by_position`.

    With trust also `propensity.trust`, and examination by the model that knows of it.

    A note that was returned twice stands where it stood first; one without a position, at the
    first place. Mean attraction of a place is its click rate over its examination.

    Raises TooLittleData where no curve was estimated.
    """
    curve = read_curve(connection, task, WITH_TRUST if with_trust else RECOMMENDED)
    stood = connection.sql(
        'select request_id, note_idx, min("position") as "position" from core.impressions '
        "where channel = $task group by 1, 2",
        params={"task": task},
    ).pl()
    position = (
        table.select("request_id", "note_idx")
        .join(stood, on=["request_id", "note_idx"], how="left", maintain_order="left")["position"]
        .fill_null(1)
        .to_numpy()
    )
    place = curve.place(position)
    return Exposure(
        place=place,
        examination=curve.examination[place].astype(np.float32),
        attraction=curve.attraction[place].astype(np.float32),
        n_places=len(curve.examination),
        trust=read_trust(connection, task, curve)[place].astype(np.float32) if with_trust else None,
    )
