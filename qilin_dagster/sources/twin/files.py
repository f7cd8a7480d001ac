"""How the twin's files are cut and written: the same table gives the same bytes."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

NOTE_SHARDS: Final = 5
GROUP_ROWS: Final = 100_000
LABELLED: Final = {
    "search_test": "search.test.qrels.csv",
    "recommendation_test": "recommendation.test.qrels.csv",
    "dqa": "dqa.qrels.csv",
}
# Everything that shapes the bytes is fixed here.
FORMAT: Final[dict[str, Any]] = {
    "compression": "snappy",
    "use_dictionary": True,
    "write_statistics": True,
    "version": "2.6",
    "data_page_version": "1.0",
    "store_schema": False,
}


def shard_path(folder: Path, table: str, shard: int, shards: int) -> Path:
    """Where a shard of a published table lies."""
    return folder / table / f"train-{shard:05d}-of-{shards:05d}.parquet"


def shard_edges(count: int, shards: int) -> list[int]:
    """First row of each shard of ``count`` rows, and the end."""
    edges: list[int] = np.linspace(0, count, shards + 1).astype(int).tolist()
    return edges


def write_parquet(path: Path, table: pa.Table) -> None:
    """One file, in row groups of ``GROUP_ROWS``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=GROUP_ROWS, **FORMAT)


def write_labels(path: Path, labels: pa.Table) -> None:
    """A label list, as CSV with its header."""
    with path.open("wb") as file:
        file.write(b"qid,pid\n")
        pyarrow.csv.write_csv(labels, file, pyarrow.csv.WriteOptions(include_header=False))
