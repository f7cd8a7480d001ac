"""Several scores of a candidate in one: a ranker's own, and what is cheap to know beside it.

A weighted sum, as of a dense ranker and BM25 in Wang, Zhuang and Zuccon (ICTIR 2021). The weights
are those of a conditional logit on requests that the ranker did not learn from: on those it did,
its own score would look better than it is.

Shapes: N = candidates of all requests, K = scores of each.
"""

from dataclasses import dataclass

import numpy as np
import torch

from models.losses import ranking_loss
from models.metrics import FloatArray
from models.ranking_data import Requests
from models.recipes import Training
from models.text_data import clicks_counted

# So little that it acts only where two scores say the same.
PENALTY = 1e-3
MAX_STEPS = 100
DECIMALS = 6


@dataclass(frozen=True)
class Interpolation:
    """``weight_K`` of scores that were brought to mean 0 and deviation 1 by the other two, (K,)."""

    weight_K: FloatArray
    mean_K: FloatArray
    deviation_K: FloatArray

    def __call__(self, score_NK: FloatArray) -> FloatArray:
        """One score of each candidate, float64 (N,)."""
        standard_NK = (score_NK - self.mean_K) / self.deviation_K
        return np.round(standard_NK @ self.weight_K, DECIMALS)


def fit(score_NK: FloatArray, requests: Requests, training: Training) -> Interpolation:
    """Weights for these requests, by the listwise loss.

    Clicks count as ``training`` says, corrected for position or as they are.
    """
    mean_K, deviation_K = score_NK.mean(axis=0), score_NK.std(axis=0)
    deviation_K = np.where(deviation_K > 0, deviation_K, 1.0)
    standard_NK = torch.from_numpy((score_NK - mean_K) / deviation_K)
    index_N = requests.request_index
    place_N = np.arange(requests.n_candidates) - requests.request_offsets[index_N]
    lists = (
        torch.tensor(requests.labels, dtype=torch.float64),
        torch.from_numpy(index_N),
        torch.from_numpy(place_N),
        requests.n_requests,
    )
    counted = clicks_counted(requests, training)
    corrected_N = None if counted is None else torch.from_numpy(counted).double()
    is_normalised = training.correction is None or training.correction.self_normalised
    weight_K = torch.zeros(score_NK.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight_K], max_iter=MAX_STEPS, line_search_fn="strong_wolfe")

    def look() -> torch.Tensor:
        optimiser.zero_grad()
        loss = ranking_loss(
            "listwise",
            standard_NK @ weight_K,
            *lists,
            corrected_B=corrected_N,
            self_normalised=is_normalised,
        )
        loss = loss + PENALTY * (weight_K**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(look)  # type: ignore[no-untyped-call]
    return Interpolation(weight_K.detach().numpy(), mean_K, deviation_K)
