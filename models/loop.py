"""The one training loop: seed, device, steps, early stopping on a validation fold, checkpoints.

What is learnt, from which requests, by which loss, is the learner's; the loop sees a fit fold and
a validation metric, never the test rows.
"""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.array_file import whole_file
from models.metrics import FloatArray
from models.processes import NotMainError, Processes, n_started
from models.recipes import Training

# A learner tells how far it is after so many steps, and saves where it is after so many seconds.
STEPS_PER_PROGRESS = 10
SECONDS_PER_CHECKPOINT = 300.0


class Learner(Protocol):
    """A model with its data: all that the loop must know of a ranker."""

    @property
    def model(self) -> nn.Module: ...
    @property
    def n_fit_requests(self) -> int: ...
    @property
    def n_validation_requests(self) -> int: ...

    def optimisers(self, training: Training) -> Sequence[torch.optim.Optimizer]:
        """Optimisers of all trainable parameters, each parameter in one of them."""
        ...

    def batches(self, order: np.random.Generator) -> list[NDArray[np.int64]]:
        """Fit requests of each step of one epoch; `order` is the only source of chance."""
        ...

    def loss(self, requests: NDArray[np.int64]) -> Tensor:
        """Mean loss over these requests, on the model's device, with its gradient."""
        ...

    def validation_scores(self, requests: NDArray[np.int64]) -> FloatArray:
        """Scores of these validation requests' candidates, float64, in their order; called in
        evaluation mode."""
        ...

    def metric(self, scores: FloatArray) -> float:
        """Of the scores of the whole validation fold; higher is better."""
        ...


AnyLearner = TypeVar("AnyLearner", bound=Learner)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What the callback sees every few steps, and once more after each validation.

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
    build: Callable[[torch.device], AnyLearner],
    training: Training,
    *,
    device: str = "auto",
    checkpoint: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[AnyLearner, TrainingHistory]:
    """Train on the fit fold and keep the weights that are best on the validation fold.

    The same seed, data and device give the same weights, interrupted and resumed or not. Started by
    torchrun, the processes share the batches of each update and the validation requests (see
    `models.processes`); how many they are changes sums in their last digits only.

    Args:
        build: makes the learner on a device; called with the seed set.
        training: seed, learning rate, when to stop.
        device: `auto` (a GPU if there is one), or a torch device.
        checkpoint: file to save to every few minutes, after each epoch and when the process is
            asked to end (SIGINT, SIGTERM), and to go on from if it is there. It must belong to the
            same data and recipe, which is for the caller to see to.
        on_progress: called every ten steps and after each validation, in the main process; the
            loss of an epoch that is not over is that of its batches.

    Returns:
        The learner, its model set to score; and what happened.

    Raises:
        FloatingPointError: the loss became infinite or NaN.
        ValueError: a checkpoint of another model; more processes than batches of an update.
        NotMainError: training is over in a process that is not the main one.
    """
    place = device_named(device)
    # Before they connect: one that ends while another still connects breaks that one's connection.
    n = n_started()
    if n > training.batches_per_update:
        raise ValueError(
            f"{n} processes share the batches of an update, and there are only "
            f"{training.batches_per_update}: set QILIN_PROCESSES={n} to cut them smaller"
        )
    processes = Processes.joined(place)
    with _reproducible(training.seed, place), _signals_held(checkpoint is not None) as asked:
        learner = build(place)
        optimisers = learner.optimisers(training)
        run = _Run(learner.model, optimisers, training, place, processes)
        # None writes before all have read: they meet at each update.
        is_there = checkpoint is not None and processes.is_main and checkpoint.exists()
        if checkpoint is not None and processes.any(is_there)[0]:
            run.read(checkpoint)
        processes.start_alike(run.model)
        while not run.is_over:
            _epoch(run, learner, training, checkpoint, on_progress, asked)
            if checkpoint is not None:
                run.write(checkpoint)
    if not processes.is_main:
        raise NotMainError
    run.model.load_state_dict(run.best_weights)
    run.model.eval()
    history = TrainingHistory(
        epochs=tuple(run.epochs),
        best_epoch=run.best_epoch,
        best_metric=run.best_metric,
        stopped_early=len(run.epochs) < training.max_epochs,
        n_fit_requests=learner.n_fit_requests,
        n_validation_requests=learner.n_validation_requests,
        n_parameters=sum(parameter.numel() for parameter in run.model.parameters()),
        seed=training.seed,
        device=str(place),
    )
    return learner, history


def device_named(device: str) -> torch.device:
    """The torch device of this name; `auto` is a GPU if there is one, of torchrun's processes on a
    machine one each."""
    if device == "auto" and torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if device == "auto":
        return torch.device("cpu")
    return torch.device(device)


@dataclass
class _Run:
    """Where a training is: all that a checkpoint holds."""

    model: nn.Module
    optimisers: Sequence[torch.optim.Optimizer]
    training: Training
    place: torch.device
    processes: Processes
    order: np.random.Generator = field(init=False)
    best_weights: dict[str, Tensor] = field(init=False)
    # Of the epoch that is running: the state of `order` at its start, steps done, and, of the
    # batches of this process, sum of the loss and requests.
    order_state: dict[str, Any] = field(init=False)
    step: int = 0
    n_updates: int = 0
    loss: Tensor = field(init=False)
    n_seen: int = 0
    seconds: float = 0.0
    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best_metric: float = -np.inf

    def __post_init__(self) -> None:
        self.order = np.random.default_rng(self.training.seed)
        self.order_state = self._state_of_order()
        self.best_weights = _copy_of_weights(self.model)
        self.loss = torch.zeros((), device=self.place)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["full_lr"] = group["lr"]

    @property
    def is_over(self) -> bool:
        n_done = len(self.epochs)
        is_patient = n_done - self.best_epoch < self.training.patience
        return n_done >= self.training.max_epochs or (n_done > 0 and not is_patient)

    def end_epoch(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)
        if epoch.validation_metric > self.best_metric:
            self.best_epoch, self.best_metric = epoch.epoch, epoch.validation_metric
            self.best_weights = _copy_of_weights(self.model)
        self.order_state = self._state_of_order()
        self.step, self.n_seen, self.seconds = 0, 0, 0.0
        self.loss = torch.zeros((), device=self.place)

    def update(self) -> None:
        """One step of all optimisers; the learning rate rises from 0 over the first ones."""
        self.processes.add_gradients(self.model.parameters())
        # Clipping knows no sparse gradients; a row that is rarely met needs none.
        dense = [p for p in self.model.parameters() if p.grad is not None and not p.grad.is_sparse]
        torch.nn.utils.clip_grad_norm_(dense, self.training.gradient_clip)
        self.n_updates += 1
        share = min(1.0, self.n_updates / max(1, self.training.warmup_updates))
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = share * group["full_lr"]
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def write(self, path: Path) -> None:
        """All of it as one file of tensors, words in its header; whole or not at all.

        Every process calls it, the main one writes.
        """
        loss, n_seen = self.seen_by_all()
        if not self.processes.is_main:
            return
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best_weights.items()}
        for number, optimiser in enumerate(self.optimisers):
            for parameter, state in optimiser.state_dict()["state"].items():
                for name, tensor in state.items():
                    tensors[f"optimiser.{number}.{parameter}.{name}"] = tensor
        tensors["loss"] = loss
        words = {
            "training": asdict(self.training),
            "order": self.order_state,
            "step": self.step,
            "n_updates": self.n_updates,
            "n_seen": n_seen,
            "seconds": self.seconds,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "best_epoch": self.best_epoch,
            "best_metric": self.best_metric,
        }
        # Copies: tensors that share memory, such as tied weights, cannot be saved as they are.
        copies = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        with whole_file(path) as aside:
            save_file(copies, aside, metadata={"run": json.dumps(words)})

    def read(self, path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            words = json.loads(file.metadata()["run"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if words["training"] != json.loads(json.dumps(asdict(self.training))):
            raise ValueError(f"{path} is a checkpoint of another recipe: delete it to begin anew")
        try:
            self.model.load_state_dict(_part(tensors, "model."))
        except RuntimeError as error:
            raise ValueError(f"{path} is a checkpoint of another model: {error}") from error
        self.best_weights = {
            name: tensor.to(self.place) for name, tensor in _part(tensors, "best.").items()
        }
        for number, optimiser in enumerate(self.optimisers):
            states: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _part(tensors, f"optimiser.{number}.").items():
                parameter, _, entry = name.partition(".")
                states.setdefault(int(parameter), {})[entry] = tensor
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": states, "param_groups": groups})
        if self.processes.is_main:
            # Counted once: it is a sum over the processes of that time.
            self.loss, self.n_seen = tensors["loss"].to(self.place), words["n_seen"]
        self.order_state = words["order"]
        self.order.bit_generator.state = words["order"]
        self.step, self.n_updates = words["step"], words["n_updates"]
        self.seconds = words["seconds"]
        self.epochs = [Epoch(**epoch) for epoch in words["epochs"]]
        self.best_epoch, self.best_metric = words["best_epoch"], words["best_metric"]

    def seen_by_all(self) -> tuple[Tensor, int]:
        """Sum of the loss and requests of the epoch so far, over all processes."""
        seen = torch.tensor(self.n_seen, device=self.place)
        return self.processes.total(self.loss), int(self.processes.total(seen))

    def _state_of_order(self) -> dict[str, Any]:
        return dict(self.order.bit_generator.state)


def _epoch(
    run: _Run,
    learner: Learner,
    training: Training,
    checkpoint: Path | None,
    on_progress: Callable[[Progress], None] | None,
    asked: threading.Event,
) -> None:
    """The rest of the epoch the run is in, and its validation."""
    number = len(run.epochs) + 1
    started = time.perf_counter() - run.seconds
    saved = time.perf_counter()
    batches = learner.batches(run.order)
    n_steps = len(batches)
    processes = run.processes
    if not processes.is_main:
        on_progress = None
    in_half_precision = torch.autocast(
        run.place.type, torch.bfloat16, enabled=training.precision == "bf16"
    )
    run.model.train()
    for step in range(run.step, n_steps):
        requests = batches[step]
        first = step - step % training.batches_per_update
        together = batches[first : first + training.batches_per_update]
        is_whole = step == first + len(together) - 1
        if processes.takes(step - first):
            # Chance of its own for each batch, the same whichever process takes it.
            torch.manual_seed(seed_of_batch(training.seed, number, step))
            with in_half_precision:
                loss_of_batch = learner.loss(requests)
            # Batches of one update weigh by their requests, as if they were one batch.
            weight = len(requests) / sum(map(len, together))
            torch.autograd.backward(loss_of_batch * weight)
            # Stays on the device: reading it each step would make a GPU wait.
            run.loss += loss_of_batch.detach() * len(requests)
            run.n_seen += len(requests)
        if is_whole:
            run.update()
        if on_progress is not None and (step + 1) % STEPS_PER_PROGRESS == 0:
            on_progress(_progress(run, number, step + 1, n_steps, None))
        if checkpoint is not None and is_whole:
            run.step, run.seconds = step + 1, time.perf_counter() - started
            is_due = time.perf_counter() - saved > SECONDS_PER_CHECKPOINT
            is_asked, is_due = processes.any(asked.is_set(), is_due)
            if is_asked or is_due:
                run.write(checkpoint)
                saved = time.perf_counter()
            if is_asked:
                raise _Asked
    total, n_seen = run.seen_by_all()
    loss = float(total) / n_seen
    if not np.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss} in epoch {number}: lower the learning rate")
    run.model.eval()
    with torch.no_grad(), in_half_precision:
        share = processes.share(learner.n_validation_requests)
        # More processes than requests leave some without any.
        scores = learner.validation_scores(share) if len(share) else np.zeros(0)
        metric = learner.metric(processes.gathered(scores))
    if on_progress is not None:
        on_progress(_progress(run, number, n_steps, n_steps, metric))
    run.end_epoch(
        Epoch(
            epoch=number,
            n_steps=n_steps,
            loss=loss,
            validation_metric=metric,
            seconds=time.perf_counter() - started,
        )
    )


def seed_of_batch(seed: int, epoch: int, step: int) -> int:
    """A seed for what is drawn in one batch, such as dropout; far from those of its neighbours."""
    (state,) = np.random.SeedSequence((seed, epoch, step)).generate_state(1, np.uint64)
    return int(state >> np.uint64(1))


def _progress(run: _Run, epoch: int, step: int, n_steps: int, metric: float | None) -> Progress:
    return Progress(
        epoch=epoch,
        step=step,
        n_steps=n_steps,
        loss=float(run.loss) / max(1, run.n_seen),
        validation_metric=metric,
    )


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _copy_of_weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


class _Asked(Exception):
    """The process was asked to end, and the checkpoint is written."""


@contextlib.contextmanager
def _signals_held(is_wanted: bool) -> Iterator[threading.Event]:
    """Inside, the first SIGINT or SIGTERM only sets the event; afterwards it does what it would.

    Nothing is held outside of the main thread, where Python cannot.
    """
    asked = threading.Event()
    if not is_wanted or threading.current_thread() is not threading.main_thread():
        yield asked
        return
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def hold(number: int, _frame: object) -> None:
        received.append(number)
        asked.set()
        # A second one does not wait for the checkpoint.
        restore()

    for number in before:
        signal.signal(number, hold)
    was_stopped = False
    try:
        yield asked
    except _Asked:
        was_stopped = True
    finally:
        restore()
    if received:
        signal.raise_signal(received[0])
    if was_stopped:
        raise KeyboardInterrupt("training was asked to stop; its checkpoint is written")


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
