"""Row-wise Adagrad: its arithmetic, and that it leaves alone what no batch met."""

import pytest
import torch
from torch import nn

from models.row_wise_adagrad import RowWiseAdagrad


def test_two_steps_by_hand():
    table = nn.Embedding(3, 2, sparse=True)
    with torch.no_grad():
        table.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]]))
    optimiser = RowWiseAdagrad(table.parameters(), lr=0.1, eps=0.0)
    for _ in range(2):
        # Row 1 is met twice: its gradient is (1, 3) + (1, 3).
        (table(torch.tensor([1, 1])) * torch.tensor([1.0, 3.0])).sum().backward()
        optimiser.step()
        optimiser.zero_grad()
    # Mean square (4 + 36) / 2 = 20, then 40.
    step = 0.1 / 20**0.5 + 0.1 / 40**0.5
    expected = torch.tensor([1.0 - 2 * step, 2.0 - 6 * step])
    assert torch.allclose(table.weight[1], expected)
    assert table.weight[[0, 2]].tolist() == [[0.0, 0.0], [3.0, 4.0]]
    assert optimiser.state[table.weight]["sum"].tolist() == [0.0, 40.0, 0.0]


def test_a_dense_gradient_is_refused():
    table = nn.Embedding(3, 2)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="sparse gradients"):
        RowWiseAdagrad(table.parameters(), lr=0.1).step()
