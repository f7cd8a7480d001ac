"""DCN-V2: its arithmetic, what it can learn, and what it must not."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import best_two, ranking_data

from models.dcn_v2 import (
    DCNV2,
    DCNV2Config,
    LowRankCross,
    MatrixCross,
    MixtureCross,
    load,
    save_weights,
)
from models.dcn_v2_training import score, train
from models.metrics import bootstrap_interval, ranking_metrics
from models.ranking_data import RankingData, metric_on
from models.recipes import DCNV2Architecture, Training

SMALL = DCNV2Architecture(embedding_dim=4, n_cross=2, hidden=(16,), dropout=0.0)
QUICK = Training(
    max_epochs=12, patience=3, candidates_per_batch=512, learning_rate=1e-2, min_fit_requests=20
)
FULL = DCNV2Config(
    architecture=SMALL, cardinalities=(6, 6), n_dense=4, n_notes=41, has_history=True
)


def forward(model: DCNV2, data: RankingData) -> torch.Tensor:
    return model(
        torch.from_numpy(data.categorical),
        torch.from_numpy(data.dense),
        torch.from_numpy(data.note_id),
        torch.from_numpy(data.history),
        torch.from_numpy(data.request_index),
    )


def test_a_cross_layer_multiplies_by_a_matrix_as_in_equation_1():
    config = DCNV2Config(
        architecture=DCNV2Architecture(n_cross=2, hidden=(), dropout=0.0),
        cardinalities=(),
        n_dense=3,
    )
    torch.manual_seed(0)
    model = DCNV2(config).eval()
    x0 = np.array([0.5, -1.0, 2.0])
    x = x0
    for cross in model.crosses:
        weight, bias = (p.detach().numpy() for p in cross.linear.parameters())
        assert weight.shape == (3, 3), "a matrix; a vector would be the first DCN"
        x = x0 * (weight @ x + bias) + x
    head = model.head.weight.detach().numpy()[0]
    expected = head @ np.concatenate([x, x0]) + model.head.bias.item()
    data = replace(
        ranking_data(1, "noise", n_candidates=1),
        dense=x0[None].astype(np.float32),
        categorical=np.zeros((1, 0), np.int32),
    )
    assert forward(model, data).item() == pytest.approx(expected, rel=1e-5)


def test_a_low_rank_cross_is_the_matrix_of_its_two_thin_ones():
    torch.manual_seed(0)
    thin, full = LowRankCross(6, 2), MatrixCross(6)
    with torch.no_grad():
        full.linear.weight.copy_(thin.up.weight @ thin.down.weight)
        full.linear.bias.copy_(thin.up.bias)
    x0, x = torch.randn(2, 5, 6)
    assert torch.allclose(thin(x0, x), full(x0, x), atol=1e-6)
    assert sum(p.numel() for p in thin.parameters()) == 2 * 6 * 2 + 6


def test_a_mixture_cross_is_the_gated_sum_of_its_experts():
    torch.manual_seed(0)
    width, rank, n_experts = 6, 2, 3
    cross = MixtureCross(width, rank, n_experts)
    x0, x = torch.randn(2, 5, width)
    gate = torch.softmax(cross.gate(x), dim=1)
    expected = x.clone()
    for expert in range(n_experts):
        part = slice(expert * rank, (expert + 1) * rank)
        down, up = cross.down.weight[part], cross.up.weight[:, part]
        inner = torch.tanh(torch.tanh(x @ down.T) @ cross.inside_MKK[expert].T)
        expected += gate[:, [expert]] * (x0 * (inner @ up.T + cross.up.bias))
    assert torch.allclose(cross(x0, x), expected, atol=1e-6)


def test_parallel_and_stacked_differ_in_what_the_tower_reads():
    for structure, width in (("parallel", 16 + 4 * 4 + 4), ("stacked", 16)):
        model = DCNV2(replace(FULL, architecture=replace(SMALL, structure=structure)))
        assert model.head.in_features == width
        assert forward(model, ranking_data(5, "noise")).shape == (40,)


def test_unknown_and_padding_ids_say_nothing():
    data = ranking_data(3, "noise")
    model = DCNV2(FULL).eval()
    for table in [*model.fields, model.notes]:
        assert not table.weight[0].any()
    longer = np.concatenate([data.history, np.zeros((3, 7), np.int32)], axis=1)
    padded = forward(model, replace(data, history=longer))
    assert torch.allclose(forward(model, data), padded, atol=1e-6)
    shuffled = forward(model, replace(data, history=data.history[:, ::-1].copy()))
    assert torch.allclose(forward(model, data), shuffled, atol=1e-6)
    empty = forward(model, replace(data, history=np.zeros_like(data.history)))
    no_column = forward(model, replace(data, history=data.history[:, :0]))
    assert torch.equal(empty, no_column)
    assert not torch.allclose(forward(model, data), empty, atol=1e-6)


def test_a_candidate_attends_to_the_history_of_its_own_request():
    data = ranking_data(4, "noise")
    model = DCNV2(FULL).eval()
    together = forward(model, data)
    for request in range(4):
        alone = forward(model, data.take(np.array([request])))
        assert torch.allclose(together[request * 8 : (request + 1) * 8], alone, atol=1e-5)


def test_attention_is_the_softmax_over_known_notes():
    model = DCNV2(FULL).eval()
    note, history = torch.tensor([3]), torch.tensor([[5, 0, 9]])
    found = model._attend(model.notes(note), history, torch.tensor([0]))[0]
    keys = model.notes(torch.tensor([5, 9]))
    query = model.attention_query(model.notes(note))[0]
    weights = torch.softmax(keys @ query / 2.0, dim=0)  # the root of four dimensions
    assert torch.allclose(found, weights @ keys, atol=1e-6)


@pytest.mark.parametrize(
    ("structure", "loss", "cross"),
    [
        ("parallel", "listwise", "matrix"),
        ("stacked", "pointwise", "matrix"),
        ("parallel", "pointwise", "low_rank"),
        ("stacked", "listwise", "mixture"),
    ],
)
def test_every_parameter_changes_in_one_step(structure, loss, cross):
    architecture = replace(SMALL, structure=structure, cross=cross, cross_rank=3, n_experts=2)
    config = replace(FULL, architecture=architecture)
    data = ranking_data(60, "product")
    training = replace(QUICK, loss=loss, max_epochs=1, candidates_per_batch=10_000)
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        before = {name: p.detach().clone() for name, p in DCNV2(config).named_parameters()}
    model, history = train(config, data, data, training, device="cpu")
    assert history.epochs[0].n_steps == 1
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name]), f"{name} did not change"
    for table in [*model.fields, model.notes]:
        assert not table.weight[0].any(), "the unknown id is not trained"


@pytest.mark.parametrize("cross", ["matrix", "low_rank", "mixture"])
def test_crosses_find_a_product_that_a_linear_score_cannot(cross):
    fit, validation, test = (
        ranking_data(n, "product", seed=s) for s, n in enumerate((400, 100, 300))
    )
    crosses = DCNV2Config(
        architecture=replace(SMALL, n_cross=2, hidden=(), cross=cross),
        cardinalities=(6, 6),
        n_dense=4,
    )
    linear = replace(crosses, architecture=replace(SMALL, n_cross=0, hidden=()))
    value = metric_on(test)
    found = {}
    for name, config in (("crosses", crosses), ("linear", linear)):
        model, _ = train(config, fit, validation, QUICK, device="cpu")
        found[name] = value(score(model, test, device="cpu"))
    # A linear score is not worthless here: where the sum is large, the product is seldom negative.
    assert found["crosses"] > 0.85
    assert found["linear"] < 0.7


@pytest.mark.parametrize("what", ["category", "history"])
def test_ids_and_history_are_learnt(what):
    fit, validation, test = (ranking_data(n, what, seed=s) for s, n in enumerate((600, 100, 300)))
    training = replace(QUICK, max_epochs=20)
    architecture = replace(SMALL, note_unknown_rate=0.1, field_unknown_rate=0.0)
    config = replace(FULL, architecture=architecture)
    model, _ = train(config, fit, validation, training, device="cpu")
    value = metric_on(test)
    random = value(np.zeros(test.n_candidates))
    learnt = value(score(model, test, device="cpu"))
    assert learnt > random + 0.15
    if what == "history":
        without = replace(test, history=np.zeros_like(test.history))
        assert value(score(model, without, device="cpu")) < learnt - 0.1


def test_after_permutation_a_model_of_ids_alone_falls_to_the_random_anchor():
    # Whole ranges of note ids are clicked, others never; test notes do not occur in training.
    n_notes, n_requests, n_candidates = 4000, 500, 8
    rng = np.random.default_rng(0)
    is_clicked_block = rng.random(20) < 0.4
    halves = rng.permutation(n_notes).reshape(2, -1)
    permuted = rng.permutation(n_notes)

    def requests_from(notes: np.ndarray, key: np.ndarray, known: np.ndarray) -> RankingData:
        note = rng.choice(notes, size=n_requests * n_candidates)
        utility = is_clicked_block[note // 200] + 0.1 * rng.normal(size=len(note))
        id_of_note = np.zeros(n_notes, np.int32)
        id_of_note[known] = np.arange(1, len(known) + 1)
        return RankingData(
            request_offsets=np.arange(0, len(note) + 1, n_candidates),
            labels=best_two(utility, n_requests),
            dense=(key[note][:, None] / n_notes * np.arange(1, 9)[None]).astype(np.float32) % 1.0,
            categorical=np.zeros((len(note), 0), np.int32),
            history=np.zeros((n_requests, 0), np.int32),
            note_id=id_of_note[note],
        )

    config = DCNV2Config(
        architecture=replace(SMALL, hidden=(64, 64)),
        cardinalities=(),
        n_dense=8,
        n_notes=len(halves[0]) + 1,
    )
    gain = {}
    for name, key in (("raw", np.arange(n_notes)), ("permuted", permuted)):
        fit, validation, test = (requests_from(halves[side], key, halves[0]) for side in (0, 1, 1))
        model, _ = train(config, fit, validation, replace(QUICK, max_epochs=25), device="cpu")
        qid, row, hit = test.request_index, np.arange(test.n_candidates), test.labels > 0
        result, random = (
            ranking_metrics(qid, row, values, qid[hit], row[hit]).per_request["mrr@10"]
            for values in (score(model, test, device="cpu"), np.zeros(test.n_candidates))
        )
        gain[name] = bootstrap_interval(result - random)
    assert gain["raw"].low > 0.05, "the leak is there to be found"
    assert gain["permuted"].low < 0 < gain["permuted"].high


def test_weights_come_back_as_they_went(tmp_path):
    data = ranking_data(5, "noise")
    model = DCNV2(FULL).eval()
    path = tmp_path / "deep" / "weights.safetensors"
    save_weights(model, path)
    assert sorted(p.name for p in path.parent.iterdir()) == ["weights.json", "weights.safetensors"]
    config = json.loads(path.with_suffix(".json").read_text())
    assert config["architecture"]["hidden"] == [16]
    back = load(path)
    assert back.config == FULL
    assert not back.training
    assert torch.equal(forward(back, data), forward(model, data))
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent.safetensors")


def test_data_of_other_sizes_is_refused_by_name():
    model, data = DCNV2(FULL), ranking_data(5, "noise")
    model.check_data(data)
    with pytest.raises(ValueError, match="4 dense features, the data 2 and 3"):
        model.check_data(replace(data, dense=data.dense[:, :3]))
    for change, name in (
        ({"categorical": data.categorical + 1}, "categorical field 0 has the id 6"),
        ({"note_id": data.note_id + 1}, "note_id has the id 41; its vocabulary has 41"),
        ({"history": data.history + 9}, "history has the id"),
    ):
        with pytest.raises(ValueError, match=name):
            score(model, replace(data, **change), device="cpu")


def test_a_model_needs_inputs():
    with pytest.raises(ValueError, match="no inputs"):
        DCNV2(DCNV2Config(architecture=SMALL, cardinalities=(), n_dense=0))
    with pytest.raises(ValueError, match="a history needs note ids"):
        DCNV2(DCNV2Config(architecture=SMALL, cardinalities=(), n_dense=1, has_history=True))
