"""How fast DCN-V2 eats a log: rows into tensors, and steps of training, beside the common ways.

    python benchmarks/dcn_v2.py [--notes 2000000] [--requests 20000]

The log is random numbers in the shape of the feature tables: what is learnt does not matter here.
The common ways: a data set that hands out one row after the other as a dictionary, and one dense
Adam over all parameters, the table of notes included.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from models.dcn_v2 import DCNV2Config
from models.dcn_v2_training import DCNV2Learner
from models.ranking_data import RankingData
from models.recipes import DCNV2Recipe, dcn_v2_search

CARDINALITIES = (3, 3, 42, 310, 547, 4, 5, 11, 27, 9)
N_DENSE = 54
N_HISTORY = 20
N_CANDIDATES = 18
SECONDS = 10.0


def log(n_requests: int, n_notes: int) -> RankingData:
    rng = np.random.default_rng(0)
    n = n_requests * N_CANDIDATES
    # Few notes are met often and most hardly ever, as in any log.
    notes = (n_notes * rng.random(n + n_requests * N_HISTORY) ** 3).astype(np.int32) + 1
    return RankingData(
        request_offsets=np.arange(0, n + 1, N_CANDIDATES),
        labels=(rng.random(n) < 0.2).astype(np.float32),
        dense=rng.normal(size=(n, N_DENSE)).astype(np.float32),
        categorical=np.stack([rng.integers(0, k, n) for k in CARDINALITIES], 1).astype(np.int32),
        history=notes[n:].reshape(n_requests, N_HISTORY),
        note_id=notes[:n],
    )


class OneByOne(Dataset[dict[str, object]]):
    """A row as a dictionary, the way such data sets are usually read."""

    def __init__(self, data: RankingData) -> None:
        self.data = data
        self.request = data.request_index

    def __len__(self) -> int:
        return self.data.n_candidates

    def __getitem__(self, i: int) -> dict[str, object]:
        return {
            "label": self.data.labels[i],
            "dense": self.data.dense[i],
            "categorical": self.data.categorical[i],
            "note_id": self.data.note_id[i],
            "history": self.data.history[self.request[i]],
        }


def measure(name: str, steps: Iterator[int]) -> None:
    """Rows per second of one kind of step; the first step is not counted."""
    next(steps)
    started, used, n_rows = time.perf_counter(), time.process_time(), 0
    for n in steps:
        n_rows += n
        if time.perf_counter() - started > SECONDS:
            break
    wall, cpu = time.perf_counter() - started, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| {name} | {n_rows / cpu:,.0f} | {n_rows / wall:,.0f} | {peak:,.0f} |", flush=True)


def gathered(learner: DCNV2Learner, batches: list[np.ndarray]) -> Iterator[int]:
    while True:
        for requests in batches:
            yield len(learner._fit.batch(requests).label_B)


def one_by_one(data: RankingData, batch_size: int) -> Iterator[int]:
    while True:
        for batch in DataLoader(OneByOne(data), batch_size=batch_size, shuffle=True):
            yield len(batch["label"])


def trained(
    learner: DCNV2Learner,
    optimisers: list[torch.optim.Optimizer],
    batches: list[np.ndarray],
) -> Iterator[int]:
    learner.model.train()
    while True:
        for requests in batches:
            learner.loss(requests).backward()
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            yield len(requests) * N_CANDIDATES


def learner_of(recipe: DCNV2Recipe, data: RankingData, n_notes: int, place: str) -> DCNV2Learner:
    config = DCNV2Config(
        architecture=recipe.architecture,
        cardinalities=CARDINALITIES,
        n_dense=N_DENSE,
        n_notes=n_notes + 1,
        has_history=True,
    )
    return DCNV2Learner(
        config, data, data.take(np.arange(10)), lambda _: 0.0, recipe.training, torch.device(place)
    )


def densely(learner: DCNV2Learner) -> None:
    """The table of notes with dense gradients, as `nn.Embedding` has them by default."""
    learner.model.notes.sparse = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--notes", type=int, default=2_000_000)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--candidates-per-batch", type=int, default=4096)
    options = parser.parse_args()
    place = "cuda" if torch.cuda.is_available() else "cpu"
    data = log(options.requests, options.notes)
    recipe = dcn_v2_search()
    training = replace(recipe.training, candidates_per_batch=options.candidates_per_batch)
    recipe = replace(recipe, training=training)
    print(
        f"{data.n_candidates:,} impressions, {options.notes:,} notes, batches of about "
        f"{options.candidates_per_batch:,}, {torch.get_num_threads()} threads, {place}\n"
    )
    print("| what | impressions per CPU s | per s | peak MB so far |\n|---|---|---|---|")
    learner = learner_of(recipe, data, options.notes, place)
    batches = learner.batches(np.random.default_rng(0))
    measure("into tensors, by row number", gathered(learner, batches))
    measure("into tensors, one by one", one_by_one(data, options.candidates_per_batch))
    for cross in ("matrix", "low_rank", "mixture"):
        of_cross = replace(recipe, architecture=replace(recipe.architecture, cross=cross))
        learner = learner_of(of_cross, data, options.notes, place)
        optimisers = list(learner.optimisers(training))
        measure(f"training, {cross}, row-wise Adagrad", trained(learner, optimisers, batches))
    learner = learner_of(recipe, data, options.notes, place)
    densely(learner)
    adam: list[torch.optim.Optimizer] = [torch.optim.Adam(learner.model.parameters())]
    measure("training, matrix, dense Adam", trained(learner, adam, batches))


if __name__ == "__main__":
    main()
