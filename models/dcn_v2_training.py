"""What DCN-V2 learns from: folds on the device, whole requests, a loss over their exposures.

Shapes: B = candidates in the batch, R = requests in the batch, N = candidates of all requests,
F = categorical fields, H = length of the history.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor, nn

from models import loop, ranking_data
from models.dcn_v2 import DCNV2, DCNV2Config
from models.loop import Progress, TrainingHistory, device_named
from models.losses import corrected_clicks, dual_learning_loss, ranking_loss
from models.metrics import FloatArray
from models.ranking_data import NO_EXPOSURE, Exposure, RankingData, require_enough, rows_of_requests
from models.recipes import PositionCorrection, Training
from models.row_wise_adagrad import RowWiseAdagrad

ValidationMetric = Callable[[FloatArray], float]
# Scoring keeps no gradients and so takes more at once.
CANDIDATES_PER_SCORED_BATCH = 16_384
# Corrections that learn a logit for each place; the others divide by examination that is known.
LEARNS_PLACES = ("position_input", "dual_learning")


def train(
    config: DCNV2Config,
    fit: RankingData,
    validation: RankingData,
    training: Training,
    *,
    validation_metric: ValidationMetric | None = None,
    device: str = "auto",
    checkpoint: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[DCNV2, TrainingHistory]:
    """Train on the fit fold and keep the weights that are best on the validation fold.

    Args:
        config: the model to build.
        fit: requests to learn from; with the listwise loss those without a choice are left out.
        validation: other requests, say the last hours before the test rows.
        training: loss, seed, batch size, learning rate, when to stop.
        validation_metric: from float64 scores (N,) of the validation candidates to a number,
            higher is better; None means `models.ranking_data.validation_metric`.
        device, checkpoint, on_progress: as in `models.loop.train`.

    Returns:
        The model, set to score, on the CPU; and what happened.

    Raises:
        TooLittleData: too few requests with both clicked and unclicked notes in either fold; its
            message is a sentence for the user.
        ValueError: ids outside the config's vocabularies, feature counts that do not fit.
        FloatingPointError: the loss became infinite or NaN.
    """
    require_enough(fit, validation, training)
    if training.loss == "listwise":
        fit = fit.take(fit.has_choice)
    metric = validation_metric or ranking_data.validation_metric(validation, training)
    learner, history = loop.train(
        lambda place: DCNV2Learner(config, fit, validation, metric, training, place),
        training,
        device=device,
        checkpoint=checkpoint,
        on_progress=on_progress,
    )
    return learner.ranker.cpu(), history


class PositionInput(nn.Module):
    """A logit for each place, added to the ranker's score while training (the shallow tower of
    Zhao et al., RecSys 2019; PAL, Guo et al., RecSys 2019, where sigmoids are multiplied), or
    learnt beside it (dual learning)."""

    def __init__(self, n_places: int) -> None:
        super().__init__()
        self.logit = nn.Embedding(n_places, 1)
        nn.init.zeros_(self.logit.weight)

    def forward(self, place_B: Tensor) -> Tensor:
        logit_B: Tensor = self.logit(place_B).squeeze(-1)
        return logit_B


def score(model: DCNV2, data: RankingData, *, device: str = "auto") -> FloatArray:
    """Click logits of all candidates, float64 (N,), in the order of the data.

    The model is left on the device it was scored on.

    Raises:
        ValueError: ids outside the model's vocabularies, feature counts that do not fit.
    """
    model.check_data(data)
    place = device_named(device)
    return _scores(model.to(place).eval(), _Tensors.on(place, data))


class DCNV2Learner:
    """DCN-V2 with its folds, for `models.loop.train`."""

    def __init__(
        self,
        config: DCNV2Config,
        fit: RankingData,
        validation: RankingData,
        metric: ValidationMetric,
        training: Training,
        place: torch.device,
    ) -> None:
        self.ranker = DCNV2(config)
        for data in (fit, validation):
            self.ranker.check_data(data)
        self._positions: PositionInput | None = None
        if training.correction is not None:
            if fit.exposure is None:
                raise ValueError(NO_EXPOSURE)
            if training.correction.method == "affine":
                fit.exposure.require_trust()
            if training.correction.method in LEARNS_PLACES:
                self._positions = PositionInput(fit.exposure.n_places)
        # What is learnt; scoring takes the ranker alone.
        self.model: nn.Module = (
            self.ranker
            if self._positions is None
            else nn.ModuleDict({"ranker": self.ranker, "positions": self._positions})
        )
        self.model.to(place)
        self.n_fit_requests, self.n_validation_requests = fit.n_requests, validation.n_requests
        self._fit, self._validation = _Tensors.on(place, fit), _Tensors.on(place, validation)
        self._metric = metric
        self._training = training

    def optimisers(self, training: Training) -> Sequence[torch.optim.Optimizer]:
        """Decay shrinks matrices, not biases and rare ids' rows; the notes go row by row."""
        matrices: list[Tensor] = []
        others: list[Tensor] = []
        for name, parameter in self.model.named_parameters():
            name = name.removeprefix("ranker.")
            if name.startswith("notes."):
                continue
            is_table = name.startswith(("fields.", "positions."))
            (others if is_table or parameter.ndim < 2 else matrices).append(parameter)
        groups = [
            {"params": matrices, "weight_decay": training.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        found: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=training.learning_rate)]
        if self.ranker.config.n_notes:
            tables = self.ranker.notes.parameters()
            found.append(RowWiseAdagrad(tables, lr=training.table_learning_rate))
        return found

    def batches(self, order: np.random.Generator) -> list[NDArray[np.int64]]:
        return list(
            _batches(
                self._fit.request_offsets,
                order.permutation(self.n_fit_requests),
                self._training.candidates_per_batch,
            )
        )

    def loss(self, requests: NDArray[np.int64]) -> Tensor:
        batch = self._fit.batch(requests)
        score_B = batch.scores(self.ranker)
        if self._training.correction is not None:
            return self._corrected_loss(batch, score_B, self._training.correction)
        lists = (batch.request_B, batch.place_B, batch.n_requests)
        return ranking_loss(self._training.loss, score_B, batch.label_B, *lists)

    def _corrected_loss(
        self, batch: "_Batch", score_B: Tensor, correction: PositionCorrection
    ) -> Tensor:
        assert batch.exposure is not None
        exposure, kind = batch.exposure, self._training.loss
        lists = (batch.request_B, batch.place_B, batch.n_requests)
        if correction.method == "dual_learning":
            assert self._positions is not None
            examined_B = self._positions(exposure.place_B)
            return dual_learning_loss(
                score_B, examined_B, batch.label_B, *lists, clip=correction.clip
            )
        if correction.method == "position_input":
            assert self._positions is not None
            if float(torch.rand(())) >= correction.dropout:
                score_B = score_B + self._positions(exposure.place_B)
            return ranking_loss(kind, score_B, batch.label_B, *lists)
        corrected_B = corrected_clicks(
            batch.label_B,
            exposure.examination_B,
            clip=correction.clip,
            attraction_B=exposure.attraction_B if correction.method == "doubly_robust" else None,
            trust_B=exposure.trust_B if correction.method == "affine" else None,
        )
        return ranking_loss(
            kind,
            score_B,
            batch.label_B,
            *lists,
            corrected_B=corrected_B,
            self_normalised=correction.self_normalised,
        )

    def validation_scores(self, requests: NDArray[np.int64]) -> FloatArray:
        return _scores(self.ranker, self._validation, requests)

    def metric(self, scores: FloatArray) -> float:
        return self._metric(scores)


@dataclass(frozen=True)
class _Exposure:
    place_B: Tensor
    examination_B: Tensor
    attraction_B: Tensor
    trust_B: Tensor | None

    @classmethod
    def on(cls, place: torch.device, exposure: Exposure) -> "_Exposure":
        return cls(
            _tensor(exposure.place, np.int64, place),
            _tensor(exposure.examination, np.float32, place),
            _tensor(exposure.attraction, np.float32, place),
            None if exposure.trust is None else _tensor(exposure.trust, np.float32, place),
        )

    def rows(self, rows_B: Tensor) -> "_Exposure":
        return _Exposure(
            self.place_B.index_select(0, rows_B),
            self.examination_B.index_select(0, rows_B),
            self.attraction_B.index_select(0, rows_B),
            None if self.trust_B is None else self.trust_B.index_select(0, rows_B),
        )


@dataclass(frozen=True)
class _Tensors:
    """A fold on the device, so that a batch needs only row numbers."""

    request_offsets: NDArray[np.int64]
    labels_N: Tensor
    dense_N: Tensor
    categorical_N: Tensor
    note_N: Tensor
    history_R: Tensor
    exposure: _Exposure | None

    @classmethod
    def on(cls, place: torch.device, data: RankingData) -> "_Tensors":
        return cls(
            request_offsets=data.request_offsets,
            labels_N=_tensor(data.labels, np.float32, place),
            dense_N=_tensor(data.dense, np.float32, place),
            categorical_N=_tensor(data.categorical, _id_type(data.categorical), place),
            note_N=_tensor(data.note_id, _id_type(data.note_id), place),
            history_R=_tensor(data.history, _id_type(data.history), place),
            exposure=None if data.exposure is None else _Exposure.on(place, data.exposure),
        )

    def batch(self, requests: NDArray[np.int64]) -> "_Batch":
        rows, offsets = rows_of_requests(self.request_offsets, requests)
        request = np.repeat(np.arange(len(requests)), np.diff(offsets))
        place_in_request = np.arange(len(rows)) - offsets[:-1][request]
        device = self.labels_N.device
        rows_B = torch.from_numpy(rows).to(device)
        return _Batch(
            label_B=self.labels_N.index_select(0, rows_B),
            dense_BN=self.dense_N.index_select(0, rows_B),
            categorical_BF=self.categorical_N.index_select(0, rows_B),
            note_B=self.note_N.index_select(0, rows_B),
            history_RH=self.history_R.index_select(0, torch.from_numpy(requests).to(device)),
            request_B=torch.from_numpy(request).to(device),
            place_B=torch.from_numpy(place_in_request).to(device),
            n_requests=len(requests),
            exposure=None if self.exposure is None else self.exposure.rows(rows_B),
        )


@dataclass(frozen=True)
class _Batch:
    label_B: Tensor
    dense_BN: Tensor
    categorical_BF: Tensor
    note_B: Tensor
    history_RH: Tensor
    request_B: Tensor
    place_B: Tensor
    n_requests: int
    exposure: _Exposure | None

    def scores(self, model: DCNV2) -> Tensor:
        score_B: Tensor = model(
            self.categorical_BF, self.dense_BN, self.note_B, self.history_RH, self.request_B
        )
        # The loss and the metrics are in full precision, whatever the products were.
        return score_B.float()


def _tensor(array: NDArray[Any], dtype: DTypeLike, place: torch.device) -> Tensor:
    """The array on the device; copied first only if torch cannot share it as it is.

    Columns of a data frame are often read-only or not contiguous.
    """
    return torch.from_numpy(np.require(array, dtype, ["C", "W"])).to(place)


def _id_type(ids: NDArray[Any]) -> DTypeLike:
    """Tables are looked up by int32 or int64 only; 32 bits suffice for ids that came in them."""
    return np.int64 if ids.dtype.itemsize > 4 else np.int32


def _batches(
    request_offsets: NDArray[np.int64], requests: NDArray[np.int64], n_candidates: int
) -> Iterator[NDArray[np.int64]]:
    """Whole requests in the given order, together at most n_candidates; a longer one goes alone."""
    total = np.cumsum(request_offsets[requests + 1] - request_offsets[requests])
    start = 0
    while start < len(requests):
        used = total[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(total, used + n_candidates, side="right")))
        yield requests[start:end]
        start = end


@torch.no_grad()
def _scores(
    model: DCNV2, tensors: _Tensors, requests: NDArray[np.int64] | None = None
) -> FloatArray:
    """Scores of the candidates of these requests, or of all."""
    if requests is None:
        requests = np.arange(len(tensors.request_offsets) - 1)
    parts = [
        tensors.batch(batch).scores(model).float().cpu().numpy()
        for batch in _batches(tensors.request_offsets, requests, CANDIDATES_PER_SCORED_BATCH)
    ]
    return np.concatenate([np.zeros(0), *parts]).astype(np.float64)
