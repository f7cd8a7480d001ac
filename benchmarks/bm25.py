"""What BM25 costs: notes to words, words to an index, reranking, searching the whole corpus.

    python benchmarks/bm25.py --scale 1        writes a twin first
    python benchmarks/bm25.py --data TWIN

Each part runs in a process of its own, so that its CPU seconds and peak memory are its own. Rates
are per CPU second of one process; compiled code is compiled before. The queries are those of the
search test requests, the candidates 20 notes drawn at random for each. A twin has a small
vocabulary, so that its words have long lists; the last part draws a corpus with a real one's.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.bm25 import BM25Index
from models.words import tokenize
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.lake import Lake
from qilin_dagster.note_words import CODE_VERSION, TABLE, build_note_words, read_note_words
from qilin_dagster.settings import Settings
from qilin_dagster.sources.published import inspect
from qilin_dagster.sources.register import register_all

N_CANDIDATES = 20
N_SEARCHES = 2000
# rank-bm25 is measured on so many notes and queries; its time grows with the notes.
SLICE_NOTES, SLICE_QUERIES = 20_000, 20
DRAWN_NOTES, DRAWN_WORDS = 2_000_000, 350_000


@contextmanager
def measured(what: str, n: int, unit: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"| {what} | {n:,} {unit} | {cpu:.1f} | {wall:.1f} | {n / cpu:,.0f} | {peak:,.0f} |",
        flush=True,
    )


def words(engine: DuckDBEngine) -> None:
    connection = engine.connect()
    ((n,),) = connection.execute("select count(*) from core.notes").fetchall()
    with measured("notes to words, stored", n, "notes"):
        engine.lake.publish(
            TABLE,
            inputs=engine.inputs(("core.notes",)),
            code_version=CODE_VERSION,
            write=lambda folder: build_note_words(connection, folder, lambda _: None),
        )


def index(engine: DuckDBEngine) -> None:
    notes = read_note_words(engine.lake.snapshot_folder(TABLE))
    queries = [notes.numbers(tokenize(query)) for query in _queries(engine)]
    _measure_index(notes.word_id, notes.offsets, len(notes.ids), queries)


def drawn(engine: DuckDBEngine) -> None:
    """As `index`, over words drawn by Zipf's law from a vocabulary of the size of a real one."""
    draw = np.random.default_rng(0)
    length = np.minimum(draw.lognormal(np.log(150) - 0.32, 0.8, DRAWN_NOTES), 1200).astype(int)
    offsets = np.cumsum(np.append(0, length))
    file = engine.lake.root / "drawn.npy"
    word = np.lib.format.open_memmap(file, "w+", np.int32, (int(offsets[-1]),))
    for start in range(0, len(word), 1_000_000):
        part = word[start : start + 1_000_000]
        part[:] = DRAWN_WORDS ** draw.random(len(part)) - 1
    word.flush()
    del word, part
    # Of the words of middling frequency, as what people ask for.
    queries = [draw.integers(100, 20_000, draw.integers(2, 6)).tolist() for _ in range(N_SEARCHES)]
    _measure_index(np.load(file, mmap_mode="r"), offsets, DRAWN_WORDS, queries)


def _measure_index(
    word: NDArray[np.int32],
    offsets: NDArray[np.int64],
    n_words: int,
    queries: list[list[int]],
) -> None:
    # Compiles what is not compiled yet.
    BM25Index(word[: offsets[10]], offsets[:11], n_words).top(word[:2], 1)
    n = len(offsets) - 1
    with measured(f"{len(word) / 1e6:.0f} M words of {n_words:,} to index", n, "notes"):
        ranker = BM25Index(word, offsets, n_words)
    candidates = np.random.default_rng(0).integers(0, n, N_CANDIDATES * len(queries))
    with measured(f"rerank {N_CANDIDATES} candidates", len(queries), "requests"):
        ranker.score_requests(
            np.array([word for query in queries for word in query]),
            np.cumsum([0, *map(len, queries)]),
            candidates,
            np.arange(0, len(candidates) + 1, N_CANDIDATES),
        )
    for k in (100, 500):
        with measured(f"top {k} of all notes", len(queries[:N_SEARCHES]), "queries"):
            for query in queries[:N_SEARCHES]:
                ranker.top(query, k)


def slice_by_rank_bm25(engine: DuckDBEngine) -> None:
    from rank_bm25 import BM25Okapi

    texts = engine.connect().execute(
        "select concat_ws(' ', note_title, note_content) from core.notes limit ?", [SLICE_NOTES]
    )
    corpus = [tokenize(text) for (text,) in texts.fetchall()]
    queries = [tokenize(query) for query in _queries(engine)]
    with measured("rank-bm25: words to index", len(corpus), "notes"):
        plain = BM25Okapi(corpus)
    draw = np.random.default_rng(0)
    some = draw.integers(0, len(corpus), (len(queries), N_CANDIDATES)).tolist()
    with measured(f"rank-bm25: rerank {N_CANDIDATES} candidates", 500, "requests"):
        for query, rows in zip(queries[:500], some[:500], strict=True):
            plain.get_batch_scores(query, rows)
    with measured("rank-bm25: top 100 of these notes", SLICE_QUERIES, "queries"):
        for query in queries[:SLICE_QUERIES]:
            np.argsort(plain.get_scores(query))[::-1][:100]


def _queries(engine: DuckDBEngine) -> list[str]:
    rows = engine.connect().execute(
        "select query from core.requests where source_table = 'search_test' order by row_number"
    )
    return [query or "" for (query,) in rows.fetchall()]


PARTS = {"words": words, "index": index, "slice": slice_by_rank_bm25, "drawn": drawn}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a twin that is there already")
    parser.add_argument("--scale", type=float, default=1.0, help="of the twin to write")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        part, lake = options.part
        engine = DuckDBEngine(Lake(Path(lake)), Settings.from_environment())
        PARTS[part](engine)
        return
    with tempfile.TemporaryDirectory() as folder:
        data, lake = options.data, Path(folder) / "lake"
        if data is None:
            data = Path(folder) / "twin"
            arguments = ["twin", str(data), "--scale", str(options.scale), "--seed", "1"]
            command = [sys.executable, "-m", "qilin_dagster.cli", *arguments]
            subprocess.run(command, check=True, stdout=sys.stderr)
        engine = DuckDBEngine(Lake(lake), Settings.from_environment())
        register_all(engine.lake, inspect(data), "auto")
        connection = engine.connect()
        for view in engine.catalog.views:
            if view.schema != "bias":
                engine.build(connection, view)
        connection.close()
        print(f"{os.cpu_count()} processors\n")
        print("| what | of | CPU s | wall s | per CPU s | peak MB |\n|---|---|---|---|---|---|")
        for part in PARTS:
            subprocess.run([sys.executable, __file__, "--part", part, lake], check=True)


if __name__ == "__main__":
    main()
