"""Adagrad with one accumulator for each row of a table, for sparse gradients.

A table with a row per note is mostly not met by a batch: a dense optimiser would rewrite it, and
two more copies of it, at every step. Here a step costs what the batch met, and the state is one
number a row.

Source: Duchi et al., JMLR 2011, with the row-wise sum of Gupta et al. 2014 as recommender systems
use it; the update is -lr * g / (sqrt(sum of mean squares of the row) + eps).
"""

from collections.abc import Callable, Iterable
from typing import overload

import torch
from torch import nn


class RowWiseAdagrad(torch.optim.Optimizer):
    """Updates the rows that have a gradient and leaves the others as they are."""

    def __init__(self, tables: Iterable[nn.Parameter], *, lr: float, eps: float = 1e-8) -> None:
        super().__init__(tables, {"lr": lr, "eps": eps})
        # Made now, not at the first gradient: a checkpoint of any moment has the same entries.
        for group in self.param_groups:
            for table in group["params"]:
                self.state[table]["sum"] = torch.zeros(len(table), device=table.device)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step.

        Raises:
            ValueError: a gradient that is not sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is None:
                    continue
                if not table.grad.is_sparse:
                    raise ValueError("RowWiseAdagrad needs sparse gradients: nn.Embedding(sparse)")
                gradient = table.grad.coalesce()
                rows, values_RE = gradient.indices()[0], gradient.values()
                total = self.state[table]["sum"]
                total.index_add_(0, rows, values_RE.square().mean(dim=1))
                scale_R = group["lr"] / (total[rows].sqrt() + group["eps"])
                table.index_add_(0, rows, -scale_R.unsqueeze(1) * values_RE)
        return loss
