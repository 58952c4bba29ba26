"""The dry run: counts that are those of the real run, refusals, and what the command line prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shelftalk import stages
from shelftalk.assemble import RunParts, new_backbone
from shelftalk.errors import MissingFile, SettingsError
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.planning.plan import Hardware, Plan, plan
from shelftalk.runs import RunFolder
from shelftalk.tasks.mixture import epoch_samples
from shelftalk.testing.t5_folder import SMALL, save_flan_t5
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import call, merged, save_world, write_experiment

T5 = {"tasks": {"retrieval": {"targets": 1}, "rating": {"targets": 1}}}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_world(tiny_world(users=40, items=60), tmp_path_factory.mktemp("world") / "data")


@pytest.fixture(scope="module")
def flan(world: Path) -> str:
    texts = ["Amber tea Bold lamps Calm boots No. 1 2 3", "abcdefghijklmnopqrstuvwxyz 0 1 2 3 4 5 6 7 8 9 . , :"] * 3
    return str(save_flan_t5(world.parent / "flan", texts, SMALL, 320, 150))


def experiment(world: Path, **changes: Any) -> Experiment:
    return load_experiment(write_experiment(world.parent / "plan.toml", world, **changes))


@pytest.fixture(scope="module")
def planned(world: Path) -> Plan:
    return plan(experiment(world), Hardware(gpus=8, price=2.0))


def test_counts_are_those_of_the_real_run(world: Path, planned: Plan, tmp_path: Path) -> None:
    settings, folder = experiment(world), RunFolder(tmp_path)
    stages.prepare(folder, settings)
    stages.index(folder, settings)
    found = RunParts(folder, settings)
    samples = list(epoch_samples([task for task in found.tasks.values() if task.settings.weight > 0], 0, settings.seed))
    for name, row in planned.tasks.items():
        real = sum(sample.task == name for sample in samples)
        assert row["samples"] == pytest.approx(real, abs=max(2, 0.1 * real)), name
    encoded = [new_backbone(found).encode(sample.segments) for sample in samples[:5]]
    assert all(len(sample) <= max(row["prompt max"] + 100 for row in planned.tasks.values()) for sample in encoded)


def test_histories_cut_are_counted_by_hand(world: Path, planned: Plan, tmp_path: Path) -> None:
    settings = experiment(world, tasks={"ranking": {"max_history": 6}})
    folder = RunFolder(tmp_path)
    stages.prepare(folder, settings)
    lengths = np.diff(RunParts(folder, settings).split.training_bounds, axis=1)
    found = plan(settings, Hardware())
    assert found.tasks["ranking"]["histories cut"] == pytest.approx(float((lengths > 6).mean()))
    assert planned.tasks["retrieval"]["histories cut"] == 0


def test_some_users_stand_for_all(world: Path, planned: Plan) -> None:
    some = plan(experiment(world), Hardware(), users=20)
    assert "20 of 40 users" in some.looked_at and "All 40 users" in planned.looked_at
    for name, row in planned.tasks.items():
        assert some.tasks[name]["samples"] == pytest.approx(row["samples"], rel=0.35), name


def test_the_plan_has_all_its_parts_and_survives_json(planned: Plan) -> None:
    values = json.loads(json.dumps(planned.values()))
    assert values["memory"]["full"]["peak"] > values["memory"]["full"]["weights"] > 0
    assert values["trie"]["items"] == 60 and values["trie"]["nodes"] > 60 and values["trie"]["bytes"] > 0
    assert {row["where"] for row in values["times"]} >= {"1 x a100-80gb", "8 x a100-80gb"}
    one, eight = (next(row for row in values["times"] if row["where"] == f"{n} x a100-80gb") for n in (1, 8))
    assert eight["hours"] < one["hours"] < eight["cost"] < one["hours"] * 8 * 2.0 or one["cost"] == pytest.approx(one["hours"] * 2.0)
    assert values["refused"] == [] and any("estimates only" in sentence for sentence in values["assumptions"])


def test_a_pretrained_t5_is_planned_without_any_of_its_weights(world: Path, flan: str) -> None:
    found = plan(experiment(world, pretrained={"name": flan}, **T5), Hardware())  # the folder holds no weights
    assert found.model["family"] == "encoder-decoder" and found.model["trained context"] == 512 and not found.refused


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training": {"precision": "fp16"}}, "overflow fp16"),
        ({"decoding": {"beams": 5}}, "decoding.beams = 20"),
        ({"training": {"judged_by": ["rating"]}, "tasks": {**T5["tasks"]}}, ""),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(changes: dict[str, Any], words: str, world: Path, flan: str) -> None:
    found = plan(experiment(world, **merged({"pretrained": {"name": flan, "random_weights": True}, **T5}, changes)), Hardware())
    assert [sentence for sentence in found.refused if words in sentence] if words else not found.refused


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


def test_the_command_prints_tables_or_json_and_fails_where_something_is_refused(world: Path, flan: str) -> None:
    file = write_experiment(world.parent / "cli.toml", world)
    told = call("plan", file, "--price", "2")
    assert told.exit_code == 0 and "memory at the highest moment" in told.stdout and "this machine" in told.stdout
    values = json.loads(call("plan", file, "--json").stdout)
    assert values["experiment"] == "tiny" and values["training"]["steps"] > 0
    refused = write_experiment(world.parent / "refused.toml", world, pretrained={"name": flan}, training={"precision": "fp16"}, **T5)
    told = call("plan", refused)
    assert told.exit_code == 2 and "Refused: T5 was trained in bf16" in told.stdout
    assert call("plan", file, "--gpu", "a100").exit_code == 2
