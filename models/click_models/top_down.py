"""What cascade models share: readers go down the list, note by note, and may stop.

With e_i the probability that the i-th result is examined given the clicks above,

    p_i = e_i * a_i,    e_1 = 1,
    e_{i+1} = after_click_i                                           if i was clicked,
    e_{i+1} = go_on * e_i * (1 - a_i) / (1 - e_i * a_i)               if it was not.

Shapes: R = requests, N = exposures, L = longest list.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.click_models.gradient import truncated
from models.click_models.sessions import Sessions

_LARGEST_P = 1 - 1e-6


@dataclass(frozen=True)
class Ladder:
    """The rows of all lists step by step: first results, second results, and so on."""

    rows_L: list[Tensor]  # of each step, longest lists first
    order_N: Tensor  # where the row of an exposure stands among all steps
    is_selected_R: Tensor  # in the order of the steps
    n_steps_R: Tensor

    @classmethod
    def of(cls, sessions: Sessions) -> "Ladder":
        length = np.diff(sessions.offsets)
        by_length = np.argsort(-length, kind="stable")
        starts, sorted_length = sessions.offsets[:-1][by_length], length[by_length]
        n_at = np.searchsorted(-sorted_length, -np.arange(1, length.max(initial=0) + 1), "right")
        rows = [starts[:n] + step for step, n in enumerate(n_at.tolist())]
        flat = np.concatenate([np.zeros(0, dtype=np.int64), *rows])
        order = np.empty(len(flat), dtype=np.int64)
        order[flat] = np.arange(len(flat))
        return cls(
            [torch.from_numpy(one) for one in rows],
            torch.from_numpy(order),
            torch.from_numpy(sessions.is_selected[by_length]),
            torch.from_numpy(sorted_length),
        )

    def walk(
        self, attraction_N: Tensor, after_click_N: Tensor, go_on: Tensor, clicked_N: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Down all lists at once.

        Returns:
            p given the clicks above (N,), examination given the clicks above (N,), and the log
            probability of no click at all, of each request in the order of the steps (R,).
        """
        past, seen, quiet = [], [], []
        examined = examined_none = attraction_N.new_ones(len(self.n_steps_R))
        for rows in self.rows_L:
            n = len(rows)
            examined, examined_none = examined[:n], examined_none[:n]
            a, after, clicked = attraction_N[rows], after_click_N[rows], clicked_N[rows]
            p = (examined * a).clamp(max=_LARGEST_P)
            p_none = (examined_none * a).clamp(max=_LARGEST_P)
            past.append(p)
            seen.append(examined)
            quiet.append(torch.log1p(-p_none))
            examined = torch.where(clicked, after, go_on * (examined - p) / (1 - p))
            examined_none = go_on * (examined_none - p_none) / (1 - p_none)
        request = torch.cat([torch.arange(len(rows)) for rows in self.rows_L])
        none_R = torch.zeros(len(self.n_steps_R), dtype=attraction_N.dtype)
        none_R = none_R.index_add(0, request, torch.cat(quiet))
        return torch.cat(past)[self.order_N], torch.cat(seen)[self.order_N], none_R

    def log_likelihood(self, p_N: Tensor, none_R: Tensor, clicked_N: Tensor) -> Tensor:
        """Nats of all clicks, those of selected requests given that there is one."""
        return truncated(p_N.clamp(min=1e-9), clicked_N, none_R, self.is_selected_R)


def no_click(sessions: Sessions) -> Tensor:
    """Flags (N,) of the path on which nothing is clicked."""
    return torch.zeros(len(sessions.place), dtype=torch.bool)
