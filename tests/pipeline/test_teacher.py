"""The teacher: fitted without the users that it teaches, blind to what is held out, heard by the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from shelftalk.baselines.item_knn import ItemKnnSettings, fit_item_knn
from shelftalk.data.dataset import Dataset
from shelftalk.data.splitting import TRAIN, Split, SplitSettings, split_leave_one_out
from shelftalk.errors import SettingsError, UnknownPart
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.pipeline import stages
from shelftalk.pipeline.run import open_run
from shelftalk.pipeline.teacher import (
    TEACHER_FILE,
    columns_of,
    fold_of_users,
    read_teacher,
    teacher_table,
    write_teacher,
)
from shelftalk.records import Request
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.worlds import replace_held_out, tiny_world
from tests.end_to_end.tiny import save_world, write_experiment

KNN = {"text_weight": [0.3], "decay": [0.7], "max_history": [5]}
TEACHER = {"model": "item_knn", "folds": 3, "items": 7}
USER = 4


def experiment(**teacher: Any) -> Experiment:
    given = {"seed": 1, "baselines": {"item_knn": KNN}, "teacher": TEACHER | teacher}
    return load_experiment(None, given)


def columns(split: Split, **teacher: Any) -> dict[str, np.ndarray]:
    return columns_of(teacher_table(split, experiment(**teacher), lambda fold: None))


@pytest.fixture(scope="module")
def split() -> Split:
    return split_leave_one_out(tiny_world(), SplitSettings(ranking_negatives=10), seed=1)


@pytest.fixture(scope="module")
def asked(split: Split) -> dict[str, np.ndarray]:
    return columns(split)


def test_there_is_a_row_for_every_training_event(split: Split, asked: dict[str, np.ndarray]) -> None:
    assert asked["user"].tolist() == split.training_users.tolist()
    assert asked["item"].tolist() == split.training_items.tolist()


def test_the_rows_are_the_best_items_of_a_model_of_the_other_folds(
    split: Split, asked: dict[str, np.ndarray]
) -> None:
    fold = fold_of_users(split, 3, 1)
    settings = ItemKnnSettings(text_weight=(0.3,), decay=(0.7,), max_history=(5,))
    model = fit_item_knn(split.of_users(fold != fold[USER]), settings, 1)
    first, last = split.training_bounds[USER].tolist()
    history = [split.dataset.item_ids[row] for row in split.dataset.event_item[first : last - 1].tolist()]
    best = model.recommend([Request("", tuple(history))], 7)[0]
    row = np.flatnonzero(asked["user"] == USER)[-1]
    theirs = {split.dataset.item_ids[item] for item in asked["items"][row].tolist()}
    assert asked["scores"][row].tolist() == pytest.approx(list(best.scores))
    assert len(theirs & set(best.items)) >= 6  # equal scores at the end of the list may be others


def test_a_first_item_is_not_foretold_and_no_history_is_repeated(asked: dict[str, np.ndarray]) -> None:
    firsts = np.searchsorted(asked["user"], np.unique(asked["user"]))
    assert not asked["scores"][firsts].any()
    for row, (items, scores) in enumerate(zip(asked["items"], asked["scores"], strict=True)):
        start = int(np.searchsorted(asked["user"], asked["user"][row]))
        assert not set(items[scores > 0].tolist()) & set(asked["item"][start:row].tolist())


def test_what_is_foretold_to_a_user_does_not_depend_on_what_users_of_his_fold_take_later(
    split: Split, asked: dict[str, np.ndarray]
) -> None:
    fold = fold_of_users(split, 3, 1)
    last = int(split.training_bounds[USER, 1])
    item = split.dataset.event_item.copy()
    taken = set(item[split.dataset.bounds[USER] : split.dataset.bounds[USER + 1]].tolist())
    item[last - 1] = next(row for row in range(len(split.dataset.items)) if row not in taken)
    ids = [split.dataset.item_ids[row] for row in item.tolist()]
    events = split.dataset.events.with_columns(item_id=pl.Series(ids))
    changed = columns(replace(split, dataset=Dataset(split.dataset.items, events)))
    taught = fold[asked["user"]] == fold[USER]
    assert np.array_equal(asked["scores"][taught], changed["scores"][taught])
    assert not np.array_equal(asked["scores"][~taught], changed["scores"][~taught])


def test_what_is_held_out_changes_nothing(split: Split, asked: dict[str, np.ndarray]) -> None:
    other = columns(replace_held_out(split, seed=5))
    assert all(np.array_equal(asked[name], other[name]) for name in asked)


def test_the_file_is_read_as_it_was_written(split: Split, tmp_path: Path) -> None:
    table = teacher_table(split, experiment(), lambda fold: None)
    write_teacher(table, tmp_path / TEACHER_FILE)
    read, made = read_teacher(tmp_path / TEACHER_FILE), columns_of(table)
    kinds = {"user": np.int64, "item": np.int64, "items": np.int32, "scores": np.float32}
    assert {name: values.dtype for name, values in read.items()} == kinds
    assert all(np.array_equal(read[name], made[name]) for name in made)


def test_the_split_of_some_users_holds_them_alone(split: Split) -> None:
    kept = np.arange(len(split.dataset.user_ids)) % 2 == 0
    half = split.of_users(kept)
    users = zip(split.dataset.user_ids, kept.tolist(), strict=True)
    assert list(half.dataset.user_ids) == [user for user, stays in users if stays]
    assert half.dataset.item_ids == split.dataset.item_ids
    wanted = (split.event_part == TRAIN) & kept[split.event_user]
    assert half.training_items.tolist() == split.dataset.event_item[wanted].tolist()
    for part in ("validation", "test"):
        theirs = {r.user: (r, t) for r, t in zip(*split.ranking_requests(part), strict=True)}
        ours = list(zip(*half.ranking_requests(part), strict=True))
        assert [theirs[request.user] for request, _ in ours] == ours


def test_a_model_that_scores_no_items_is_no_teacher() -> None:
    with pytest.raises(UnknownPart, match='teacher.model names "bias"'):
        experiment(model="bias")


@pytest.mark.parametrize("index", ["atomic", "semantic", "titles"])
def test_a_run_with_a_teacher_trains_on_what_it_expects(tmp_path: Path, index: str) -> None:
    data = save_world(tiny_world(), tmp_path / "data")
    losses: dict[str, list[float]] = {}
    for name, teacher in (("with", TEACHER), ("without", {})):
        path = write_experiment(
            tmp_path / f"{name}.toml", data, models=["aligned"], teacher=teacher, index={"scheme": index}
        )
        folder, settings = RunFolder(tmp_path / name), load_experiment(path)
        stages.claim(folder, settings)
        for stage in (stages.prepare, stages.index, stages.write, stages.train):
            stage(folder, settings)
        assert (folder.samples / TEACHER_FILE).exists() == (name == "with")
        record = folder.record("train")
        assert record is not None
        losses[name] = [row["loss"] for row in record.facts["curve"] if row["part"] == "training"]
        assert open_run(folder.path).backbone.parameters
    assert losses["with"] != losses["without"]


def own_teacher(split: Split, settings: Any, seed: int) -> object:
    """A model that cannot be fitted again without choosing."""
    return object()


def test_an_own_model_that_cannot_be_fitted_again_is_refused_with_what_it_lacks(split: Split) -> None:
    with pytest.raises(SettingsError, match="chosen_settings"):
        columns(split, model=f"{__name__}:own_teacher")
