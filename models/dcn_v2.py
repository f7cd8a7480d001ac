"""DCN-V2: explicit feature crosses beside or under a deep tower (Wang et al., WWW 2021).

The cross layers are the paper's eq. 1 (a full matrix), eq. 2 (low rank) and eq. 3 (a mixture of low
ranks); `parallel` and `stacked` are its fig. 1.
The user's clicked notes enter through masked target attention: each candidate looks at them
through its own embedding (Zhou et al., KDD 2018), in the table that both share.

Shapes: B = candidates in the batch, R = requests in the batch, F = categorical fields,
H = length of the history, E = embedding width, N = dense features, D = width of the joint input,
K = rank of a thin cross, M = experts of a mixture.
Knows tensors only: no SQL, no Dagster.
"""

import itertools
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.ranking_data import RankingData
from models.recipes import DCNV2Architecture


@dataclass(frozen=True, kw_only=True)
class DCNV2Config:
    """An architecture and the sizes of the data it is built for.

    Attributes:
        architecture: from a recipe.
        cardinalities: ids per categorical field, the unknown id 0 included.
        n_dense: dense features.
        n_notes: ids of notes, the unknown id 0 included; 0 = no note ids and no history.
        has_history: whether the candidate attends to clicked notes; needs note ids.
    """

    architecture: DCNV2Architecture
    cardinalities: tuple[int, ...]
    n_dense: int
    n_notes: int = 0
    has_history: bool = False


class DCNV2(nn.Module):
    """One click logit per candidate."""

    def __init__(self, config: DCNV2Config) -> None:
        super().__init__()
        self.config = config
        shape = config.architecture
        width_E = shape.embedding_dim
        self.fields = nn.ModuleList(_embedding(n, width_E) for n in config.cardinalities)
        width_D = len(config.cardinalities) * width_E + config.n_dense
        if config.n_notes:
            self.notes = _embedding(config.n_notes, width_E, sparse=True)
            width_D += width_E
        if config.has_history:
            if not config.n_notes:
                raise ValueError("a history needs note ids: n_notes is 0")
            self.attention_query = nn.Linear(width_E, width_E)
            width_D += width_E
        if width_D == 0:
            raise ValueError("no inputs: no categorical fields, no dense features, no note ids")
        self.crosses = nn.ModuleList(_cross(shape, width_D) for _ in range(shape.n_cross))
        widths = [width_D, *shape.hidden]
        layers: list[nn.Module] = []
        for width_in, width_out in itertools.pairwise(widths):
            layers += [nn.Linear(width_in, width_out), nn.ReLU(), nn.Dropout(shape.dropout)]
        self.tower = nn.Sequential(*layers)
        is_parallel = shape.structure == "parallel"
        self.head = nn.Linear(widths[-1] + (width_D if is_parallel else 0), 1)

    def forward(
        self,
        categorical_BF: Tensor,
        dense_BN: Tensor,
        note_B: Tensor,
        history_RH: Tensor,
        request_B: Tensor,
    ) -> Tensor:
        """Click logits (B,) of the candidates; `request_B` says whose history they look at."""
        shape = self.config.architecture
        inputs = [
            field(self._hide(categorical_BF[:, f], shape.field_unknown_rate))
            for f, field in enumerate(self.fields)
        ]
        if self.config.n_notes:
            note_BE = self.notes(self._hide(note_B, shape.note_unknown_rate))
            inputs.append(note_BE)
            if self.config.has_history:
                inputs.append(self._attend(note_BE, history_RH, request_B))
        inputs.append(dense_BN)
        x0_BD = x_BD = torch.cat(inputs, dim=1)
        for cross in self.crosses:
            x_BD = cross(x0_BD, x_BD)
        if shape.structure == "parallel":
            logit_B1: Tensor = self.head(torch.cat([x_BD, self.tower(x0_BD)], dim=1))
        else:
            logit_B1 = self.head(self.tower(x_BD))
        return logit_B1.squeeze(1)

    def check_data(self, data: RankingData) -> None:
        """Raise ValueError if the data's widths or ids are not those the model was built for.

        On a GPU an id outside its table would end the process without saying which.
        """
        config = self.config
        found = (data.categorical.shape[1], data.dense.shape[1])
        if found != (len(config.cardinalities), config.n_dense):
            raise ValueError(
                f"the model has {len(config.cardinalities)} categorical fields and "
                f"{config.n_dense} dense features, the data {found[0]} and {found[1]}"
            )
        sizes = [
            (f"categorical field {f}", data.categorical[:, f], n_ids)
            for f, n_ids in enumerate(config.cardinalities)
        ]
        if config.n_notes:
            sizes.append(("note_id", data.note_id, config.n_notes))
        if config.has_history:
            sizes.append(("history", data.history, config.n_notes))
        for name, ids, n_ids in sizes:
            if ids.size and ids.max() >= n_ids:
                raise ValueError(f"{name} has the id {ids.max()}; its vocabulary has {n_ids} ids")

    def _attend(self, note_BE: Tensor, history_RH: Tensor, request_B: Tensor) -> Tensor:
        """Mean of the history's embeddings, weighted by likeness to the candidate, (B, E)."""
        keys_RHE = self.notes(history_RH)
        is_known_RH = history_RH > 0
        keys_BHE = keys_RHE.index_select(0, request_B)
        is_known_BH = is_known_RH.index_select(0, request_B)
        query_BE = self.attention_query(note_BE) / math.sqrt(note_BE.shape[1])
        weight_BH = torch.einsum("be,bhe->bh", query_BE, keys_BHE)
        # Finite, so that a history without any known note averages rows of zeros: 0 and not NaN.
        weight_BH = weight_BH.masked_fill(~is_known_BH, torch.finfo(weight_BH.dtype).min)
        weight_BH = torch.softmax(weight_BH, dim=1)
        return torch.einsum("bh,bhe->be", weight_BH, keys_BHE)

    def _hide(self, ids_B: Tensor, rate: float) -> Tensor:
        if not self.training or rate == 0:
            return ids_B
        return ids_B.masked_fill(torch.rand(ids_B.shape, device=ids_B.device) < rate, 0)


class MatrixCross(nn.Module):
    """x0 * (W x + b) + x, eq. 1."""

    def __init__(self, width_D: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width_D, width_D)

    def forward(self, x0_BD: Tensor, x_BD: Tensor) -> Tensor:
        return torch.addcmul(x_BD, x0_BD, self.linear(x_BD))


class LowRankCross(nn.Module):
    """x0 * (U V^T x + b) + x, eq. 2."""

    def __init__(self, width_D: int, rank_K: int) -> None:
        super().__init__()
        self.down = nn.Linear(width_D, rank_K, bias=False)
        self.up = nn.Linear(rank_K, width_D)

    def forward(self, x0_BD: Tensor, x_BD: Tensor) -> Tensor:
        return torch.addcmul(x_BD, x0_BD, self.up(self.down(x_BD)))


class MixtureCross(nn.Module):
    """The sum over experts of gate * (x0 * (U tanh(C tanh(V^T x)) + b)), plus x, eq. 3 and 4.

    The gates sum to 1, so one bias stands for all, and the experts' thin outputs, weighed by their
    gates, go back to full width in one product: a third of the time of a loop over experts.
    """

    def __init__(self, width_D: int, rank_K: int, n_experts_M: int) -> None:
        super().__init__()
        self.rank_K = rank_K
        self.down = nn.Linear(width_D, n_experts_M * rank_K, bias=False)
        self.inside_MKK = nn.Parameter(torch.empty(n_experts_M, rank_K, rank_K))
        self.gate = nn.Linear(width_D, n_experts_M)
        self.up = nn.Linear(n_experts_M * rank_K, width_D)
        nn.init.uniform_(self.inside_MKK, -1 / math.sqrt(rank_K), 1 / math.sqrt(rank_K))

    def forward(self, x0_BD: Tensor, x_BD: Tensor) -> Tensor:
        thin_BMK = torch.tanh(self.down(x_BD)).view(len(x_BD), -1, self.rank_K)
        thin_BMK = torch.tanh(torch.einsum("bmk,mjk->bmj", thin_BMK, self.inside_MKK))
        gate_BM = torch.softmax(self.gate(x_BD), dim=1)
        weighed_BMK = thin_BMK * gate_BM.unsqueeze(2)
        return torch.addcmul(x_BD, x0_BD, self.up(weighed_BMK.flatten(1)))


def _cross(shape: DCNV2Architecture, width_D: int) -> nn.Module:
    # A rank as large as the width would be dearer than the matrix.
    rank_K = min(shape.cross_rank, width_D)
    if shape.cross == "low_rank":
        return LowRankCross(width_D, rank_K)
    if shape.cross == "mixture":
        return MixtureCross(width_D, rank_K, shape.n_experts)
    return MatrixCross(width_D)


def save_weights(model: DCNV2, path: str | Path) -> None:
    """Write weights to `path` (safetensors) and the configuration beside it (same name, .json)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in _state(model)}
    save_file(weights, path)
    text = json.dumps(asdict(model.config), indent=2, sort_keys=True)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def load(path: str | Path) -> DCNV2:
    """Read what `save_weights` wrote; the model is on the CPU and set to score, not to train.

    Weights are read as tensors only, and the configuration names sizes only; no code comes along.

    Raises:
        FileNotFoundError: no weights or no configuration at the path.
        ValueError: a configuration with other entries than a `DCNV2Config` has.
        RuntimeError: weights that do not fit the configuration.
    """
    path = Path(path)
    values = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    try:
        values["architecture"]["hidden"] = tuple(values["architecture"]["hidden"])
        values["architecture"] = DCNV2Architecture(**values["architecture"])
        values["cardinalities"] = tuple(values["cardinalities"])
        config = DCNV2Config(**values)
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path.with_suffix('.json')} is no DCN-V2 configuration: {error}") from (
            error
        )
    model = DCNV2(config)
    model.load_state_dict(load_file(path))
    return model.eval()


def _state(model: DCNV2) -> Iterable[tuple[str, Tensor]]:
    return model.state_dict().items()


def _embedding(n_ids: int, width: int, *, sparse: bool = False) -> nn.Embedding:
    """Row 0 stays zero: the unknown id says nothing, in training and after."""
    embedding = nn.Embedding(n_ids, width, padding_idx=0, sparse=sparse)
    # Small beside the unit-sized dense inputs: the crosses multiply them with each other.
    nn.init.normal_(embedding.weight, std=0.1)
    with torch.no_grad():
        embedding.weight[0].zero_()
    return embedding
