"""Training: it learns, it keeps the best, it stops, and it continues as if it had never stopped."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from shelftalk.errors import SettingsError
from shelftalk.models.backbone import Backbone
from shelftalk.models.nano import build_nano
from shelftalk.models.settings import NanoSettings
from shelftalk.models.text_encoder import Encoded
from shelftalk.records import Segment
from shelftalk.training import trainer
from shelftalk.training.checkpoints import last_complete
from shelftalk.training.settings import TrainingSettings
from shelftalk.training.trainer import TrainingResult, train

SYMBOLS = [f"<i_{number}>" for number in range(12)]
FAMILIES = ("decoder-only", "encoder-decoder")


def new(family: Any = "decoder-only", seed: int = 0, dropout: float = 0.0) -> Backbone:
    settings = NanoSettings(family=family, vocabulary=300, width=16, layers=2, heads=2, dropout=dropout)
    return build_nano(["Next after"], SYMBOLS, settings, seed)


def lesson(backbone: Backbone, start: int, length: int, step: int = 1) -> Encoded:
    """Symbols that follow each other round and round: something that can be learned."""
    run = [SYMBOLS[(start + step * position) % len(SYMBOLS)] for position in range(length)]
    segments = [
        Segment("Next after"),
        *(Segment(symbol, symbols=True) for symbol in run[:-1]),
        Segment(run[-1], True, True),
    ]
    return backbone.encode(segments)


def trained(
    folder: Path,
    backbone: Backbone | None = None,
    on_step: Any = lambda *_: None,
    contrary: bool = False,
    **settings: Any,
) -> tuple[Backbone, TrainingResult]:
    """`contrary`: validation lessons run backwards, so that the better the model learns, the worse it
    does there."""
    backbone = backbone or new()
    lessons = [lesson(backbone, start, 2 + start % 3) for start in range(48)]
    chosen = TrainingSettings(
        **{
            "batch_tokens": 256,
            "learning_rate": 0.01,
            "validations": 4,
            "judged_by": ("retrieval",),
            "precision": "fp32",
            **settings,
        }
    )
    direction = -1 if contrary else 1
    reviews = [lesson(backbone, start, 2 + start % 3, step=direction) for start in range(16)]
    validation: dict[str, Sequence[Encoded]] = {"retrieval": reviews[:12], "rating": reviews[12:]}
    return backbone, train(backbone, [lessons] * chosen.epochs, validation, folder, chosen, 0, on_step)


def weights(backbone: Backbone) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in backbone.model.parameters()]


def same(one: Backbone, other: Backbone) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def validation_losses(result: TrainingResult, task: str = "all") -> list[float]:
    return [row["loss"] for row in result.curve if row["part"] == "validation" and row["task"] == task]


class PowerCut(Exception):
    """Stops a training."""


def cut_at(step: int) -> Any:
    def on_step(done: int, steps: int, text: str) -> None:
        if done == step:
            raise PowerCut

    return on_step


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_falls(family: str, tmp_path: Path) -> None:
    _, result = trained(tmp_path, new(family), epochs=8)
    losses = validation_losses(result)
    assert losses[-1] < 0.8 * losses[0]


def test_the_result_counts_what_was_read(tmp_path: Path) -> None:
    backbone, result = trained(tmp_path, epochs=2)
    read = 2 * sum(len(lesson(backbone, start, 2 + start % 3)) for start in range(48))
    assert (result.tokens, result.targets, result.resumed_from) == (read, 2 * 48, 0)
    assert not result.stopped_early and max(row["step"] for row in result.curve) == result.steps


def test_the_weights_kept_are_those_of_the_best_validation(tmp_path: Path) -> None:
    backbone, result = trained(tmp_path, contrary=True, epochs=8, patience=10)
    losses = {
        row["step"]: row["loss"]
        for row in result.curve
        if row["part"] == "validation" and row["task"] == "retrieval"
    }
    assert result.best_step == min(losses, key=losses.__getitem__) < result.steps
    held_out = [lesson(backbone, start, 2 + start % 3, step=-1) for start in range(12)]
    with torch.no_grad():
        again = backbone.loss(backbone.collate(held_out)).item() / 12
    assert again == pytest.approx(losses[result.best_step], rel=1e-4)


def test_the_loss_that_decides_is_the_sum_over_the_tasks_named(tmp_path: Path) -> None:
    _, both = trained(tmp_path / "both", judged_by=("retrieval", "rating"), epochs=1)
    sums = [
        a + b
        for a, b in zip(validation_losses(both, "retrieval"), validation_losses(both, "rating"), strict=True)
    ]
    assert validation_losses(both) == pytest.approx(sums)
    with pytest.raises(SettingsError, match="judged_by"):
        trained(tmp_path / "none", judged_by=("ranking",))


def test_training_stops_when_validation_no_longer_improves(tmp_path: Path) -> None:
    _, result = trained(tmp_path, contrary=True, epochs=20, validations=20, patience=1)
    assert result.stopped_early and result.best_step < result.steps


def test_the_number_of_steps_can_be_fixed(tmp_path: Path) -> None:
    _, result = trained(tmp_path, epochs=4, max_steps=5)
    assert result.steps == 5


@pytest.mark.parametrize("family", FAMILIES)
def test_an_interrupted_training_ends_with_the_weights_of_an_uninterrupted_one(
    family: str, tmp_path: Path
) -> None:
    whole, expected = trained(tmp_path / "whole", new(family), epochs=3)
    with pytest.raises(PowerCut):
        trained(tmp_path / "cut", new(family), cut_at(expected.steps * 2 // 3), epochs=3)
    resumed, result = trained(tmp_path / "cut", new(family), epochs=3)
    assert result.resumed_from > 0 and same(resumed, whole)
    assert (result.steps, result.best_step, result.tokens) == (
        expected.steps,
        expected.best_step,
        expected.tokens,
    )


GPU_SETTINGS: list[dict[str, Any]] = [
    {"gradient_accumulation": 3},
    {"gradient_checkpointing": True},
    {"optimizer": "adafactor", "gradient_accumulation": 2},
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("settings", GPU_SETTINGS, ids=lambda settings: "-".join(settings))
def test_resume_is_exact_with_every_setting_that_large_models_need(
    family: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    whole, expected = trained(tmp_path / "whole", new(family, dropout=0.2), epochs=4, **settings)
    with pytest.raises(PowerCut):
        trained(
            tmp_path / "cut", new(family, dropout=0.2), cut_at(expected.steps * 2 // 3), epochs=4, **settings
        )
    resumed, result = trained(tmp_path / "cut", new(family, dropout=0.2), epochs=4, **settings)
    assert result.resumed_from > 0 and same(resumed, whole)
    assert (result.steps, result.best_step, result.tokens) == (
        expected.steps,
        expected.best_step,
        expected.tokens,
    )


def watch_gradients(backbone: Backbone) -> dict[int, torch.Tensor]:
    """Weight number -> its gradient when it was last added to."""
    gradients: dict[int, torch.Tensor] = {}
    for number, weight in enumerate(backbone.model.parameters()):
        weight.register_post_accumulate_grad_hook(
            lambda weight, number=number: gradients.update({number: weight.grad.clone()})
        )
    return gradients


@pytest.mark.parametrize("family", FAMILIES)
def test_small_batches_accumulated_have_the_gradient_of_one_large_batch(family: str, tmp_path: Path) -> None:
    gradients = []
    for batch_tokens, accumulated in ((8192, 1), (256, 6)):
        backbone = new(family)
        gradients.append(watch_gradients(backbone))
        sizes = {"batch_tokens": batch_tokens, "gradient_accumulation": accumulated}
        _, result = trained(tmp_path / str(accumulated), backbone, epochs=1, max_grad_norm=1e9, **sizes)
        assert result.steps == 1
    assert gradients[0].keys() == gradients[1].keys()
    for one, many in zip(gradients[0].values(), gradients[1].values(), strict=True):
        assert torch.allclose(one, many, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_last_step_of_fewer_batches_gives_each_target_the_same_weight(family: str, tmp_path: Path) -> None:
    backbone, gradients = new(family), list[float]()
    original = backbone.loss

    def watched(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        loss = original(batch)
        if loss.requires_grad:
            loss.register_hook(lambda gradient: gradients.append(float(gradient)))
        return loss

    backbone.loss = watched  # type: ignore[method-assign]
    _, result = trained(tmp_path, backbone, epochs=1, gradient_accumulation=4)
    assert len(gradients) % 4 and result.steps == len(gradients) // 4 + 1, (
        "choose sizes that leave batches over"
    )
    assert gradients == pytest.approx([gradients[0]] * len(gradients))


def test_gradient_checkpointing_changes_nothing_that_is_learnt(tmp_path: Path) -> None:
    plain, _ = trained(tmp_path / "plain", new(dropout=0.2), epochs=1)
    checkpointed, _ = trained(
        tmp_path / "checkpointed", new(dropout=0.2), epochs=1, gradient_checkpointing=True
    )
    for ours, theirs in zip(weights(checkpointed), weights(plain), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_loss_in_the_curve_is_per_target_however_many_batches_a_step_has(tmp_path: Path) -> None:
    losses = []
    for accumulated in (1, 3):
        _, result = trained(
            tmp_path / str(accumulated), epochs=1, gradient_accumulation=accumulated, learning_rate=1e-9
        )
        losses.append([row["loss"] for row in result.curve if row["part"] == "training"])
    # an untrained model's loss, whatever the batches
    assert losses[0][0] == pytest.approx(losses[1][0], rel=0.05)


@pytest.mark.parametrize("back", [1, 0])
def test_the_patience_used_up_survives_an_interruption(back: int, tmp_path: Path) -> None:
    """Cut one validation before early stopping, and right after the checkpoint at which it stopped."""
    settings: dict[str, Any] = {"contrary": True, "epochs": 20, "validations": 20, "patience": 3}
    whole, expected = trained(tmp_path / "whole", **settings)
    assert expected.stopped_early
    every = (
        expected.steps
        - sorted(
            row["step"] for row in expected.curve if row["part"] == "validation" and row["task"] == "all"
        )[-2]
    )
    if back:
        with pytest.raises(PowerCut):
            trained(tmp_path / "cut", on_step=cut_at(expected.steps - every + 1), **settings)
    else:
        shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    resumed, result = trained(tmp_path / "cut", **settings)
    assert result.resumed_from == expected.steps - back * every
    assert result.stopped_early and result.steps == expected.steps and same(resumed, whole)


def test_a_finished_training_started_again_gives_the_same_weights(tmp_path: Path) -> None:
    first, _ = trained(tmp_path, epochs=2)
    again, result = trained(tmp_path, epochs=2)
    assert result.resumed_from == result.steps and same(first, again)


def test_whole_and_spread_checkpoints_do_not_continue_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path, epochs=1)
    checkpoint = last_complete(tmp_path)
    assert checkpoint is not None
    with monkeypatch.context() as launched:
        launched.setattr(trainer, "_is_sharded", lambda _: True)
        with pytest.raises(
            SettingsError,
            match=r"hold weights whole, and this launch holds them spread over processes; .*--out",
        ):
            trained(tmp_path, epochs=2)
    # as several processes write it: an optimiser of another name, and no hashes
    (checkpoint / "optimizer.pt").rename(checkpoint / "optimizer.bin")
    (checkpoint / "files.json").unlink()
    with pytest.raises(
        SettingsError, match="hold weights spread over processes, and this launch holds them whole"
    ):
        trained(tmp_path, epochs=2)


def test_a_folder_may_move_between_two_parts_of_a_training(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"contrary": True, "epochs": 8, "patience": 10}
    whole, expected = trained(tmp_path / "whole", **settings)
    assert expected.best_step < expected.steps
    with pytest.raises(PowerCut):
        trained(tmp_path / "before", on_step=cut_at(expected.steps - 1), **settings)
    shutil.move(tmp_path / "before", tmp_path / "after")
    moved, _ = trained(tmp_path / "after", **settings)
    assert same(moved, whole)


def test_every_step_is_reported(tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    _, result = trained(tmp_path, on_step=lambda *step: calls.append(step), epochs=1)
    assert [step[:2] for step in calls] == [(number, result.steps) for number in range(result.steps + 1)]
    assert "loss" in calls[-1][2]


def test_a_training_that_stops_early_is_reported_with_the_total_of_its_first_step(tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    settings: dict[str, Any] = {"contrary": True, "epochs": 20, "validations": 20, "patience": 1}
    _, result = trained(tmp_path, on_step=lambda *step: calls.append(step), **settings)
    steps = calls[0][1]
    assert result.steps < steps and {of for _, of, _ in calls} == {steps}
    assert [step[0] for step in calls] == [*range(result.steps + 1), steps]
    assert calls[-1][2] == f"stopped early, after step {result.steps}"


def test_a_loss_that_is_no_number_names_the_remedy(tmp_path: Path) -> None:
    backbone = new()
    with torch.no_grad():
        next(iter(backbone.model.parameters())).fill_(float("nan"))
    with pytest.raises(SettingsError, match="lower training.learning_rate"):
        trained(tmp_path, backbone)
