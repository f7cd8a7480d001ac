"""Training on several processes: who takes which batch, and what is added up between them.

``torchrun`` starts the processes and tells each its number; without it there is one, and nothing
here costs anything. Each process holds the whole model. Of the batches of an update each takes
every n-th, and the gradients are added before the step: the same sum that one process makes of the
same batches one after the other, whatever the loss does inside of a batch.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

# The main process may work long on its own, say on scores of all notes, while others wait.
PATIENCE = timedelta(days=2)


class NotMainError(Exception):
    """Training is over, and this is not the main process, which alone goes on to score and save."""


def n_started() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class Processes:
    """The ``n`` processes of a training, as seen by number ``rank``; 0 is the main one."""

    rank: int
    n: int
    place: torch.device

    @classmethod
    def joined(cls, place: torch.device) -> "Processes":
        """Those that torchrun started, connected; or this one alone."""
        if n_started() == 1:
            return cls(0, 1, place)
        if not dist.is_initialized():
            if place.type == "cuda":
                torch.cuda.set_device(place)
            dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
        return cls(dist.get_rank(), dist.get_world_size(), place)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def takes(self, number: int) -> bool:
        """Whether this process takes the batch of this number in its update."""
        return number % self.n == self.rank

    def share(self, n_requests: int) -> NDArray[np.int64]:
        """The requests that this process scores, in their order."""
        return np.array_split(np.arange(n_requests, dtype=np.int64), self.n)[self.rank]

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is set in any process."""
        if self.n == 1:
            return flags
        counted = self.total(torch.tensor(flags, dtype=torch.int64, device=self.place))
        return tuple(bool(count) for count in counted.tolist())

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes, the same in each."""
        if self.n > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def gathered(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """What all processes scored, one after the other."""
        if self.n == 1:
            return scores
        parts: list[NDArray[np.float64]] = [scores] * self.n
        dist.all_gather_object(parts, scores)
        return np.concatenate(parts)

    def start_alike(self, model: nn.Module) -> None:
        """Give every process the weights of the main one."""
        if self.n > 1:
            for tensor in (*model.parameters(), *model.buffers()):
                dist.broadcast(tensor.detach(), 0)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes; one that none has stays away."""
        if self.n == 1:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        states = [0 if p.grad is None else 2 if p.grad.is_sparse else 1 for p in trained]
        found = torch.tensor(states, device=self.place)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        sums = []
        for parameter, state in zip(trained, found.tolist(), strict=True):
            if state == 2:
                parameter.grad = self._sparse_sum(parameter)
            elif state == 1:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                sums.append(dist.all_reduce(parameter.grad, async_op=True))
        for added in sums:
            if added is not None:
                added.wait()

    def _sparse_sum(self, table: nn.Parameter) -> Tensor:
        """The rows that any process met. NCCL adds no sparse tensors, so rows are exchanged."""
        width = table.shape[1]
        if table.grad is None:
            rows = torch.zeros(0, dtype=torch.int64, device=self.place)
            values = torch.zeros((0, width), dtype=table.dtype, device=self.place)
        else:
            gradient = table.grad.coalesce()
            rows, values = gradient.indices()[0], gradient.values()
        n_rows = torch.zeros(self.n, dtype=torch.int64, device=self.place)
        n_rows[self.rank] = len(rows)
        counts = self.total(n_rows).tolist()
        # All parts have the same size while they travel.
        room = max(counts)
        all_rows = rows.new_zeros((self.n, room))
        all_values = values.new_zeros((self.n, room, width))
        all_rows[self.rank, : len(rows)] = rows
        all_values[self.rank, : len(rows)] = values
        dist.all_reduce(all_rows)
        dist.all_reduce(all_values)
        is_there = torch.arange(room, device=self.place) < torch.tensor(
            counts, device=self.place
        ).unsqueeze(1)
        return torch.sparse_coo_tensor(
            all_rows[is_there].unsqueeze(0), all_values[is_there], tuple(table.shape)
        ).coalesce()
