"""Training on two processes is training on one: the same batches, sums and decisions."""

import itertools
import multiprocessing
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from synthetic import ranking_data

from models import loop, vlm
from models.dcn_v2 import DCNV2Config
from models.dcn_v2_training import DCNV2Learner, score, train
from models.processes import NotMainError
from models.recipes import dcn_v2_search_smoke

RECIPE = dcn_v2_search_smoke()
CONFIG = DCNV2Config(
    architecture=RECIPE.architecture,
    cardinalities=(6, 6),
    n_dense=4,
    n_notes=41,
    has_history=True,
)
FIT, VALIDATION = ranking_data(200, "product", seed=1), ranking_data(61, "product", seed=2)
# Dropout and hidden ids are on: each batch has its own chance, whichever process takes it.
TRAINING = replace(RECIPE.training, max_epochs=2, candidates_per_batch=128).cut_for(2)

Result = dict[str, Any]


def together(n: int, work: Callable[[], Result]) -> list[Result]:
    """What ``work`` returns in each of n connected processes, forked from this one."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ends = [context.Pipe(duplex=False) for _ in range(n)]

    def run(rank: int) -> None:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(n)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        ends[rank][1].send(work())
        if dist.is_initialized():
            dist.destroy_process_group()

    children = [context.Process(target=run, args=(rank,)) for rank in range(n)]
    for child in children:
        child.start()
    for _, sender in ends:
        sender.close()
    try:
        return [receiver.recv() for receiver, _ in ends]
    finally:
        for child in children:
            child.join(10)
            child.kill()


def learn(training: Any = TRAINING, **options: Any) -> Result:
    """Train, and tell which requests this process learnt from and scored for validation."""
    seen: list[list[int]] = []
    scored: list[list[int]] = []
    with pytest.MonkeyPatch.context() as patch:
        loss, scores = DCNV2Learner.loss, DCNV2Learner.validation_scores
        patch.setattr(
            DCNV2Learner, "loss", lambda self, r: (seen.append(r.tolist()), loss(self, r))[1]
        )
        patch.setattr(
            DCNV2Learner,
            "validation_scores",
            lambda self, r: (scored.append(r.tolist()), scores(self, r))[1],
        )
        try:
            model, history = train(CONFIG, FIT, VALIDATION, training, device="cpu", **options)
        except NotMainError:
            return {"seen": seen, "scored": scored, "is_main": False}
    return {
        "seen": seen,
        "scored": scored,
        "is_main": True,
        "history": history,
        "scores": score(model, VALIDATION, device="cpu"),
    }


def assert_alike(one: Result, other: Result) -> None:
    for epoch, same in zip(one["history"].epochs, other["history"].epochs, strict=True):
        assert epoch.loss == pytest.approx(same.loss, rel=1e-5)
        assert epoch.validation_metric == pytest.approx(same.validation_metric, abs=1e-6)
    assert one["history"].best_epoch == other["history"].best_epoch
    # The loss compares notes and leaves a constant free, which the last digits of sums move.
    (ours, theirs) = (result["scores"] - result["scores"].mean() for result in (one, other))
    assert np.allclose(ours, theirs, atol=1e-4)


def of_epoch(batches: list[list[int]], epoch: int) -> list[list[int]]:
    """The batches of one of two epochs."""
    half = len(batches) // 2
    return batches[epoch * half : (epoch + 1) * half]


def test_two_processes_learn_what_one_does() -> None:
    alone = learn()
    main, helper = together(2, learn)
    assert (main["is_main"], helper["is_main"]) == (True, False)
    assert_alike(alone, main)
    # Each request is learnt from once an epoch, by one of them, in the batches that one makes.
    in_order = []
    for epoch in range(2):
        taken = [of_epoch(result["seen"], epoch) for result in (main, helper)]
        pairs = itertools.zip_longest(*taken)
        in_order += [batch for pair in pairs for batch in pair if batch is not None]
    assert in_order == alone["seen"]
    for epoch in range(2):
        learnt = [request for batch in of_epoch(in_order, epoch) for request in batch]
        assert sorted(learnt) == list(range(FIT.n_requests))
    # Validation is shared, too, and put together without a file.
    for own, others in zip(main["scored"], helper["scored"], strict=True):
        assert own + others == list(range(61))


def test_what_two_processes_began_one_goes_on_with(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SECONDS_PER_CHECKPOINT", 0.0)
    checkpoint = tmp_path / "checkpoint.safetensors"

    def begin() -> Result:
        def stop(progress: loop.Progress) -> None:
            if (progress.epoch, progress.step) == (2, 10):
                raise KeyboardInterrupt

        try:
            return learn(checkpoint=checkpoint, on_progress=stop)
        except (KeyboardInterrupt, RuntimeError):
            # The helper loses its peer.
            return {}

    together(2, begin)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]
    resumed = learn(checkpoint=checkpoint)
    alone = learn()
    assert 0 < len(resumed["seen"]) < len(alone["seen"]) / 2
    assert_alike(alone, resumed)


@pytest.mark.slow
def test_what_one_began_three_go_on_with(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SECONDS_PER_CHECKPOINT", 0.0)
    checkpoint = tmp_path / "checkpoint.safetensors"
    training = TRAINING.cut_for(2)

    def stop(progress: loop.Progress) -> None:
        if (progress.epoch, progress.step) == (1, 10):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(training, checkpoint=checkpoint, on_progress=stop)
    main, *helpers = together(3, lambda: learn(training, checkpoint=checkpoint))
    assert len(helpers) == 2
    # Four batches an update among three: one takes two, and none is left out.
    assert len(main["seen"]) > len(helpers[0]["seen"])
    assert_alike(learn(training), main)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bi", "cross", "vlm"])
def test_text_rankers_learn_on_two_processes_what_they_do_on_one(kind: str) -> None:
    import test_text_rankers as text
    import test_vlm as vision

    def fit() -> Result:
        try:
            if kind == "vlm":
                training = replace(vision.TRAINING, max_epochs=2).cut_for(2)
                recipe = replace(vision.RECIPE, training=training)
                model, history = vision.trained(recipe, seen)
                scores = vlm.scores(model, *vlm_inputs, recipe, text.CPU)
            else:
                # Dropout is on, as in the encoders that are trained.
                chosen = {"bi": text.BI, "cross": text.CROSS}[kind]
                recipe = replace(
                    chosen,
                    encoder=replace(chosen.encoder, dropout=0.1),
                    training=replace(text.TRAINING, max_epochs=2).cut_for(2),
                )
                model, history = text.trained(recipe)
                scores = text.scores(recipe, model, text.VALIDATION)
        except NotMainError:
            return {}
        return {"history": history, "scores": scores}

    seen = vision.covers(vision.READER.image_shape)
    vlm_inputs = (vision.READER, vision.NOTES, seen, vision.VALIDATION)
    alone = fit()
    main, helper = together(2, fit)
    assert helper == {}
    for epoch, same in zip(alone["history"].epochs, main["history"].epochs, strict=True):
        assert epoch.loss == pytest.approx(same.loss, rel=1e-3)
        assert epoch.validation_metric == pytest.approx(same.validation_metric, abs=0.02)
    ours, theirs = (r["scores"] - r["scores"].mean() for r in (alone, main))
    assert np.abs(ours - theirs).max() < 0.02 * np.abs(ours).max()


def test_more_processes_than_batches_are_refused() -> None:
    def work() -> Result:
        try:
            learn(replace(TRAINING, batches_per_update=1))
        except ValueError as error:
            return {"error": str(error), "is_connected": dist.is_initialized()}
        return {}

    for result in together(2, work):
        assert "set QILIN_PROCESSES=2" in result["error"]
        # One that ends while the other still connects would hide this error behind its own.
        assert not result["is_connected"]


def test_cutting_keeps_the_candidates_of_an_update() -> None:
    cut = RECIPE.training.cut_for(4)
    assert cut.batches_per_update == 4 * RECIPE.training.batches_per_update
    assert cut.candidates_per_batch * 4 == RECIPE.training.candidates_per_batch
    assert RECIPE.training.cut_for(1) == RECIPE.training


def test_gradients_that_one_process_lacks_are_added_as_nothing() -> None:
    """Rows of a sparse table that only one met, a layer that only one used, one that none used."""

    def work() -> Result:
        from models.processes import Processes

        processes = Processes.joined(torch.device("cpu"))
        table = torch.nn.Embedding(5, 2, sparse=True)
        used, unused = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
        if processes.is_main:
            table(torch.tensor([1, 3, 3])).sum().backward()
            used(torch.ones(1, 2)).sum().backward()
        processes.add_gradients([*table.parameters(), *used.parameters(), *unused.parameters()])
        assert table.weight.grad is not None
        assert used.weight.grad is not None
        return {
            "table": table.weight.grad.to_dense().tolist(),
            "used": used.weight.grad.tolist(),
            "unused": unused.weight.grad,
        }

    main, helper = together(2, work)
    assert main == helper
    assert main["table"] == [[0, 0], [1, 1], [0, 0], [2, 2], [0, 0]]
    assert main["used"] == [[1, 1]]
    assert main["unused"] is None
