"""The one training loop: seed, device, whole-request batches, early stopping on a validation fold.

The folds are the caller's: this loop sees a fit fold and a validation fold, never the test rows.

Shapes: B = candidates in the batch, R = requests in the batch, N = candidates of all requests.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from models.dcn_v2 import DCNV2, DCNV2Config
from models.losses import listwise_loss, pointwise_loss
from models.metrics import FloatArray
from models.ranking_data import RankingData, TooLittleData, metric_on, rows_of_requests
from models.recipes import Training

ValidationMetric = Callable[[FloatArray], float]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What the callback sees after every step, and once more after each validation.

    `loss` is the mean of the epoch so far; `validation_metric` is None until the epoch is over.
    """

    epoch: int
    step: int
    n_steps: int
    loss: float
    validation_metric: float | None


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One pass over the fit fold; `loss` in nats, `seconds` with validation."""

    epoch: int
    n_steps: int
    loss: float
    validation_metric: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TrainingHistory:
    """What happened. The model keeps the weights of `best_epoch` (from 1)."""

    epochs: tuple[Epoch, ...]
    best_epoch: int
    best_metric: float
    stopped_early: bool
    n_fit_requests: int
    n_validation_requests: int
    n_parameters: int
    seed: int
    device: str


def train(
    config: DCNV2Config,
    fit: RankingData,
    validation: RankingData,
    training: Training,
    *,
    validation_metric: ValidationMetric | None = None,
    device: str = "auto",
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[DCNV2, TrainingHistory]:
    """Train on the fit fold and keep the weights that are best on the validation fold.

    The same seed, data and device give the same weights.

    Args:
        config: the model to build.
        fit: requests to learn from; with the listwise loss those without a choice are left out.
        validation: other requests, say the last hours before the test rows.
        training: loss, seed, batch size, learning rate, when to stop.
        validation_metric: from float64 scores (N,) of the validation candidates to a number,
            higher is better; None means MRR@10, ties in expectation.
        device: `auto` (a GPU if there is one), or a torch device.
        on_progress: called every ten steps and after each validation.

    Returns:
        The model, set to score, on the CPU; and what happened.

    Raises:
        TooLittleData: too few requests with both clicked and unclicked notes in either fold; its
            message is a sentence for the user.
        ValueError: ids outside the config's vocabularies, feature counts that do not fit.
        FloatingPointError: the loss became infinite or NaN.
    """
    _require_enough(fit, training.min_fit_requests, "train")
    _require_enough(validation, training.min_validation_requests, "validate")
    if validation_metric is None:
        validation_metric = metric_on(validation)
    if training.loss == "listwise":
        fit = fit.take(fit.has_choice)
    place = _device(device)
    with _reproducible(training.seed, place):
        model = DCNV2(config)
        for data in (fit, validation):
            model.check_data(data)
        model.to(place)
        optimiser = torch.optim.AdamW(_parameter_groups(model, training), lr=training.learning_rate)
        order = np.random.default_rng(training.seed)
        tensors = _Tensors.on(place, fit)

        epochs: list[Epoch] = []
        best_epoch, best_metric, best_weights = 0, -np.inf, _copy_of_weights(model)
        stopped_early = False
        for epoch in range(1, training.max_epochs + 1):
            started = time.perf_counter()
            batches = list(
                _batches(
                    fit.request_offsets,
                    order.permutation(fit.n_requests),
                    training.candidates_per_batch,
                )
            )
            loss, n_seen = torch.zeros((), device=place), 0
            model.train()
            for step, requests in enumerate(batches, start=1):
                loss_of_batch = _step(model, optimiser, tensors, requests, training)
                # Stays on the device: reading it each step would make a GPU wait.
                loss += loss_of_batch * len(requests)
                n_seen += len(requests)
                if on_progress is not None and step % 10 == 0:
                    on_progress(
                        Progress(
                            epoch=epoch,
                            step=step,
                            n_steps=len(batches),
                            loss=float(loss) / n_seen,
                            validation_metric=None,
                        )
                    )
            mean_loss = float(loss) / n_seen
            if not np.isfinite(mean_loss):
                raise FloatingPointError(
                    f"the loss is {mean_loss} in epoch {epoch}: lower the learning rate"
                )
            metric = validation_metric(_scores(model, validation, place))
            epochs.append(
                Epoch(
                    epoch=epoch,
                    n_steps=len(batches),
                    loss=mean_loss,
                    validation_metric=metric,
                    seconds=time.perf_counter() - started,
                )
            )
            if on_progress is not None:
                on_progress(
                    Progress(
                        epoch=epoch,
                        step=len(batches),
                        n_steps=len(batches),
                        loss=mean_loss,
                        validation_metric=metric,
                    )
                )
            if metric > best_metric:
                best_epoch, best_metric, best_weights = epoch, metric, _copy_of_weights(model)
            elif epoch - best_epoch >= training.patience:
                stopped_early = True
                break
    model.load_state_dict(best_weights)
    history = TrainingHistory(
        epochs=tuple(epochs),
        best_epoch=best_epoch,
        best_metric=best_metric,
        stopped_early=stopped_early,
        n_fit_requests=fit.n_requests,
        n_validation_requests=validation.n_requests,
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        seed=training.seed,
        device=str(place),
    )
    return model.cpu().eval(), history


def score(model: DCNV2, data: RankingData, *, device: str = "auto") -> FloatArray:
    """Click logits of all candidates, float64 (N,), in the order of the data.

    The model is left on the device it was scored on.

    Raises:
        ValueError: ids outside the model's vocabularies, feature counts that do not fit.
    """
    model.check_data(data)
    place = _device(device)
    return _scores(model.to(place), data, place)


@dataclass(frozen=True)
class _Tensors:
    """A fold on the device, so that a batch needs only row numbers."""

    request_offsets: NDArray[np.int64]
    labels_N: Tensor
    dense_N: Tensor
    categorical_N: Tensor
    note_N: Tensor
    history_R: Tensor

    @classmethod
    def on(cls, place: torch.device, data: RankingData) -> "_Tensors":
        return cls(
            request_offsets=data.request_offsets,
            labels_N=_tensor(data.labels, np.float32, place),
            dense_N=_tensor(data.dense, np.float32, place),
            categorical_N=_tensor(data.categorical, _id_type(data.categorical), place),
            note_N=_tensor(data.note_id, _id_type(data.note_id), place),
            history_R=_tensor(data.history, _id_type(data.history), place),
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

    def scores(self, model: DCNV2) -> Tensor:
        scores: Tensor = model(
            self.categorical_BF, self.dense_BN, self.note_B, self.history_RH, self.request_B
        )
        return scores


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


def _step(
    model: DCNV2,
    optimiser: torch.optim.Optimizer,
    tensors: _Tensors,
    requests: NDArray[np.int64],
    training: Training,
) -> Tensor:
    batch = tensors.batch(requests)
    score_B = batch.scores(model)
    if training.loss == "listwise":
        loss = listwise_loss(
            score_B, batch.label_B, batch.request_B, batch.place_B, batch.n_requests
        )
    else:
        loss = pointwise_loss(score_B, batch.label_B)
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), training.gradient_clip)
    optimiser.step()
    return loss.detach()


@torch.no_grad()
def _scores(model: DCNV2, data: RankingData, place: torch.device) -> FloatArray:
    model.eval()
    tensors = _Tensors.on(place, data)
    parts = [
        tensors.batch(requests).scores(model).cpu().numpy()
        for requests in _batches(data.request_offsets, np.arange(data.n_requests), 16_384)
    ]
    return np.concatenate([np.zeros(0), *parts]).astype(np.float64)


def _parameter_groups(model: DCNV2, training: Training) -> list[dict[str, object]]:
    """Every parameter is in one group: decay shrinks matrices, not biases and rare ids' rows."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        is_table = name.startswith(("fields.", "notes."))
        (others if is_table or parameter.ndim < 2 else matrices).append(parameter)
    return [
        {"params": matrices, "weight_decay": training.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _require_enough(data: RankingData, n_needed: int, purpose: str) -> None:
    n_found = int(np.count_nonzero(data.has_choice))
    if n_found < n_needed:
        found = {0: "none", 1: "only 1"}.get(n_found, f"only {n_found:,}")
        raise TooLittleData(
            f"Too little data to {purpose}: {found} of {data.n_requests:,} requests in the "
            f"{'fit' if purpose == 'train' else 'validation'} fold "
            f"{'has' if n_found < 2 else 'have'} both clicked and unclicked notes, and at least "
            f"{n_needed:,} are needed."
        )


def _copy_of_weights(model: DCNV2) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


@contextlib.contextmanager
def _reproducible(seed: int, place: torch.device) -> Iterator[None]:
    """Seeded and deterministic inside; the caller's random state and settings come back after."""
    is_cuda = place.type == "cuda"
    if is_cuda:
        # Read when the first matrix product runs; without it products may differ between runs.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[place] if is_cuda else []):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(was_deterministic, warn_only=only_warned)
