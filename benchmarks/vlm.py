"""What the vision-language ranker costs: pairs and tokens a second, memory, and an epoch of it.

    python benchmarks/vlm.py --scale 0.01            writes a twin with images first
    python benchmarks/vlm.py --data TWIN             a twin written with --images

On a CPU the small new model is measured, per CPU second of one thread. On a GPU, besides, a model
of the size of Qwen2-VL-2B with random weights and LoRA, per second, in bfloat16 and, where
bitsandbytes is installed, in four bits; a rate does not depend on what the weights have learned.

Texts and covers are the twin's, candidates drawn at random; a pair is a query and a note. In the
feed eight titles stand for the query. What an
epoch over search_train would cost is computed from these rates and said to be.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import torch
from PIL import Image
from transformers import Qwen2VLConfig, Qwen2VLModel

from models import recipes, vlm
from models.recipes import LoRA, VLMRecipe
from models.text_data import NoteTexts, TextRequests
from models.tokens import TextNumbers, count_tokenizer, lists_of, special_tokens
from models.vlm_input import Covers

N_NOTES, N_REQUESTS, N_CANDIDATES = 4000, 200, 18
# Rows of the published search_train, and candidates of its search_test.
SEARCH_TRAIN_REQUESTS, SEARCH_TEST_PAIRS = 44_024, 126_000
# Qwen2-VL-2B as published.
TEXT_2B = {
    "vocab_size": 151_936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    "bos_token_id": None,
    "eos_token_id": None,
}
VISION_2B = {"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16}


class Log:
    """Texts and covers of a twin, and requests with random candidates of which two are clicked."""

    def __init__(self, data: Path) -> None:
        notes = duckdb.sql(
            "select concat_ws(' ', note_title, note_content), image_path[1] "
            f"from read_parquet('{data}/notes/*.parquet') limit {N_NOTES}"
        ).fetchall()
        queries = duckdb.sql(
            f"select query from read_parquet('{data}/search_train/*.parquet') limit {N_REQUESTS}"
        ).fetchall()
        titles = duckdb.sql(
            f"select note_title from read_parquet('{data}/notes/*.parquet') limit {8 * N_REQUESTS}"
        ).fetchall()
        self.data = data
        self.texts = [text for text, _ in notes]
        self.paths = [path if path and (data / path).exists() else None for _, path in notes]
        self.queries = {
            "search": [text for (text,) in queries],
            "recommendation": [
                " ".join(title or "" for (title,) in titles[start : start + 8])
                for start in range(0, len(titles), 8)
            ],
        }
        self.tokenizer = count_tokenizer(self.texts)

    def image(self, row: int) -> Image.Image:
        with Image.open(self.data / str(self.paths[row])) as image:
            return image.convert("RGB")

    def sizes(self, side: int) -> np.ndarray:
        """Height and width of the covers; a side other than 0 is that of covers scaled up."""
        size = np.zeros((len(self.paths) + 1, 2), dtype=np.int64)
        for row, path in enumerate(self.paths):
            if path is not None:
                size[row] = side or 32
        return size

    def requests(self, reader: vlm.Reader, task: recipes.Task) -> TextRequests:
        queries = self.queries[task]
        n = len(queries)
        labels = np.zeros((n, N_CANDIDATES), dtype=np.float32)
        labels[:, :2] = 1
        draw = np.random.default_rng(0)
        return TextRequests(
            request_offsets=np.arange(0, n * N_CANDIDATES + 1, N_CANDIDATES),
            labels=labels.ravel(),
            queries=lists_of(TextNumbers(reader.tokenizer)(queries, 256)),
            note=draw.integers(0, len(self.texts), n * N_CANDIDATES),
        )

    def notes(self, reader: vlm.Reader) -> NoteTexts:
        lists = TextNumbers(reader.tokenizer)([*self.texts, ""], 512)
        return NoteTexts(lists_of(lists), special_tokens(self.tokenizer))


def seconds(device: torch.device, run: Callable[[], object]) -> float:
    """CPU seconds on a CPU, seconds on a GPU."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def peak_megabytes(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure(
    name: str,
    log: Log,
    recipe: VLMRecipe,
    reader: vlm.Reader,
    model: vlm.VLMRanker,
    device: torch.device,
    side: int = 0,
    n_batches: int = 20,
) -> tuple[float, float]:
    """Print a row; returns pairs a second in training and in scoring."""
    covers = None
    if recipe.covers != "none":
        covers = Covers(
            log.sizes(side), log.image, reader.image_shape, recipe.model.max_image_tokens
        )
    notes, data = log.notes(reader), log.requests(reader, recipe.task)
    learner = vlm.VLMLearner(model, reader, notes, covers, data, data, recipe, device)
    (optimiser,) = learner.optimisers(recipe.training)
    batches = learner.batches(np.random.default_rng(0))
    precision = torch.autocast(
        device.type, torch.bfloat16, enabled=recipe.training.precision == "bf16"
    )

    def train(some: list[np.ndarray]) -> None:
        model.train()
        for requests in some:
            with precision:
                loss = learner.loss(requests)
            torch.autograd.backward(loss)
            optimiser.step()
            optimiser.zero_grad()

    train(batches[:2])
    some = batches[2 : 2 + n_batches]
    lengths = learner._batches.lengths
    n_pairs = sum(map(len, some)) * recipe.list_size
    training = n_pairs / seconds(device, lambda: train(some))
    model.eval()
    part = data.take(np.arange(40))
    scoring = part.n_candidates / seconds(device, lambda: learner._batches.scores(part))
    tokens = lengths(part, part.request_index, part.note)
    print(
        f"| {name} | {tokens.mean():.0f} | {training:,.0f} | {training * tokens.mean():,.0f} "
        f"| {scoring:,.0f} | {scoring * tokens.mean():,.0f} | {peak_megabytes(device):,.0f} |"
    )
    return training, scoring


def padding(log: Log, recipe: VLMRecipe, reader: vlm.Reader, model: vlm.VLMRanker) -> None:
    """How many tokens of a batch are padding, in batches by length and in random ones."""
    notes, data = log.notes(reader), log.requests(reader, recipe.task)
    learner = vlm.VLMLearner(model, reader, notes, None, data, data, recipe, torch.device("cpu"))
    by_length = learner.batches(np.random.default_rng(0))
    order = np.random.default_rng(1).permutation(data.n_requests)
    at_random = np.array_split(order, len(by_length))
    for name, batches in (("by length", by_length), ("at random", at_random)):
        shares = []
        for requests in batches:
            part = data.take(requests)
            length = learner._batches.lengths(part, part.request_index, part.note)
            shares.append(1 - length.sum() / (len(length) * length.max()))
        print(f"padding in batches {name}: {np.mean(shares):.1%} of their tokens")


def shared_beginning(log: Log, recipe: VLMRecipe, reader: vlm.Reader) -> None:
    """How much of what the candidates of a request are is the same for all of them."""
    data = log.requests(reader, recipe.task)
    query = data.queries.lengths(np.arange(data.n_requests), recipe.model.max_query_tokens)
    shared = len(reader.prompt.head) + query.mean() + len(reader.prompt.middle)
    print(f"{recipe.task}: {shared:.0f} tokens are read once for all candidates of a request")


def epoch(name: str, recipe: VLMRecipe, training: float, scoring: float) -> None:
    """Computed, not run."""
    pairs = SEARCH_TRAIN_REQUESTS * recipe.list_size
    print(
        f"{name}, computed from these rates: an epoch over search_train ({pairs:,} pairs, "
        f"{recipe.list_size} a request) {pairs / training / 3600:,.2f} h; scoring search_test "
        f"({SEARCH_TEST_PAIRS:,} pairs) {SEARCH_TEST_PAIRS / scoring / 3600:,.2f} h"
    )


def small(log: Log) -> None:
    torch.set_num_threads(1)
    device = torch.device("cpu")
    for name, recipe in (
        ("small, cover and text", recipes.vlm_search()),
        ("small, text only", replace(recipes.vlm_search(), covers="none")),
        ("small, cover only", replace(recipes.vlm_search(), reads_text=False)),
        ("small, feed", recipes.vlm_recommendation()),
    ):
        reader = vlm.new_reader(log.tokenizer, recipe.model)
        torch.manual_seed(0)
        model = vlm.new_model(recipe, reader, device)
        training, scoring = measure(name, log, recipe, reader, model, device)
        if name == "small, cover and text":
            rates = training, scoring, recipe, reader, model
    training, scoring, recipe, reader, model = rates
    padding(log, recipe, reader, model)
    for task in (recipe, recipes.vlm_recommendation()):
        shared_beginning(log, task, reader)
    epoch("small on one thread", recipe, training, scoring)


def of_2b_size(log: Log, device: torch.device) -> None:
    """Random weights of the published sizes; the covers are scaled up to 640 pixels first."""
    recipe = recipes.vlm_from_checkpoint(recipes.vlm_search(), "")
    reader = vlm.new_reader(log.tokenizer, recipe.model)
    config = Qwen2VLConfig(
        text_config=TEXT_2B,
        vision_config=VISION_2B,
        image_token_id=reader.prompt.image,
        video_token_id=reader.tokenizer.token_to_id(vlm.VIDEO),
        vision_start_token_id=reader.prompt.image_start,
        vision_end_token_id=reader.prompt.image_end,
    )
    kinds = ["bfloat16"] + ["four bits"] * vlm.can_quantise(device)
    for kind in kinds:
        with torch.device(device):
            backbone = Qwen2VLModel(config).to(torch.bfloat16)
        if kind == "four bits":
            with tempfile.TemporaryDirectory() as folder:
                backbone.save_pretrained(folder)
                del backbone
                backbone = vlm._from_checkpoint(folder, LoRA(), device)
        model = vlm.VLMRanker(vlm._adapted(backbone, LoRA()), 1536, "last", False)
        model.to(device)
        torch.cuda.reset_peak_memory_stats(device)
        name = f"2B, LoRA 16, {kind}"
        training, scoring = measure(name, log, recipe, reader, model, device, side=640, n_batches=8)
        epoch(name, recipe, training, scoring)
        del model, backbone
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.01)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = options.data
        if data is None:
            from qilin_dagster.sources.twin import write_twin

            data = Path(folder) / "twin"
            write_twin(data, scale=options.scale, seed=7, images=True)
        log = Log(data)
        print("| model | tokens a pair | training pairs/s | tokens/s | scoring pairs/s | tokens/s "
              "| peak MB |\n|---|---|---|---|---|---|---|")  # fmt: skip
        small(log)
        if torch.cuda.is_available():
            of_2b_size(log, torch.device("cuda"))
        else:
            print("no GPU here: the model of the size of 2B is not measured")


if __name__ == "__main__":
    main()
