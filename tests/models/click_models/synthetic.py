"""Lists with clicks drawn from a position-based model whose examination is known."""

import numpy as np

from models.click_models.sessions import BoolArray, FloatArray, IntArray, Sessions, relative_rank

N_PLACES = 8
EXAMINATION = np.array([1.0, 0.8, 0.65, 0.6, 0.5, 0.45, 0.4, 0.38])


def draw(
    n_requests: int,
    seed: int,
    *,
    spread: float = 1.0,
    selects: bool = True,
    trust: FloatArray | float = 0.0,
) -> tuple[Sessions, IntArray]:
    """Lists of 2 to 8 results ranked by a ranker that knows attraction through noise.

    A third of the lists begin on a later place, as pages do that were not loaded from their top.
    Of notes that do not attract the share ``trust`` (8,) is clicked once examined. Where
    ``selects``, a list without a click is drawn again until one is clicked, its request effect
    staying. Returns the lists and the note of each exposure, ids 0..399.
    """
    rng = np.random.default_rng(seed)
    length = rng.integers(2, N_PLACES + 1, n_requests)
    start = np.where(rng.random(n_requests) < 0.33, rng.integers(0, 4, n_requests), 0)
    length = np.minimum(length, N_PLACES - start)
    effect = rng.normal(0, spread, n_requests)
    trust_at = np.broadcast_to(trust, N_PLACES)
    note_worth = rng.normal(0, 1.0, 400)
    parts: dict[int, tuple[IntArray, BoolArray]] = {}
    waiting = np.arange(n_requests)
    while len(waiting):
        again = []
        for r in waiting.tolist():
            note = rng.choice(400, length[r], replace=False)
            appeal = note_worth[note] + rng.normal(0, 0.4, length[r])
            order = np.argsort(-(appeal + rng.normal(0, 1.0, length[r])))
            note, appeal = note[order], appeal[order]
            attraction = 1 / (1 + np.exp(-(appeal - 0.5 + effect[r])))
            place = start[r] + np.arange(length[r])
            attraction = attraction + trust_at[place] * (1 - attraction)
            clicked = rng.random(length[r]) < EXAMINATION[place] * attraction
            if clicked.any() or not selects:
                parts[r] = (note, clicked)
            else:
                again.append(r)
        waiting = np.array(again, dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    request = np.repeat(np.arange(n_requests), length)
    rank = np.arange(offsets[-1]) - offsets[request] + 1
    height = relative_rank(rank, length[request])
    log_length = np.log(length[request]) - 1.5
    sessions = Sessions(
        offsets=offsets,
        place=start[request] + rank - 1,
        is_clicked=np.concatenate([parts[r][1] for r in range(n_requests)]),
        covariates=np.stack(
            [np.ones(len(rank)), height, height**2 - 1, log_length, height * log_length], axis=1
        ),
        is_selected=np.full(n_requests, selects),
        user=rng.integers(0, max(n_requests // 3, 1), n_requests),
        place_names=tuple(str(k + 1) for k in range(N_PLACES)),
        covariate_names=("one", "relative_rank", "squared", "log_length", "by_length"),
    )
    return sessions, np.concatenate([parts[r][0] for r in range(n_requests)])


def worst(curve: FloatArray) -> float:
    """Largest error of the logarithm of examination."""
    return float(np.abs(np.log(curve / EXAMINATION)).max())


def hold_out(sessions: Sessions, share: float, seed: int) -> tuple[Sessions, Sessions]:
    """Sessions to fit and sessions to judge by: whole users, about ``share`` of them held out."""
    users, index = np.unique(sessions.user, return_inverse=True)
    is_out = (np.random.default_rng(seed).random(len(users)) < share)[index]
    return sessions.take(~is_out), sessions.take(is_out)
