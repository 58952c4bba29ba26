"""The paper's experiments as files: complete, and they run; the true architectures, at random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from shelftalk.experiment import Experiment, load_experiment
from shelftalk.indexing.item_index import IndexSettings
from shelftalk.models.pretrained import meta_model
from shelftalk.models.settings import PretrainedSettings
from shelftalk.pipeline import stages
from shelftalk.pipeline.fresh_backbone import symbols
from shelftalk.pipeline.run import Run
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.tasks.mixture import epoch_samples
from shelftalk.testing.t5_folder import FLAN_T5_BASE, FLAN_T5_XL, SMALL, save_flan_t5
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import save_world

FILES = sorted((Path(__file__).parent.parent / "experiments" / "paper").glob("*.toml"))
WEIGHTS = {"base": 247_577_856, "xl": 2_849_757_184}
SIZES = {"base": FLAN_T5_BASE, "xl": FLAN_T5_XL}
SIX = ("retrieval", "ranking", "rating", "masked_items", "masked_language", "pairwise_preference")
FEW_STEPS = {
    "epochs": 1,
    "max_steps": 3,
    "batch_tokens": 512,
    "validations": 1,
    "validation_samples": 5,
    "precision": "fp32",
}

torch.set_num_threads(1)


def size(path: Path) -> str:
    return path.stem.rpartition("-")[2]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_world(
        tiny_world(users=25, items=120, ratings=False), tmp_path_factory.mktemp("world") / "data"
    )


@pytest.fixture(scope="module")
def small(world: Path) -> str:
    return flan(world.parent / "small", SMALL, 480)


def flan(folder: Path, sizes: dict[str, int], vocabulary: int = 32128) -> str:
    texts = [title for title in tiny_world().items["title"]] + [
        "abcdefghijklmnopqrstuvwxyz 0 1 2 3 4 5 6 7 8 9 . , : ;"
    ] * 5
    return str(save_flan_t5(folder, texts, sizes, vocabulary, 300))


def loaded(path: Path, world: Path, model: str, **training: Any) -> Experiment:
    """The file with other data, a model at random weights
    and a few steps; everything else as it stands there."""
    changes = {
        "data": {"folder": str(world), "k_core": 1},
        "split": {"ranking_negatives": 20},
        "pretrained": {"name": model, "random_weights": True},
        "index": {"dimensions": 8},
        "training": FEW_STEPS | training,
        "models": ["aligned"],
        "decoding": {"beams": 20, "batch_size": 32},
        "evaluation": {
            "resamples": 100,
            "shown_users": 2,
            "held_out_templates": False,
            "search_error_users": 0,
        },
    }
    return load_experiment(path, changes)


def test_there_are_six() -> None:
    assert [path.stem for path in FILES] == [
        f"{d}-flan-t5-{s}" for d in ("beauty", "sports", "toys") for s in ("base", "xl")
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_says_what_the_paper_says_and_what_is_ours(path: Path, tmp_path: Path) -> None:
    experiment, text = load_experiment(path), path.read_text("utf-8")
    assert (
        experiment.pretrained.name == f"google/flan-t5-{size(path)}"
        and not experiment.pretrained.random_weights
    )
    assert experiment.name == path.stem and all(experiment.tasks[name].weight > 0 for name in SIX)
    assert (
        experiment.index.scheme == "mixed"
        and not experiment.text.user_ids
        and experiment.training.precision == "bf16"
    )
    assert not experiment.why_no_targets("encoder-decoder")
    assert (
        "# Known from the paper:" in text
        and "# Our reconstruction" in text
        and f"shelftalk run experiments/paper/{path.name}" in text
    )
    (tmp_path / "resolved.toml").write_text(experiment.toml(), "utf-8")
    assert load_experiment(tmp_path / "resolved.toml") == experiment


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_trains_a_few_steps_of_the_same_shape_shrunken(
    path: Path, world: Path, small: str, tmp_path: Path
) -> None:
    experiment, folder = loaded(path, world, small), RunFolder(tmp_path)
    records = [
        stage(folder, experiment) for stage in (stages.prepare, stages.index, stages.write, stages.train)
    ]
    assert "Rating prediction is left out" in records[0].facts["left_out"][0]
    assert records[-1].facts["steps"] == 3 and records[-1].facts["family"] == "encoder-decoder"
    run = Run(folder, experiment)
    tasks = [task for task in run.tasks.values() if task.settings.weight > 0]
    samples = list(epoch_samples(tasks, 0, experiment.seed))
    assert {sample.task for sample in samples} == {*SIX} - {"rating"}
    users = set(run.split.dataset.user_ids)
    assert not any(segment.text in users for sample in samples for segment in sample.segments), "no user ids"
    titles = [title for title in run.split.dataset.items["title"] if title]
    retrieval = [sample.text for sample in samples if sample.task == "retrieval" and len(sample.items) > 1]
    assert all(any(title in text for title in titles) for text in retrieval), "titles beside ids"


def test_one_goes_the_whole_way_to_the_report(small: str, tmp_path: Path) -> None:
    folder, few = (
        RunFolder(tmp_path),
        save_world(tiny_world(users=6, items=60, ratings=False), tmp_path.parent / "few"),
    )
    stages.run_all(
        folder,
        loaded(FILES[0], few, small).model_copy(
            update={"index": IndexSettings(scheme="mixed", title_characters=10)}
        ),
    )
    metrics = json.loads(folder.metrics.read_text())
    assert set(metrics) == {"retrieval", "ranking"} and 0 <= metrics["retrieval"]["aligned"]["recall@10"] <= 1
    report = (folder.path / "report.md").read_text("utf-8")
    assert "from random weights" in report and "The nano model" not in report


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_ones_true_architecture_has_the_weights_that_were_published(path: Path, tmp_path: Path) -> None:
    settings = PretrainedSettings(name=flan(tmp_path, SIZES[size(path)]))
    assert meta_model(settings, []).parameters == WEIGHTS[size(path)]


@pytest.mark.slow
def test_the_true_flan_t5_base_at_random_weights_takes_two_steps(world: Path, tmp_path: Path) -> None:
    path = next(path for path in FILES if path.stem == "beauty-flan-t5-base")
    model = flan(tmp_path / "base", FLAN_T5_BASE)
    experiment, folder = (
        loaded(path, world, model, max_steps=2, gradient_accumulation=1),
        RunFolder(tmp_path / "run"),
    )
    for stage in (stages.prepare, stages.index, stages.write):
        stage(folder, experiment)
    record = stages.train(folder, experiment)
    assert record.facts["steps"] == 2 and record.facts["parameters"] == WEIGHTS["base"]
    assert record.facts["vocabulary"] >= len(symbols(Run(folder, experiment)))
