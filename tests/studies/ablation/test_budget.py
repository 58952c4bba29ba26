"""Every run reads the same number of tokens, whatever its mixture; all are evaluated on the same requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shelftalk.baselines.popularity import fit_popularity
from shelftalk.data.dataset import make_dataset
from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.errors import SettingsError
from shelftalk.experiment import load_experiment
from shelftalk.pipeline.fresh_backbone import new_backbone
from shelftalk.recommender import TaskName
from shelftalk.records import Request
from shelftalk.studies.ablation.grid import Variant
from shelftalk.studies.ablation.study import run_of
from shelftalk.studies.token_budget.evaluation import drawn_users, per_user_tables
from shelftalk.studies.token_budget.run import BudgetRun, prepare
from shelftalk.studies.token_budget.training import samples_for, trained_tasks
from shelftalk.tasks.mixture import epoch_samples
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import save_world, write_experiment

BUDGET = 12_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ablation")


@pytest.fixture(scope="module")
def run(folder: Path) -> BudgetRun:
    world = save_world(tiny_world(users=30, items=50), folder / "data")
    experiment = load_experiment(write_experiment(folder / "tiny.toml", world))
    run = run_of(Variant("all on", {}, experiment), 7, folder)
    prepare(run)
    return run


def mixture(run: BudgetRun, **weights: float) -> BudgetRun:
    """The same run with other weights."""
    tasks = {
        name: s.model_copy(update={"weight": weights.get(name, s.weight)})
        for name, s in run.experiment.tasks.items()
    }
    return replace(run, name="other", experiment=run.experiment.model_copy(update={"tasks": tasks}))


@pytest.fixture(scope="module")
def split(run: BudgetRun) -> Split:
    return run.open().split


def test_mixtures_get_the_same_tokens_up_to_one_sample(run: BudgetRun) -> None:
    lean = mixture(run, masked_items=0, masked_language=0, pairwise_preference=0, ranking=0)
    for each in (run, lean):
        backbone = new_backbone(each.open())
        taken = samples_for(each.open(), backbone, BUDGET)
        samples = [sample for epoch in taken.epochs for sample in epoch]
        assert taken.tokens == sum(map(len, samples)) == sum(taken.tokens_by_task.values())
        assert BUDGET <= taken.tokens < BUDGET + len(samples[-1])
        assert taken.targets == sum(int(sample.bears_loss.sum()) for sample in samples)
        assert taken.all == samples
    assert set(taken.tokens_by_task) == {"retrieval", "rating"}


def test_the_samples_are_the_mixtures_own_epochs_in_their_order_and_the_last_one_is_cut(
    run: BudgetRun,
) -> None:
    opened = run.open()
    backbone = new_backbone(opened)
    taken = samples_for(opened, backbone, BUDGET)
    trained = list(trained_tasks(opened).values())
    assert [task.name for task in trained] == [n for n, s in run.experiment.tasks.items() if s.weight > 0]
    whole = [
        backbone.encode_samples(epoch_samples(trained, number, run.seed))
        for number in range(len(taken.epochs))
    ]
    assert len(taken.epochs) > 1
    assert [len(epoch) for epoch in taken.epochs[:-1]] == [len(epoch) for epoch in whole[:-1]]
    assert taken.epochs_seen == pytest.approx(len(whole) - 1 + len(taken.epochs[-1]) / len(whole[-1]))
    for ours, theirs in zip(taken.epochs, whole, strict=True):
        assert all(np.array_equal(one.ids, other.ids) for one, other in zip(ours, theirs, strict=False))


def test_a_mixture_without_samples_is_refused_instead_of_sought_without_end(run: BudgetRun) -> None:
    nothing = mixture(run, **dict.fromkeys(run.experiment.tasks, 0))
    with pytest.raises(SettingsError, match="no samples"):
        samples_for(nothing.open(), new_backbone(run.open()), BUDGET)


def test_runs_share_the_split_whatever_their_seed_and_the_index_within_one(
    run: BudgetRun, folder: Path
) -> None:
    other = run_of(Variant("all on", {}, run.experiment), 8, folder)
    prepare(other)
    assert other.shared != run.shared
    assert other.open().split.fingerprint() == run.open().split.fingerprint()
    wider = run.experiment.model_copy(update={"nano": run.experiment.nano.model_copy(update={"width": 64})})
    assert run_of(Variant("wider", {}, wider), 7, folder).shared == run.shared


def test_the_users_are_drawn_once_for_all_tasks_and_ratings_among_theirs(split: Split) -> None:
    from shelftalk.baselines.bias import fit_global_mean

    ids = [split.dataset.user_ids[position] for position in drawn_users(split, "validation", 12, 3)]
    numbers: dict[str, int] = {}

    def on_requests(requests: Mapping[TaskName, Sequence[Request]]) -> None:
        numbers.update({task: len(of_task) for task, of_task in requests.items()})

    tables = per_user_tables(
        fit_popularity(split), split, "validation", users=12, seed=3, on_requests=on_requests
    )
    assert numbers == {"retrieval": 12, "ranking": 12}
    assert tables["retrieval"]["user"].to_list() == tables["ranking"]["user"].to_list() == ids
    rated = per_user_tables(fit_global_mean(split), split, "test", users=12, ratings=4, seed=3)["rating"]
    assert len(rated) == 4 and set(rated["user"]) <= set(ids)
    every = per_user_tables(fit_popularity(split), split, "test")
    assert every["retrieval"]["user"].to_list() == list(split.dataset.user_ids)


def test_users_who_cannot_be_evaluated_are_not_drawn() -> None:
    world = tiny_world(users=30, items=60)
    once = world.events.filter(pl.col("position") == 0).with_columns(user_id="once " + pl.col("user_id"))
    data = make_dataset(world.items, pl.concat([world.events, once]))
    split = split_leave_one_out(data, SplitSettings(ranking_negatives=20), seed=1)
    drawn = [data.user_ids[position] for position in drawn_users(split, "test", 12, 0)]
    assert len(set(drawn)) == 12 and not any(user.startswith("once") for user in drawn)
    assert len(drawn_users(split, "test", 0, 0)) == 60 == len(drawn_users(split, "test", 500, 0))
