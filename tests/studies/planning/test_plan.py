"""The dry run: counts that are those of the real run, refusals, and what the command line prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from shelftalk.errors import MissingFile, SettingsError
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.models.precision import product_type
from shelftalk.models.text_encoder import Encoded
from shelftalk.pipeline import stages
from shelftalk.pipeline.fresh_backbone import new_backbone
from shelftalk.pipeline.run import Run
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.studies.planning.counting import count_samples
from shelftalk.studies.planning.gpus import GPUS
from shelftalk.studies.planning.memory import trainable
from shelftalk.studies.planning.plan import (
    HERE,
    SCALING,
    Hardware,
    Plan,
    alternative_backbone,
    backbone_to_plan,
    plan,
    typical_and_largest,
)
from shelftalk.tasks.mixture import epoch_samples
from shelftalk.testing.t5_folder import SMALL, save_flan_t5
from shelftalk.testing.worlds import tiny_world
from shelftalk.training.batching import Steps
from shelftalk.training.packing import NO_SHARED_ROWS
from tests.end_to_end.tiny import call, merged, save_world, write_experiment

T5 = {"tasks": {"retrieval": {"targets": 1}, "rating": {"targets": 1}}}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_world(tiny_world(users=40, items=60), tmp_path_factory.mktemp("world") / "data")


@pytest.fixture(scope="module")
def flan(world: Path) -> str:
    texts = [
        "Amber tea Bold lamps Calm boots No. 1 2 3",
        "abcdefghijklmnopqrstuvwxyz 0 1 2 3 4 5 6 7 8 9 . , :",
    ] * 3
    return str(save_flan_t5(world.parent / "flan", texts, SMALL, 320, 150))


def experiment(world: Path, **changes: Any) -> Experiment:
    return load_experiment(write_experiment(world.parent / "plan.toml", world, **changes))


@pytest.fixture(scope="module")
def planned(world: Path) -> Plan:
    return plan(experiment(world), Hardware(gpus=8, price=2.0))


@pytest.fixture(scope="module")
def some(world: Path) -> Plan:
    """Of half the users, with short histories in one task, in fp32."""
    changes = {"tasks": {"ranking": {"max_history": 6}}, "training": {"precision": "fp32"}}
    return plan(experiment(world, **changes), Hardware(), users=20)


@pytest.fixture(scope="module")
def real(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of the planned experiment, before training."""
    settings, folder = experiment(world), RunFolder(tmp_path_factory.mktemp("real"))
    stages.prepare(folder, settings)
    stages.index(folder, settings)
    return Run(folder, settings)


def test_counts_and_lengths_are_those_of_the_real_run(real: Run, planned: Plan) -> None:
    """All users are counted, so that only what is drawn at random differs, templates, windows and masks:
    lengths lie between those of five real epochs, or at most 15 % beyond; of tasks with a handful of samples
    the counts alone are compared."""
    tasks, backbone = [task for task in real.tasks.values() if task.settings.weight > 0], new_backbone(real)
    epochs: list[dict[str, list[Encoded]]] = [{name: [] for name in planned.tasks} for _ in range(5)]
    for number, epoch in enumerate(epochs):
        for sample in epoch_samples(tasks, number, real.experiment.seed):
            epoch[sample.task].append(backbone.encode(sample.segments))
    for name, row in planned.tasks.items():
        assert {len(epoch[name]) for epoch in epochs} == {row["samples"]}, name
        if row["samples"] < 20:
            continue
        for at, share in (("p50", 50), ("p95", 95)):
            prompts = [
                np.percentile([sample.prompt_length for sample in epoch[name]], share) for epoch in epochs
            ]
            targets = [
                np.percentile([sample.bears_loss.sum() for sample in epoch[name]], share) for epoch in epochs
            ]
            assert 0.85 * min(prompts) <= row[f"prompt {at}"] <= 1.15 * max(prompts), (name, at)
            assert 0.85 * min(targets) <= row[f"targets {at}"] <= 1.15 * max(targets), (name, at)
    read = sum(len(sample) for epoch in epochs for samples in epoch.values() for sample in samples) / len(
        epochs
    )
    assert planned.training["tokens of the epochs"] == pytest.approx(
        real.experiment.training.epochs * read, rel=0.08
    )


def test_the_samples_of_all_users_are_those_of_the_first_epoch(real: Run) -> None:
    """The planner counts the samples that training makes: weights, shares of weights and random draws."""
    backbone = new_backbone(real)
    first = [
        sample
        for task in real.tasks.values()
        if task.settings.weight > 0
        for sample in backbone.encode_samples(task.samples(0))
    ]
    counted = count_samples(real, backbone, 10**6).samples
    assert [sample.ids.tolist() for sample in counted] == [sample.ids.tolist() for sample in first]


def test_a_task_of_the_first_epochs_counts_for_as_many_of_them(real: Run) -> None:
    backbone, epochs = new_backbone(real), real.experiment.training.epochs
    assert epochs >= 2

    def tokens(first_epochs: int) -> float:
        tasks = dict(real.experiment.tasks)
        tasks["masked_items"] = tasks["masked_items"].model_copy(update={"first_epochs": first_epochs})
        changed = real.experiment.model_copy(update={"tasks": tasks})
        counted = count_samples(Run(real.folder, changed), backbone, 10**6)
        return counted.tasks["masked_items"].samples

    assert tokens(1) == pytest.approx(tokens(0) / epochs, rel=0.15)
    assert tokens(epochs) == tokens(epochs + 3) == tokens(0)


def test_histories_cut_are_counted_by_hand(real: Run, planned: Plan, some: Plan) -> None:
    lengths = np.diff(real.split.training_bounds, axis=1)
    assert some.tasks["ranking"]["histories cut"] == pytest.approx(float((lengths > 6).mean())) != 0
    assert planned.tasks["retrieval"]["histories cut"] == 0


def test_some_users_represent_all(planned: Plan, some: Plan) -> None:
    assert "20 of 40 users" in some.counted and "all 40 users" in planned.counted
    for name, row in planned.tasks.items():
        assert some.tasks[name]["samples"] == pytest.approx(row["samples"], rel=0.35), name


def test_the_plan_has_all_its_parts_and_survives_json(planned: Plan) -> None:
    values = json.loads(json.dumps(planned.values()))
    alone, divided, here = values["memory"].values()
    assert alone["peak"] > alone["weights"] > 0 and divided["gradients"] == pytest.approx(
        alone["gradients"] / 8, rel=0.01
    )
    assert (
        list(values["memory"]) == ["one GPU, full", "each of 8 GPUs, full, all divided", HERE]
        and here["peak"] > 0
    )
    assert values["trie"]["items"] == 60 and values["trie"]["nodes"] > 60 and values["trie"]["bytes"] > 0
    assert {row["where"] for row in values["times"]} >= {"1 x a100-80gb", "8 x a100-80gb"}
    one, eight = (next(row for row in values["times"] if row["where"] == f"{n} x a100-80gb") for n in (1, 8))
    assert one["cost"] == pytest.approx(one["hours"] * 2.0) and eight["cost"] == pytest.approx(
        eight["hours"] * 8 * 2.0
    )
    assert eight["hours"] * 8 * SCALING == pytest.approx(one["hours"])
    assert values["refused"] == [] and any("are estimates" in sentence for sentence in values["assumptions"])


def test_a_gpu_is_planned_with_its_own_padding_and_this_processor_with_its(planned: Plan, some: Plan) -> None:
    """In fp32 a processor pads to fewer tokens than a GPU; in half precision both pad alike."""
    gpu, here = some.memory["one GPU, full"], some.memory[HERE]
    assert gpu["activations"] > here["activations"] and gpu["logits"] > here["logits"]
    gpu, here = planned.memory["one GPU, full"], planned.memory[HERE]
    if product_type("auto", "decoder-only") == torch.bfloat16:
        assert (gpu["activations"], gpu["logits"]) == (here["activations"], here["logits"])


def test_a_pretrained_t5_is_planned_without_any_of_its_weights(world: Path, flan: str) -> None:
    # the folder holds no weights
    result = plan(experiment(world, pretrained={"name": flan}, **T5), Hardware())
    assert result.model["family"] == "encoder-decoder" and result.model["trained context"] == 512
    assert not result.refused


def lora(flan: str) -> dict[str, Any]:
    return {
        "name": flan,
        "random_weights": True,
        "adaptation": "lora",
        "lora_rank": 3,
        "lora_targets": ["q", "wo"],
    }


def test_adapters_are_planned_as_they_are_made(world: Path, flan: str, tmp_path: Path) -> None:
    settings = experiment(world, pretrained=lora(flan), **T5)
    result, folder = plan(settings, Hardware(lora_rank=9)), RunFolder(tmp_path)
    stages.prepare(folder, settings)
    stages.index(folder, settings)
    model = new_backbone(Run(folder, settings)).model
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert result.model["trainable, LoRA, rank 3"] == trained < result.model["trainable, full"] / 2
    assert result.model["parameters"] == sum(weight.numel() for weight in model.parameters())
    adapted, full, here = result.memory.values()
    assert (
        adapted["gradients"] == 4 * trained == adapted["optimizer"] / 2 and here["gradients"] == 4 * trained
    )
    assert (
        adapted["weights"] == 4 * result.model["parameters"]
        and full["gradients"] == 4 * result.model["trainable, full"]
    )
    assert [row["training"] for row in result.times] == ["LoRA, rank 3", "full", "LoRA, rank 3"]


def test_full_training_is_compared_with_adapters_of_the_given_rank(world: Path, flan: str, real: Run) -> None:
    run = Run(real.folder, experiment(world, pretrained={"name": flan}, **T5))
    model = backbone_to_plan(run).model
    shapes = [
        part.weight.shape
        for part in model.modules()
        if isinstance(part, torch.nn.Linear) and part is not model.lm_head
    ]
    trained = {}
    for rank in (2, 4):
        other = alternative_backbone(run, rank)
        assert other is not None
        trained[rank] = sum(shape.numel() for shape in trainable(other.model))
    assert trained[4] - trained[2] == 2 * sum(map(sum, shapes))
    assert alternative_backbone(real, 4) is None  # the nano model takes none


def test_rows_that_samples_share_are_planned_as_they_are_packed(world: Path, real: Run) -> None:
    samples = count_samples(real, new_backbone(real), 10**6).samples
    steps = Steps(new_backbone(real), [samples], 1024, 0, row_tokens=512)
    batches = typical_and_largest(samples, 1024, 512)
    assert batches.number == len(steps) < typical_and_largest(samples, 1024).number
    most = max(steps.counts(), key=lambda count: count.targets).targets
    assert sum(int(row.bears_loss.sum()) for row in batches.largest[1]) == most
    result = plan(experiment(world, training={"row_tokens": 512, "batch_tokens": 1024}), Hardware())
    assert (
        result.training["steps"]
        < plan(experiment(world, training={"batch_tokens": 1024}), Hardware()).training["steps"]
    )


def test_hours_of_fp32_follow_from_the_peak_of_fp32(planned: Plan, some: Plan) -> None:
    a100 = GPUS["a100-80gb"]
    assert f"{a100.fp32:g} x 10^12 fp32 operations" in some.assumptions[0]
    assert f"{a100.bf16:g} x 10^12 bf16 operations" in planned.assumptions[0]
    hours = [
        next(row["hours"] for row in result.times if row["where"] == "1 x a100-80gb")
        for result in (some, planned)
    ]
    tokens = [result.training["tokens of the epochs"] for result in (some, planned)]
    slower = (hours[0] / tokens[0]) / (hours[1] / tokens[1])
    assert slower == pytest.approx(a100.bf16 / a100.fp32, rel=0.3)


def test_each_thing_that_cannot_work_is_refused_in_a_sentence(world: Path, flan: str, tmp_path: Path) -> None:
    unrated = tmp_path / "unrated"
    unrated.mkdir()
    pl.read_parquet(world / "interactions.parquet").drop("rating").write_parquet(
        unrated / "interactions.parquet"
    )
    pl.read_parquet(world / "items.parquet").write_parquet(unrated / "items.parquet")
    changes = {
        "decoding": {"beams": 5},
        "training": {"precision": "fp16", "judged_by": ["rating"], "row_tokens": 512},
    }
    result = plan(experiment(unrated, **merged({"pretrained": {"name": flan}, **T5}, changes)), Hardware())
    for words in ("overflow fp16", "decoding.beams = 20", "training.judged_by names no task", NO_SHARED_ROWS):
        assert len([sentence for sentence in result.refused if words in sentence]) == 1, words
    assert len(result.refused) == 4


def test_samples_that_an_encoder_decoder_cannot_learn_from_are_refused_before_anything_is_written(
    world: Path, flan: str, tmp_path: Path
) -> None:
    settings = experiment(world, pretrained={"name": flan, "random_weights": True})
    with pytest.raises(SettingsError, match="set tasks.retrieval.targets = 1 or more"):
        plan(settings, Hardware())
    folder = RunFolder(tmp_path)
    stages.prepare(folder, settings)
    stages.index(folder, settings)
    with pytest.raises(SettingsError, match="set tasks.retrieval.targets = 1 or more"):
        stages.write(folder, settings)
    assert not folder.samples.exists()


def test_a_tokenizer_out_of_reach_is_refused_with_a_sentence(world: Path) -> None:
    with pytest.raises(MissingFile, match="give the path of its folder"):
        plan(experiment(world, pretrained={"name": "google/flan-t5-xl"}, **T5), Hardware())


def test_the_command_prints_tables_or_json_and_fails_where_something_is_refused(
    world: Path, flan: str
) -> None:
    file = write_experiment(world.parent / "cli.toml", world)
    values = json.loads(call("plan", file, "--json").stdout)
    assert values["experiment"] == "tiny" and values["training"]["steps"] > 0
    refused = write_experiment(
        world.parent / "refused.toml", world, pretrained={"name": flan}, training={"precision": "fp16"}, **T5
    )
    printed = call("plan", refused, "--price", "2")
    assert printed.exit_code == 2 and "Refused: T5 was trained in bf16" in printed.stdout
    assert (
        "memory at the highest moment" in printed.stdout
        and "this machine" in printed.stdout
        and "cost" in printed.stdout
    )
    assert call("plan", file, "--gpu", "a100").exit_code == 2
