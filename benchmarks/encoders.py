"""What the text rankers cost: pairs a second in training and scoring, beside the usual way.

    python benchmarks/encoders.py --scale 0.01        writes a twin first
    python benchmarks/encoders.py --data TWIN

The usual way, that of the published baselines, cuts the texts of each batch into tokens anew, pads
every text to the longest one allowed, encodes a note once for each pair it is in, and scores one
request at a time. Both ways run the same model of the same size in one process, with the texts of
the twin's notes and queries and candidates drawn at random; a pair is a query and a note. CPU
figures are per CPU second of one thread; on a GPU, per second.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import torch
from tokenizers import Tokenizer

from models import bi_encoder, cross_encoder, recipes
from models.encoder import scoring
from models.losses import listwise_loss
from models.recipes import BiEncoderRecipe, Encoder, TextRecipe
from models.text_data import NoteTexts, TextRequests
from models.tokens import TextNumbers, count_tokenizer, lists_of, special_tokens

N_NOTES, N_REQUESTS, N_CANDIDATES = 5000, 400, 20


class Corpus:
    """Texts of notes and queries, and requests with random candidates of which two are clicked."""

    def __init__(self, data: Path) -> None:
        notes = duckdb.sql(
            "select concat_ws(' ', note_title, note_content) "
            f"from read_parquet('{data}/notes/*.parquet') limit {N_NOTES}"
        ).fetchall()
        queries = duckdb.sql(
            f"select query from read_parquet('{data}/search_train/*.parquet') limit {N_REQUESTS}"
        ).fetchall()
        self.notes = [text for (text,) in notes]
        self.queries = [text for (text,) in queries]
        self.tokenizer = count_tokenizer(self.notes)
        numbers = TextNumbers(self.tokenizer)
        self.texts = NoteTexts(
            lists_of(numbers([*self.notes, ""], 256)), special_tokens(self.tokenizer)
        )
        n = len(self.queries)
        labels = np.zeros((n, N_CANDIDATES), dtype=np.float32)
        labels[:, :2] = 1
        draw = np.random.default_rng(0)
        self.requests = TextRequests(
            request_offsets=np.arange(0, n * N_CANDIDATES + 1, N_CANDIDATES),
            labels=labels.ravel(),
            queries=lists_of(numbers(self.queries, 256)),
            note=draw.integers(0, len(self.notes), n * N_CANDIDATES),
        )

    def found(self) -> bi_encoder.FoundNotes:
        draw = np.random.default_rng(1)
        lists = [draw.integers(0, len(self.notes), 20) for _ in self.queries]
        return bi_encoder.FoundNotes.without_clicked(lists, self.requests)


def measured(device: torch.device, n: int, run: Callable[[], object]) -> float:
    """Of n, how many a second: CPU seconds on a CPU, seconds on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    start = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return n / (clock() - start)


def learner(corpus: Corpus, recipe: TextRecipe, device: torch.device):
    sizes = corpus.tokenizer.get_vocab_size(), corpus.texts.special
    torch.manual_seed(0)
    fit = corpus.requests
    if isinstance(recipe, BiEncoderRecipe):
        model = bi_encoder.new_model(recipe, *sizes)
        return bi_encoder.BiEncoderLearner(
            model, corpus.texts, fit, fit, corpus.found(), recipe, device
        )
    model = cross_encoder.new_model(recipe, *sizes)
    return cross_encoder.CrossEncoderLearner(model, corpus.texts, fit, fit, recipe, device)


def train(ranker, batches: list[np.ndarray], recipe: TextRecipe, loss: Callable) -> None:
    (optimiser,) = ranker.optimisers(recipe.training)
    for requests in batches:
        optimiser.zero_grad()
        torch.autograd.backward(loss(requests))
        optimiser.step()


class UsualWay:
    """Tokens in each batch, padding to the longest allowed, pairs one by one."""

    def __init__(self, corpus: Corpus, encoder: Encoder, device: torch.device) -> None:
        self.corpus, self.device = corpus, device
        self.query = self._tokenizer(encoder.max_query_tokens + 2)
        self.note = self._tokenizer(encoder.max_note_tokens + 2)
        self.pair = self._tokenizer(encoder.max_query_tokens + encoder.max_note_tokens + 3)

    def bi_encoder_loss(self, ranker, requests: np.ndarray) -> torch.Tensor:
        batch = ranker._batch(requests)
        of_request = [
            ranker._notes_of(rows, offsets, requests)[0]
            for rows, offsets in (
                (ranker._epoch.positive, ranker._epoch.positive_offsets),
                (ranker._epoch.exposed, ranker._epoch.exposed_offsets),
            )
        ]
        notes = np.concatenate([*of_request, ranker._found_of(requests)[0]])
        query = ranker.model(self._encoded(self.query, [self.corpus.queries[r] for r in requests]))
        note = ranker.model(self._encoded(self.note, [self.corpus.notes[n] for n in notes]))
        target = torch.arange(len(batch.requests), device=self.device)
        return torch.nn.functional.cross_entropy(ranker.model.scale() * query @ note.T, target)

    def cross_encoder_loss(self, ranker, requests: np.ndarray) -> torch.Tensor:
        epoch = ranker._drawn()
        per_request = np.diff(epoch.offsets)[requests]
        at = np.concatenate([np.arange(*epoch.offsets[r : r + 2]) for r in requests])
        request = np.repeat(np.arange(len(requests)), per_request)
        texts = [
            (self.corpus.queries[requests[r]], self.corpus.notes[epoch.note[i]])
            for r, i in zip(request, at, strict=True)
        ]
        place = np.concatenate([np.arange(n) for n in per_request])
        return listwise_loss(
            ranker.model(self._encoded(self.pair, texts)),
            torch.from_numpy(epoch.label[at]).to(self.device),
            torch.from_numpy(request).to(self.device),
            torch.from_numpy(place).to(self.device),
            len(requests),
        )

    def score(self, ranker, is_bi_encoder: bool) -> None:
        with scoring(ranker.model, self.device):
            for query, notes in self._requests():
                if is_bi_encoder:
                    # The query once for each candidate.
                    left = ranker.model(self._encoded(self.query, [query] * len(notes)))
                    right = ranker.model(self._encoded(self.note, notes))
                    (left * right).sum(dim=1).cpu()
                else:
                    texts = [(query, note) for note in notes]
                    ranker.model(self._encoded(self.pair, texts)).cpu()

    def _requests(self) -> Iterator[tuple[str, list[str]]]:
        notes = self.corpus.requests.note.reshape(-1, N_CANDIDATES)
        for query, of_request in zip(self.corpus.queries, notes, strict=True):
            yield query, [self.corpus.notes[note] for note in of_request]

    def _tokenizer(self, length: int) -> Tokenizer:
        tokenizer = Tokenizer.from_str(self.corpus.tokenizer.to_str())
        tokenizer.enable_truncation(length, strategy="longest_first")
        tokenizer.enable_padding(length=length)
        return tokenizer

    def _encoded(self, tokenizer: Tokenizer, texts: list) -> dict[str, torch.Tensor]:
        encodings = tokenizer.encode_batch(texts)
        return {
            name: torch.tensor([getattr(e, field) for e in encodings]).to(self.device)
            for name, field in (
                ("input_ids", "ids"),
                ("attention_mask", "attention_mask"),
                ("token_type_ids", "type_ids"),
            )
        }


def measure(corpus: Corpus, recipe: TextRecipe, device: torch.device) -> None:
    is_bi_encoder = isinstance(recipe, BiEncoderRecipe)
    ranker, usual = learner(corpus, recipe, device), UsualWay(corpus, recipe.encoder, device)
    batches = ranker.batches(np.random.default_rng(0))[:-1]
    if is_bi_encoder:
        per_request = 1 + recipe.exposed_negatives + recipe.bm25_negatives
        usual_loss = usual.bi_encoder_loss
    else:
        per_request = recipe.list_size + recipe.other_negatives
        usual_loss = usual.cross_encoder_loss
    n_trained = per_request * sum(map(len, batches))
    n_scored = corpus.requests.n_candidates
    # Warms up both.
    train(ranker, batches[:1], recipe, ranker.loss)
    train(ranker, batches[:1], recipe, lambda requests: usual_loss(ranker, requests))

    def score() -> None:
        if is_bi_encoder:
            bi_encoder.scores(ranker.model, corpus.texts, corpus.requests, recipe, device)
        else:
            cross_encoder.scores(ranker.model, corpus.texts, corpus.requests, recipe, device)

    figures = [
        measured(device, n_trained, lambda: train(ranker, batches, recipe, ranker.loss)),
        measured(
            device,
            n_trained,
            lambda: train(ranker, batches, recipe, lambda some: usual_loss(ranker, some)),
        ),
        measured(device, n_scored, score),
        measured(device, n_scored, lambda: usual.score(ranker, is_bi_encoder)),
    ]
    name = "bi-encoder" if is_bi_encoder else "cross-encoder"
    print(f"| {name} | {device} | " + " | ".join(f"{f:,.0f}" for f in figures) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a twin that is there already")
    parser.add_argument("--scale", type=float, default=0.01, help="of the twin to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = options.data
        if data is None:
            data = Path(folder) / "twin"
            arguments = ["twin", str(data), "--scale", str(options.scale), "--seed", "1"]
            command = [sys.executable, "-m", "qilin_dagster.cli", *arguments]
            subprocess.run(command, check=True, stdout=sys.stderr)
        corpus = Corpus(data)
        cpu = torch.device("cpu")
        numbers = TextNumbers(corpus.tokenizer)
        some = corpus.notes[:2000]
        once = measured(cpu, len(corpus.notes), lambda: numbers(corpus.notes, 256))
        plain = measured(cpu, len(some), lambda: corpus.tokenizer.encode_batch(some))
        print(f"Notes cut into tokens, per CPU second: {once:,.0f}; by the package {plain:,.0f}.\n")
        print("| pairs a second | device | training | usual way | scoring | usual way |")
        print("|---|---|---|---|---|---|")
        devices = [cpu, *([torch.device("cuda")] if torch.cuda.is_available() else [])]
        for device in devices:
            for recipe in (recipes.bi_encoder_search(), recipes.cross_encoder_search()):
                training = recipe.training
                if device.type == "cuda":
                    training = replace(training, precision="bf16", candidates_per_batch=2048)
                measure(corpus, replace(recipe, training=training), device)


if __name__ == "__main__":
    main()
