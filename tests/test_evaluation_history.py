"""The history: one entry per evaluation that was new, and how often the test was looked at."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from qilin_dagster.evaluation_history import TABLE, publish_history
from qilin_dagster.lake import Lake, LakeError, Manifest, write_rows


class Evaluations:
    """A lake in which the leaderboard is made anew with one value after the other."""

    def __init__(self, root: Path) -> None:
        self.lake = Lake(root)
        self.data = "first"

    def evaluate(self, value: float) -> Manifest:
        connection = duckdb.connect()
        connection.execute("create schema published; create schema evaluation")
        connection.execute(
            f"create table published.data_set as select '{self.data}' as fingerprint"
        )
        connection.execute(
            f"""
            create table evaluation.leaderboard as
            select unnest(['full', 'official']) as mode, 'search' as task, 'm' as run,
                'model' as kind, 'mrr@10' as metric, {value}::double as value,
                {value} - 0.1::double as low, {value} + 0.1::double as high
            """
        )
        self.lake.publish(
            "evaluation.leaderboard",
            inputs={"value": str(value), "data": self.data},
            code_version="1",
            write=lambda folder: write_rows(pa.table({"a": [value]}), folder),
        )
        return publish_history(self.lake, connection)

    def rows(self) -> list[tuple[int, str, float]]:
        table = parquet.read_table(self.lake.snapshot_folder(TABLE))
        return [
            (row["evaluation_n"], row["data_fingerprint"], row["value"])
            for row in table.to_pylist()
        ]


def test_each_new_leaderboard_is_one_evaluation_more(tmp_path: Path) -> None:
    world = Evaluations(tmp_path)
    world.evaluate(0.5)
    again = world.evaluate(0.5)
    assert again.facts["n_evaluations"] == 1, "the same leaderboard is not looked at again"
    assert world.evaluate(0.6).facts["n_evaluations"] == 2
    assert world.rows() == [(1, "first", 0.5), (2, "first", 0.6)]
    world.data = "second"
    assert world.evaluate(0.6).facts["n_evaluations"] == 1, "other requests were looked at"
    world.data = "first"
    assert world.evaluate(0.7).facts["n_evaluations"] == 3
    assert [number for number, *_ in world.rows()] == [1, 2, 3, 4]


def test_without_a_leaderboard_there_is_nothing_to_remember(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match=r"evaluation\.leaderboard is not in the lake"):
        publish_history(Lake(tmp_path), duckdb.connect())
