"""Cross-encoder: a BERT reads query and note together, and a head on [CLS] scores them.

Source: Nogueira and Cho 2019 (arXiv 1901.04085), trained on whole lists of exposures.

Shapes: B = pairs of a batch, L = tokens of the longest pair, N = candidates of all requests.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from models import loop
from models.encoder import (
    SCORE_DECIMALS,
    TOKENS_PER_SCORED_BATCH,
    WEIGHTS,
    by_length,
    encoder_config,
    new_bert,
    save,
    scoring,
    tensors,
)
from models.loop import Progress, TrainingHistory
from models.metrics import FloatArray
from models.ranking_data import require_enough, validation_metric
from models.recipes import CrossEncoderRecipe, Training
from models.text_data import (
    DrawnLists,
    IntArray,
    NoteTexts,
    TextRequests,
    adamw,
    clicks_counted,
    drawn_lists,
)
from models.tokens import Sequences, SpecialTokens, pairs


class CrossEncoder(nn.Module):
    """A BERT with a linear head on the last state of [CLS], as transformers classifies."""

    def __init__(self, bert: BertForSequenceClassification) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, sequences: dict[str, Tensor]) -> Tensor:
        """Logits of a click, float32 (B,)."""
        logit_B1: Tensor = self.bert(**sequences).logits
        return logit_B1[:, 0].float()


class CrossEncoderLearner:
    """The cross-encoder with its folds, for `models.loop.train`.

    Of a request with more exposures than the recipe's list size, a clicked one, an unclicked one
    and others are drawn anew in each epoch. Notes shown in other requests join the list: the
    exposures alone answer the query nearly all, and what a match is shows slowly in them.
    """

    model: CrossEncoder

    def __init__(
        self,
        model: CrossEncoder,
        notes: NoteTexts,
        fit: TextRequests,
        validation: TextRequests,
        recipe: CrossEncoderRecipe,
        place: torch.device,
    ) -> None:
        self.model = model.to(place)
        self.n_fit_requests, self.n_validation_requests = fit.n_requests, validation.n_requests
        self._notes, self._fit, self._validation = notes, fit, validation
        self._recipe, self._place = recipe, place
        self._metric = validation_metric(validation, recipe.training)
        self._counted = clicks_counted(fit, recipe.training)
        self._epoch: DrawnLists | None = None

    def optimisers(self, training: Training) -> Sequence[torch.optim.Optimizer]:
        return adamw(self.model, training)

    def batches(self, order: np.random.Generator) -> list[IntArray]:
        recipe = self._recipe
        self._epoch = self._draw(order)
        requests = order.permutation(self.n_fit_requests)
        per_request = recipe.list_size + recipe.other_negatives
        n = max(1, recipe.training.candidates_per_batch // per_request)
        return [requests[start : start + n] for start in range(0, len(requests), n)]

    def loss(self, requests: IntArray) -> Tensor:
        drawn = self._drawn().pairs(requests)
        sequences = _pairs(self._notes, self._fit, drawn.fit_request, drawn.note, self._recipe)
        return drawn.loss(self._recipe.training, self.model(tensors(sequences, self._place)))

    def validation_scores(self, requests: IntArray) -> FloatArray:
        part = self._validation.take(requests)
        return scores(self.model, self._notes, part, self._recipe, self._place)

    def metric(self, scores: FloatArray) -> float:
        return self._metric(scores)

    def negatives(self, order: np.random.Generator) -> dict[str, int]:
        """Of the epoch that this order gives, by where they come from."""
        epoch, fit = self._draw(order), self._fit
        request = np.repeat(np.arange(fit.n_requests), np.diff(epoch.offsets))
        shown = fit.request_index * len(self._notes.lists) + fit.note
        is_shown = np.isin(request * len(self._notes.lists) + epoch.note, shown)
        return {
            "exposed": int((is_shown & (epoch.label == 0)).sum()),
            "of_other_requests": int((~is_shown).sum()),
        }

    def _draw(self, order: np.random.Generator) -> DrawnLists:
        recipe = self._recipe
        return drawn_lists(
            order,
            self._fit,
            len(self._notes.lists),
            recipe.list_size,
            recipe.other_negatives,
            self._counted,
        )

    def _drawn(self) -> DrawnLists:
        if self._epoch is None:
            raise ValueError("batches() draws what an epoch learns from; it was not called")
        return self._epoch


def train(
    notes: NoteTexts,
    n_vocabulary: int,
    fit: TextRequests,
    validation: TextRequests,
    recipe: CrossEncoderRecipe,
    *,
    device: str = "auto",
    checkpoint: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[CrossEncoder, dict[str, int], TrainingHistory]:
    """Train on the fit fold and keep the weights that are best on the validation fold.

    Arguments and errors as `models.bi_encoder.train`.

    Returns:
        The model on the CPU, the negatives of an epoch by source, and what happened.
    """
    require_enough(fit, validation, recipe.training)
    learner, history = loop.train(
        lambda place: CrossEncoderLearner(
            new_model(recipe, n_vocabulary, notes.special),
            notes,
            fit,
            validation,
            recipe,
            place,
        ),
        recipe.training,
        device=device,
        checkpoint=checkpoint,
        on_progress=on_progress,
    )
    counted = learner.negatives(np.random.default_rng(recipe.training.seed))
    return learner.model.cpu(), counted, history


def new_model(
    recipe: CrossEncoderRecipe, n_vocabulary: int, special: SpecialTokens
) -> CrossEncoder:
    """The model of a recipe: a new head, on random weights or the checkpoint's."""
    n_segments = 3 if recipe.marks_matches else 2
    config = encoder_config(recipe.encoder, n_vocabulary, special, n_segments=n_segments)
    config.num_labels = 1
    bert = BertForSequenceClassification(config)
    if recipe.encoder.checkpoint is not None:
        weights = new_bert(recipe.encoder, config).state_dict()
        left_out = bert.bert.load_state_dict(weights, strict=False).missing_keys
        if {name for name in left_out if not name.startswith("pooler.")}:
            raise ValueError(f"{recipe.encoder.checkpoint} lacks weights: {', '.join(left_out)}")
    return CrossEncoder(bert)


def scores(
    model: CrossEncoder,
    notes: NoteTexts,
    requests: TextRequests,
    recipe: CrossEncoderRecipe,
    place: torch.device,
) -> FloatArray:
    """Click logits of all candidates, float64 (N,), in the order of the data."""
    model.to(place)
    encoder = recipe.encoder
    request = requests.request_index
    length = requests.queries.lengths(request, encoder.max_query_tokens)
    length = length + notes.lists.lengths(requests.note, encoder.max_note_tokens) + 3
    score_N = np.zeros(requests.n_candidates)
    with scoring(model, place):
        for rows in by_length(length, TOKENS_PER_SCORED_BATCH):
            sequences = _pairs(notes, requests, request[rows], requests.note[rows], recipe)
            score_N[rows] = model(tensors(sequences, place)).cpu().numpy()
    return np.round(score_N, SCORE_DECIMALS)


def save_model(model: CrossEncoder, tokenizer: Tokenizer, folder: Path) -> None:
    """Write weights.safetensors, config.json and tokenizer.json."""
    save(
        model.bert.state_dict(),
        model.bert.config,
        tokenizer,
        folder,
        architectures=["BertForSequenceClassification"],
    )


def load_model(folder: Path) -> CrossEncoder:
    """The model that `save_model` wrote, set to score."""
    bert = BertForSequenceClassification(BertConfig.from_pretrained(folder, local_files_only=True))
    bert.load_state_dict(load_file(folder / WEIGHTS))
    return CrossEncoder(bert).eval()


def _pairs(
    notes: NoteTexts,
    requests: TextRequests,
    request: IntArray,
    note: IntArray,
    recipe: CrossEncoderRecipe,
) -> Sequences:
    return pairs(
        notes.special,
        requests.queries,
        request,
        notes.lists,
        note,
        (recipe.encoder.max_query_tokens, recipe.encoder.max_note_tokens),
        marks_matches=recipe.marks_matches,
    )
