"""A table in a thousand files is the table in one."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.sources.twin import write_twin
from tests.conftest import build_views


@pytest.mark.slow
def test_a_request_a_shard(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_twin(data, scale=0.01, seed=7)

    def rows(engine: DuckDBEngine) -> tuple[int, ...]:
        with engine.connect() as connection:
            (counted,) = connection.execute(
                "select count(*), sum(hash(r)) from core.requests as r"
            ).fetchall()
            (impressions,) = connection.execute(
                "select count(*), sum(hash(i)) from core.impressions as i"
            ).fetchall()
        return (*counted, *impressions)

    expected = rows(build_views(data, tmp_path / "one"))
    n_shards = 0
    for table in ("search_train", "recommendation_train"):
        (shard,) = (data / table).glob("*.parquet")
        whole = pq.read_table(shard)
        shard.unlink()
        for row in range(whole.num_rows):
            pq.write_table(whole.slice(row, 1), data / table / f"{row:05d}.parquet")
        n_shards += whole.num_rows
    assert n_shards > 1000
    assert rows(build_views(data, tmp_path / "many")) == expected
