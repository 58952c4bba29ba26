"""No experiment file leads to a leak: all that is held out is replaced, and index and training samples stay
the same to the byte."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from shelftalk.data.dataset import Dataset
from shelftalk.data.k_core import k_core
from shelftalk.data.splitting import (
    TRAIN,
    Split,
    SplitSettings,
    TrainingCore,
    split_dataset,
    split_leave_one_out,
)
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.pipeline.index_building import build_index
from shelftalk.pipeline.run import Run
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.studies.ablation.grid import load_grid
from shelftalk.tasks.mixture import write_epoch
from shelftalk.testing.worlds import replace_held_out, tiny_world

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path for path in (ROOT / "experiments").rglob("*.toml") if path.parent.name not in ("ablations", "tuning")
)


ITEM_TASKS = [name for name, settings in Experiment().tasks.items() if settings.weight == 0]
"""Those that are off by default: tasks about items."""
GRIDS = [
    (path.stem, variant)
    for path in sorted((ROOT / "experiments/ablations").glob("*.toml"))
    for variant in load_grid(path).variants
]


def index_and_samples(split: Split, experiment: Experiment, folder: Path) -> dict[str, bytes]:
    """What a run would write of the index and two epochs of samples, for the experiment's settings on this
    split."""
    run = RunFolder(folder)
    split.save(run.dataset)
    build_index(split, experiment.index, experiment.seed).save(run.item_index)
    finished = Run(run, experiment)
    trained = [task for name, task in finished.tasks.items() if experiment.tasks[name].weight > 0]
    for epoch in (0, 1):
        assert (
            sum(write_epoch(trained, epoch, experiment.seed, folder / f"epoch-{epoch}.parquet").values())
            >= 60
        )
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def differing(experiment: Experiment, folder: Path) -> set[str]:
    """The files that replacing what is held out changes."""
    split = split_dataset(tiny_world(), experiment.split, 0)
    one = index_and_samples(split, experiment, folder / "as it is")
    other = index_and_samples(replace_held_out(split, seed=1), experiment, folder / "replaced")
    assert one.keys() == other.keys() >= {"item_index.parquet", "epoch-0.parquet"}
    return {name for name in one if one[name] != other[name]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_replacing_all_that_is_held_out_changes_no_byte_of_index_and_samples(path, tmp_path):
    assert differing(load_experiment(path), tmp_path) == set()


@pytest.mark.parametrize("ties", ["published", "shuffled"])
@pytest.mark.parametrize("scheme", ["leave_one_out", "leave_last_n", "by_user", "global_time", "random"])
def test_nor_does_it_by_any_scheme_of_splitting(scheme, ties, tmp_path):
    if (scheme, ties) == ("random", "shuffled"):
        pytest.skip("refused: a random split has no ties")
    assert differing(load_experiment(None, {"split": {"scheme": scheme, "ties": ties}}), tmp_path) == set()


@pytest.mark.parametrize("scheme", ["leave_one_out", "leave_last_n", "by_user", "global_time", "random"])
def test_what_a_refit_learns_from_is_free_of_the_test_part(scheme, tmp_path):
    split = split_dataset(tiny_world(), SplitSettings(scheme=scheme), 0).refitted()
    one, other = (
        index_and_samples(given, load_experiment(None), tmp_path / str(number))
        for number, given in enumerate((split, replace_held_out(split, seed=1)))
    )
    assert one == other


@pytest.mark.parametrize(
    "variant", [variant for _, variant in GRIDS], ids=[f"{grid}-{variant.folder}" for grid, variant in GRIDS]
)
def test_nor_does_it_for_any_variant_of_a_grid(variant, tmp_path):
    assert differing(variant.experiment, tmp_path) == set()


def with_other_held_out_events() -> tuple[Dataset, Dataset]:
    """A world before any filter, and the same with another item and rating for whatever leave-one-out holds
    out."""
    split = split_leave_one_out(tiny_world(users=120, items=80), SplitSettings(ranking_negatives=9), seed=0)
    data, others = split.dataset, replace_held_out(split, seed=1).dataset.events
    held_out = pl.lit(pl.Series(split.event_part != TRAIN))
    changed = (
        pl.when(held_out).then(others[name]).otherwise(pl.col(name)).alias(name)
        for name in ("item_id", "rating")
    )
    return data, Dataset(data.items, data.events.with_columns(changed))


@pytest.mark.parametrize("whole_catalogue", [True, False])
def test_a_core_of_training_events_lets_nothing_held_out_decide_what_is_filtered(whole_catalogue, tmp_path):
    experiment, wanted = load_experiment(None), SplitSettings(ranking_negatives=9)
    pair = [
        split_dataset(data, wanted, 0, TrainingCore(6, whole_catalogue))
        for data in with_other_held_out_events()
    ]
    one, other = (
        index_and_samples(split, experiment, tmp_path / str(number)) for number, split in enumerate(pair)
    )
    assert one == other and 100 < len(pair[0].training_items) < 840  # of about 840
    assert pair[0].retrieval_requests("test") != pair[1].retrieval_requests("test")


def test_a_core_of_all_events_is_decided_by_held_out_ones_too():
    """As in the literature; the tests above begin after it."""
    wanted = SplitSettings(ranking_negatives=9)
    cores = [Dataset(data.items, k_core(data.events, 7)[0]) for data in with_other_held_out_events()]
    one, other = (split_leave_one_out(core, wanted, 0) for core in cores)
    assert one.training_items.tolist() != other.training_items.tolist()


def test_a_leak_would_be_detected(tmp_path):
    """The numbering of P5, which follows whole histories."""
    experiment = load_experiment(
        ROOT / "experiments/neighbours/p5-like.toml", {"index": {"scheme": "sequential"}}
    )
    assert "item_index.parquet" in differing(experiment, tmp_path)


def test_every_kind_of_negative_and_every_task_is_free_of_leaks(tmp_path):
    kinds = ["uniform", "popular", "category", "neighbour"]
    tasks = {name: {"weight": 1.0} for name in ITEM_TASKS}
    more = {
        "ranking": {"negatives": kinds},
        "pairwise_preference": {"negatives": kinds},
        "rating": {"show_ratings": False},
    }
    shown = {"user_ids": True, "fields": ["title", "brand", "categories", "price"]}
    assert differing(load_experiment(None, {"tasks": {**tasks, **more}, "text": shown}), tmp_path) == set()
