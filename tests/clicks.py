"""Test requests whose every metric can be worked out by hand."""

import numpy as np

from qilin_dagster.leaderboard import Candidates


def candidates(clicked_first: bool = True, n: int = 40) -> Candidates:
    """n requests of four notes; the shown first is clicked (or the last)."""
    qid = np.repeat(np.arange(n), 4)
    shown_rank = np.tile(np.arange(1, 5), n)
    is_clicked = shown_rank == (1 if clicked_first else 4)
    # Rows stand in another order than they were shown.
    order = np.lexsort((shown_rank * 7 % 4, qid))
    return Candidates(
        qid=qid[order],
        pid=np.arange(4 * n)[order],
        shown_rank=shown_rank[order],
        is_clicked=is_clicked[order],
        train_clicks=np.zeros(4 * n),
        train_click_rate_of_range=is_clicked[order].astype(float),
        # Two requests a user.
        user_idx=qid[order] // 2,
    )
