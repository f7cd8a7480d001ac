"""Where notes stood: the curve in use, the place of a position, what is not logged."""

import duckdb
import numpy as np
import polars as pl
import pytest

from models.ranking_data import TooLittleData
from qilin_dagster.exposures import exposure_of, read_curve


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    found = duckdb.connect()
    found.execute(
        """
        create schema propensity; create schema core;
        create table propensity.by_position as select * replace (estimate::double as estimate)
        from (values
            ('search', 'all pages', 'mixed position-based', 1, 1.0, 100, 40),
            ('search', 'all pages', 'mixed position-based', 2, 0.5, 100, 10),
            ('search', 'all pages', 'mixed position-based', 5, 0.25, 100, 50),
            ('search', 'all pages', 'mixed position-based', 9, null, 100, 0),
            ('search', 'all pages', 'click rate', 1, 0.9, 100, 40),
            ('search', 'pages with an answer', 'mixed position-based', 1, 0.7, 100, 40)
        ) as t(channel, surface, estimator, position_from, estimate, n_impressions, n_clicks);
        create table propensity.trust as from (values
            ('search', 1, 0.3), ('search', 2, -0.1), ('recommendation', 1, 0.5)
        ) as t(channel, position_from, trust);
        insert into propensity.by_position values
            ('search', 'all pages', 'position-based with trust', 1, 1.0, 100, 40),
            ('search', 'all pages', 'position-based with trust', 2, 0.8, 100, 10),
            ('search', 'all pages', 'position-based with trust', 5, 0.6, 100, 50);
        create table core.impressions as from (values
            (7, 70, 1, 'search'), (7, 71, 4, 'search'), (7, 71, 2, 'search'),
            (7, 72, null, 'search'), (7, 73, 0, 'search'), (7, 74, 12, 'search'),
            (7, 70, 12, 'recommendation')
        ) as t(request_id, note_idx, "position", channel);
        """
    )
    return found


def test_the_curve_in_use_is_read_and_places_are_its_steps(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    curve = read_curve(connection, "search")
    assert curve.position_from.tolist() == [1, 2, 5]
    assert curve.examination.tolist() == [1.0, 0.5, 0.25]
    # Click rate over examination, never above 1.
    assert curve.attraction.tolist() == pytest.approx([0.4, 0.2, 1.0])
    assert curve.place(np.array([0, 1, 2, 4, 5, 99])).tolist() == [0, 0, 1, 1, 2, 2]


def test_rows_stand_where_they_were_shown_first(connection: duckdb.DuckDBPyConnection) -> None:
    table = pl.DataFrame({"request_id": 7, "note_idx": [74, 73, 72, 71, 70, 99]})
    exposure = exposure_of(connection, table, "search")
    # Twice shown: the upper place. Not logged, above the first, or not there: the first place.
    assert exposure.place.tolist() == [2, 0, 0, 1, 0, 0]
    assert exposure.examination.tolist() == [0.25, 1.0, 1.0, 0.5, 1.0, 1.0]
    assert exposure.attraction.tolist() == pytest.approx([1.0, 0.4, 0.4, 0.2, 0.4, 0.4])
    assert exposure.n_places == 3


def test_trust_comes_with_the_curve_of_the_model_that_knows_of_it(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    table = pl.DataFrame({"request_id": 7, "note_idx": [70, 71, 74]})
    exposure = exposure_of(connection, table, "search", with_trust=True)
    assert exposure.examination.tolist() == pytest.approx([1.0, 0.8, 0.6])
    # Below none is none, and where none was looked for there is none.
    assert exposure.require_trust().tolist() == pytest.approx([0.3, 0.0, 0.0])
    assert exposure.rows(np.array([0])).require_trust().tolist() == pytest.approx([0.3])
    with pytest.raises(ValueError, match="trust in places"):
        exposure_of(connection, table, "search").require_trust()


def test_no_curve_is_said(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(TooLittleData, match="no curve was estimated"):
        read_curve(connection, "recommendation")
