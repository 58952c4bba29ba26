"""Validation by recommendation quality: what is measured, what it chooses, and that it does not change
the training."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shelftalk.data.splitting import Split
from shelftalk.decoding.language_model import LanguageModelRecommender
from shelftalk.errors import SettingsError, UnknownPart
from shelftalk.evaluation.evaluator import evaluate_retrieval
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.models.backbone import Backbone
from shelftalk.pipeline import stages
from shelftalk.pipeline.fine_tuning import train_backbone, validated, validation_quality
from shelftalk.pipeline.fresh_backbone import new_backbone
from shelftalk.pipeline.run import Run
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.worlds import tiny_world
from shelftalk.training.quality import measured_quality
from shelftalk.training.settings import TrainingSettings, refused_where_spread
from shelftalk.training.trainer import TrainingResult, train
from tests.end_to_end.tiny import save_world, write_experiment
from tests.models.test_lora import folder_of
from tests.training.test_trainer import PowerCut, cut_at, lesson, new, same, weights

BY_NDCG: dict[str, Any] = {"best_by": "ndcg@10", "validation_users": 1}


@dataclass
class ScriptedQuality:
    """Returns the values one after another, whatever the model is, and keeps the weights that it saw."""

    backbone: Backbone
    values: Iterable[float]
    seen: list[list[torch.Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.values = iter(self.values)

    def __call__(self) -> dict[str, float]:
        assert not self.backbone.model.training and not torch.is_grad_enabled()
        self.seen.append(weights(self.backbone))
        return {"recall@10": 0.5, "ndcg@10": next(iter(self.values))}


def trained(
    folder: Path,
    backbone: Backbone,
    quality: Callable[[], Mapping[str, float]] | None,
    callbacks: Any = (),
    **settings: Any,
) -> TrainingResult:
    """Lessons whose validation loss falls all the time."""
    lessons = [lesson(backbone, start, 2 + start % 3) for start in range(48)]
    values = {
        "epochs": 4,
        "batch_tokens": 256,
        "learning_rate": 0.01,
        "validations": 4,
        "judged_by": ("retrieval",),
        **settings,
    }
    chosen = TrainingSettings(precision="fp32", **values)
    return train(
        backbone,
        [lessons] * chosen.epochs,
        {"retrieval": lessons[:12]},
        folder,
        chosen,
        0,
        *callbacks,
        quality=quality,
    )


def steps_of(result: TrainingResult) -> list[int]:
    """Of the validations."""
    return [row["step"] for row in result.quality if row["metric"] == "ndcg@10"]


def checkpoints(folder: Path) -> list[int]:
    return sorted(int(path.name.rpartition("-")[2]) for path in folder.glob("checkpoint-*"))


@pytest.mark.parametrize(
    "values", [(0.1, 0.4, 0.3, 0.2), (0.4, 0.1, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4), (0.0, 0.4, 0.4, 0.4)]
)
def test_the_weights_kept_are_those_of_the_best_quality_and_best_and_last_checkpoints_are_there(
    values: tuple[float, ...], tmp_path: Path
) -> None:
    backbone = new()
    quality_of_steps = ScriptedQuality(backbone, values)
    result = trained(tmp_path, backbone, quality_of_steps, patience=10, **BY_NDCG)
    best = values.index(max(values))
    losses = [row["loss"] for row in result.curve if row["part"] == "validation" and row["task"] == "all"]
    assert losses.index(min(losses)) == 3, "the loss would have chosen another"
    assert [row["value"] for row in result.quality if row["metric"] == "ndcg@10"] == list(values)
    assert result.best_step == steps_of(result)[best]
    assert all(
        torch.equal(kept, seen)
        for kept, seen in zip(weights(backbone), quality_of_steps.seen[best], strict=True)
    )
    others = quality_of_steps.seen[3 if best != 3 else 0]
    assert not all(torch.equal(kept, seen) for kept, seen in zip(weights(backbone), others, strict=True))
    assert checkpoints(tmp_path)[-1] == result.steps and result.best_step in checkpoints(tmp_path)
    assert len(checkpoints(tmp_path)) == 2


def test_quality_that_is_only_watched_leaves_the_choice_to_the_loss(tmp_path: Path) -> None:
    backbone = new()
    result = trained(
        tmp_path, backbone, ScriptedQuality(backbone, (0.4, 0.3, 0.2, 0.1)), patience=1, validation_users=1
    )
    assert result.best_step == result.steps and not result.stopped_early and len(steps_of(result)) == 4


def test_training_stops_when_quality_no_longer_improves_and_started_again_stays_where_it_ended(
    tmp_path: Path,
) -> None:
    backbone = new()
    result = trained(
        tmp_path, backbone, ScriptedQuality(backbone, (0.4, 0.5, 0.3, 0.2)), patience=1, **BY_NDCG
    )
    assert result.stopped_early and steps_of(result) == [
        step for step in steps_of(result) if step <= result.steps
    ]
    assert len(steps_of(result)) == 3 and result.best_step == steps_of(result)[1]
    again = new()
    second = trained(tmp_path, again, ScriptedQuality(again, ()), patience=1, **BY_NDCG)
    assert (second.steps, second.best_step, second.stopped_early) == (result.steps, result.best_step, True)
    assert same(again, backbone) and second.quality == result.quality


def test_quality_is_reported_as_progress_and_at_every_validation(tmp_path: Path) -> None:
    backbone, texts, validations = new(), list[str](), list[tuple[int, Mapping[str, float]]]()
    callbacks = (
        lambda done, steps, text: texts.append(text),
        lambda step, metrics: validations.append((step, metrics)),
    )
    result = trained(
        tmp_path, backbone, ScriptedQuality(backbone, (0.125,) * 4), callbacks, patience=10, **BY_NDCG
    )
    assert [step for step, _ in validations] == steps_of(result)
    for (_, metrics), row in zip(
        validations, [row for row in result.curve if row["task"] == "retrieval"], strict=True
    ):
        assert metrics == {
            "retrieval_loss": row["loss"],
            "loss": row["loss"],
            "recall@10": 0.5,
            "ndcg@10": 0.125,
        }
    assert any("validation loss" in text and "validation ndcg@10 0.125" in text for text in texts)


def noisy() -> dict[str, float]:
    """Draws from every random generator there is."""
    return {"ndcg@10": float(torch.rand(3).sum() + np.random.rand() + random.random())}


def test_measuring_quality_changes_nothing_that_is_learnt(tmp_path: Path) -> None:
    plain, measured = new(dropout=0.2), new(dropout=0.2)
    trained(tmp_path / "plain", plain, None)
    trained(tmp_path / "measured", measured, noisy)
    assert same(plain, measured)


def test_modes_and_random_states_are_restored_even_where_measuring_fails() -> None:
    backbone = new()
    backbone.model.train()
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]

    def fails() -> dict[str, float]:
        noisy()
        raise PowerCut

    with pytest.raises(PowerCut):
        measured_quality(backbone.model, fails)
    assert (
        backbone.model.training and torch.is_grad_enabled() and measured_quality(backbone.model, None) == {}
    )
    after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # type: ignore[index]
    assert torch.equal(before[0], after[0]) and np.array_equal(before[1], after[1]) and before[2] == after[2]


# --- through the recommender -----------------------------------------------------------------------------

KINDS: dict[str, dict[str, Any]] = {
    "decoder-only": {},
    "encoder-decoder": {
        "nano": {"family": "encoder-decoder"},
        "tasks": {"retrieval": {"targets": 1}, "rating": {"targets": 1}},
    },
    "checkpointing": {"training": {"gradient_checkpointing": True}},
    "adapters": {
        "pretrained": {"random_weights": True, "adaptation": "lora", "lora_rank": 4, "lora_dropout": 0.1}
    },
}


def prepared(kind: str, folder: Path, **training: Any) -> Run:
    """A tiny run whose samples are written."""
    changes = {name: dict(table) for name, table in KINDS[kind].items()}
    if kind == "adapters":
        changes["pretrained"]["name"] = folder_of("tied")
    settings = {
        "epochs": 1,
        "max_steps": 8,
        "validation_users": 7,
        "best_by": "ndcg@10",
        "patience": 10,
        "precision": "fp32",
    }
    changes["training"] = {**settings, **changes.get("training", {}), **training}
    changes["nano"] = {"dropout": 0.2, **changes.get("nano", {})}
    world = save_world(tiny_world(users=30, items=50), folder / "data")
    experiment: Experiment = load_experiment(write_experiment(folder / "tiny.toml", world, **changes))
    run_folder = RunFolder(folder / "run")
    for stage in (stages.prepare, stages.index, stages.write):
        stage(run_folder, experiment)
    return Run(run_folder, experiment)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_training_that_measures_quality_ends_as_an_uninterrupted_one(
    kind: str, tmp_path: Path
) -> None:
    run = prepared(kind, tmp_path)
    whole, expected = train_backbone(run, lambda *_: None)
    assert len({row["value"] for row in expected["quality"] if row["metric"] == "ndcg@20"}) > 1, (
        "the model that is being trained is measured"
    )
    run.folder.checkpoints.rename(tmp_path / "whole")
    with pytest.raises(PowerCut):
        train_backbone(run, cut_at(expected["steps"] - 1))
    resumed, facts = train_backbone(run, lambda *_: None)
    assert facts["resumed_from"] > 0 and same(resumed, whole)
    assert all(facts[name] == expected[name] for name in ("quality", "curve", "steps", "best_step"))


def test_lists_of_validation_users_are_measured_by_the_evaluator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, parts = prepared("decoder-only", tmp_path, validation_users=1000), []
    original = Split.retrieval_requests
    monkeypatch.setattr(
        Split,
        "retrieval_requests",
        lambda self, part, *rest: parts.append(part) or original(self, part, *rest),
    )
    backbone = new_backbone(run)
    quality = validation_quality(run, backbone)
    assert quality is not None and set(parts) == {"validation"}
    requests, truths = run.split.retrieval_requests("validation")
    model = LanguageModelRecommender(backbone, run.index, run.served, run.experiment.decoding)
    table = evaluate_retrieval(model.recommend(requests, 20), requests, truths, run.split.dataset.item_ids)
    assert quality()["ndcg@10"] == pytest.approx(table["ndcg@10"].mean())
    assert quality()["recall@20"] == pytest.approx(table["recall@20"].mean())


def test_the_same_few_users_are_drawn_every_time_and_others_with_another_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, users = prepared("decoder-only", tmp_path, validation_users=5), list[list[str]]()
    original = LanguageModelRecommender.recommend

    def watched(self: LanguageModelRecommender, requests: Any, k: int) -> Any:
        users.append([request.user for request in requests])
        return original(self, requests, k)

    monkeypatch.setattr(LanguageModelRecommender, "recommend", watched)
    backbone = new_backbone(run)
    for seed in (3, 3, 4):
        other = Run(run.folder, run.experiment.model_copy(update={"seed": seed}))
        quality = validation_quality(other, backbone)
        assert quality is not None
        quality()
    assert users[0] == users[1] != users[2] and len(set(users[0])) == 5


def test_no_quality_is_measured_by_default(tmp_path: Path) -> None:
    assert TrainingSettings().validation_users == 0
    run = prepared("decoder-only", tmp_path, validation_users=0, best_by="loss")
    assert validation_quality(run, new()) is None


def test_a_task_that_is_neither_trained_nor_judged_by_is_not_validated(tmp_path: Path) -> None:
    run = prepared("decoder-only", tmp_path, validation_users=0, best_by="loss")
    assert list(run.served) == ["retrieval", "ranking", "rating"]
    off = {
        **run.experiment.tasks,
        "ranking": run.experiment.tasks["ranking"].model_copy(update={"weight": 0.0}),
    }
    training = run.experiment.training.model_copy(update={"judged_by": ("retrieval",)})
    alone = Run(run.folder, run.experiment.model_copy(update={"tasks": off, "training": training}))
    _, facts = train_backbone(alone, lambda *_: None)
    tasks = {row["task"] for row in facts["curve"] if row["part"] == "validation"}
    assert tasks >= {"retrieval", "rating"} and "ranking" not in tasks
    judged = training.model_copy(update={"judged_by": ("ranking",)})
    assert validated(
        Run(run.folder, run.experiment.model_copy(update={"tasks": off, "training": judged}))
    ) == list(run.served)


def test_a_task_that_is_not_trained_does_not_judge_beside_one_that_is(tmp_path: Path) -> None:
    run = prepared("decoder-only", tmp_path, validation_users=0, best_by="loss")
    both = run.experiment.training.model_copy(update={"judged_by": ("retrieval", "rating")})
    off = {
        **run.experiment.tasks,
        "rating": run.experiment.tasks["rating"].model_copy(update={"weight": 0.0}),
    }
    _, facts = train_backbone(
        Run(run.folder, run.experiment.model_copy(update={"tasks": off, "training": both})),
        lambda *_: None,
    )
    validations = [row for row in facts["curve"] if row["part"] == "validation"]
    losses = {
        task: [row["loss"] for row in validations if row["task"] == task]
        for task in {row["task"] for row in validations}
    }
    assert "rating" not in losses and losses["all"] == losses["retrieval"]


def test_what_weights_spread_over_processes_do_not_allow_is_refused_with_its_remedy() -> None:
    assert refused_where_spread(TrainingSettings(), adapters=False) == ""
    refusal = refused_where_spread(
        TrainingSettings(validation_users=5, optimizer="adafactor"), adapters=False
    )
    assert (
        "lists cannot be made" in refusal
        and 'set training.validation_users = 0 and training.optimizer = "adamw"' in refusal
    )
    assert "adapters cannot be trained; set pretrained.adaptation" in refused_where_spread(
        TrainingSettings(), adapters=True
    )


# --- settings --------------------------------------------------------------------------------------------


def test_what_the_best_checkpoint_is_chosen_by_must_be_measured(tmp_path: Path) -> None:
    with pytest.raises(
        UnknownPart, match=r'best_by names "ndcg@11", which is no metric of retrieval; did you mean "ndcg@1'
    ):
        load_experiment(None, {"training": {"best_by": "ndcg@11", "validation_users": 5}})
    with pytest.raises(SettingsError, match="set training.validation_users = 200"):
        load_experiment(None, {"training": {"best_by": "ndcg@10"}})
    with pytest.raises(SettingsError, match='set training.best_by = "loss"'):
        trained(tmp_path, new(), None, **BY_NDCG)
    assert (
        load_experiment(None, {"training": {"best_by": "recall@10", "validation_users": 5}}).training.best_by
        == "recall@10"
    )
