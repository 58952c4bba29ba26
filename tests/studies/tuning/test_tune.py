"""`shelftalk tune` from the space to an experiment that runs: on validation alone, reproducible, resumed
where it was stopped."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from shelftalk.data.dataset import Dataset
from shelftalk.data.splitting import TEST, VALIDATION, Split
from shelftalk.errors import AnotherExperiment, SettingsError
from shelftalk.experiment import load_experiment
from shelftalk.pipeline import stages
from shelftalk.runtime.progress import OnProgress, silent
from shelftalk.studies.token_budget.progress import STAGE_UNITS, UNITS
from shelftalk.studies.tuning.search import search
from shelftalk.studies.tuning.space import Space, load_space
from shelftalk.studies.tuning.study import claim, tune
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import call, save_world, sealed_test_part, write_experiment

SPACE = """
[tuning]
trials = 5
random_trials = 3
tokens = 3000
users = 15
unpruned_trials = 1
finalists = 1
seeds = [1, 2]

[space]
training.learning_rate = { low = 1e-4, high = 1e-1, log = true }
tasks.masked_items.weight = { low = 0.0, high = 1.0, step = 0.5 }
nano.heads = { choices = [2, 1] }
"""


class PowerCut(Exception):
    """What stops a search of these tests."""


def space_file(folder: Path, world: Path, text: str = SPACE) -> Path:
    write_experiment(folder / "tiny.toml", world)
    (folder / "space.toml").write_text(text)
    return folder / "space.toml"


def space_of(folder: Path, trials: int | None = None) -> Space:
    return load_space(folder / "tiny.toml", folder / "space.toml", trials)


def result(out: Path) -> dict[str, Any]:
    return json.loads((out / "tune.json").read_text())


def only_searched(
    file: Path, out: Path, progress: OnProgress = silent, trials: int | None = None
) -> list[dict[str, Any]]:
    """The trials of a search without its finals, and without their time."""
    space = space_of(file.parent, trials)
    claim(space, out)
    return [without_time(asdict(trial)) for trial in search(space, out, progress, lambda line: None)]


def without_time(trial: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in trial.items() if name != "seconds"}


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on the clock or the machine."""
    trials = [without_time(trial) for trial in record["trials"]]
    return {
        "trials": trials,
        **{name: record[name] for name in ("finalists", "chosen", "settings", "sentences")},
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_world(tiny_world(users=30, items=50), tmp_path_factory.mktemp("world") / "data")


@pytest.fixture(scope="module")
def study(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search, in which any use of the test part is an error; never to be changed."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("study")
    space_file(folder, world)
    with sealed_test_part():
        called = call("tune", folder / "tiny.toml", folder / "space.toml", "--out", folder / "out", "--json")
    assert called.exit_code == 0, called.output
    assert comparable(json.loads(called.stdout)) == comparable(result(folder / "out"))
    return folder


@pytest.fixture
def copy_of(study: Path, tmp_path: Path) -> Path:
    shutil.copytree(study, tmp_path / "copy")
    return tmp_path / "copy"


def test_every_trial_has_values_of_the_space_and_says_how_it_ended(study: Path) -> None:
    record = result(study / "out")
    assert [trial["number"] for trial in record["trials"]] == [1, 2, 3, 4, 5]
    for trial in record["trials"]:
        assert 1e-4 <= trial["values"]["training.learning_rate"] <= 1e-1
        assert trial["values"]["tasks.masked_items.weight"] in (0.0, 0.5, 1.0) and trial["values"][
            "nano.heads"
        ] in (1, 2)
        assert (trial["state"] == "finished") == (trial["value"] is not None) == (not trial["reason"])
        assert trial["losses"] and trial["seconds"] > 0
    assert "pruned" in {trial["state"] for trial in record["trials"]}


def test_a_pruned_trial_was_worse_than_the_median_of_the_finished_ones(study: Path) -> None:
    trials = result(study / "out")["trials"]
    for position, trial in enumerate(trials):
        finished = [other["losses"] for other in trials[:position] if other["state"] == "finished"]
        for number in range(len(trial["losses"]) if finished else 0):
            others = [losses[number] for losses in finished if number < len(losses)]
            worse = bool(others) and min(trial["losses"][: number + 1]) > np.median(others)
            assert worse == (trial["state"] == "pruned" and number == len(trial["losses"]) - 1)


def test_the_choice_is_by_the_mean_over_the_seeds_of_the_finals(study: Path) -> None:
    record = result(study / "out")
    as_it_is, trial = sorted(record["finalists"], key=lambda finalist: finalist["searched"] is not None)
    assert as_it_is["name"] == "as it is" and as_it_is["searched"] is None
    assert trial["searched"] == max(one["value"] for one in record["trials"] if one["value"] is not None)
    for finalist in (as_it_is, trial):
        tables = [
            study / "out/finals" / f"{finalist['name'].replace(' ', '-')}.seed-{seed}/evaluation"
            for seed in (1, 2)
        ]
        values = [pl.read_parquet(folder / "retrieval.parquet")["ndcg@10"].mean() for folder in tables]
        assert finalist["per_seed"] == pytest.approx(values) and finalist["mean"] == pytest.approx(
            sum(values) / 2
        )
        assert [len(list(folder.glob("*.parquet"))) for folder in tables] == [1, 1], (
            "only the task of the metric is evaluated"
        )
    assert record["chosen"] == max(record["finalists"], key=lambda finalist: finalist["mean"])["name"]


def test_the_best_experiment_is_the_winner_and_complete(study: Path) -> None:
    record = result(study / "out")
    best = load_experiment(study / "out/best.toml")
    chosen = {setting["name"]: setting["chosen"] for setting in record["settings"]}
    assert best.name == "tiny-tuned"
    assert (best.training.learning_rate, best.nano.heads) == (
        chosen["training.learning_rate"],
        chosen["nano.heads"],
    )
    base = load_experiment(study / "tiny.toml")
    assert (
        best.model_copy(
            update={"name": "tiny", "training": base.training, "nano": base.nano, "tasks": base.tasks}
        )
        == base
    )
    prepared = call("prepare", study / "out/best.toml", "--out", study.parent / "prepared", "--json")
    assert prepared.exit_code == 0, prepared.output


def with_other_test_items(split: Split) -> Split:
    """The same split, but the users' test items are ones that they never took."""
    data, candidates = split.dataset, split.candidates["test"].copy()
    items = data.event_item.copy()
    for user, row in enumerate(np.flatnonzero(split.event_part == TEST)):
        if split.rating_part[row] == VALIDATION:  # a rating that validation evaluates
            continue
        taken = data.event_item[data.bounds[user] : data.bounds[user + 1]]
        other = np.setdiff1d(
            np.arange(len(data.items), dtype=np.int32), np.concatenate([taken, candidates[user]])
        )[0]
        candidates[user][candidates[user] == items[row]] = other
        items[row] = other
    events = data.events.with_columns(
        item_id=pl.Series([data.item_ids[row] for row in items.tolist()], dtype=pl.String)
    )
    return replace(
        split, dataset=Dataset(data.items, events), candidates={**split.candidates, "test": candidates}
    )


def test_the_test_part_is_never_used_and_what_it_holds_changes_nothing(
    study: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not list((study / "out").rglob("test_evaluations.jsonl"))
    divide = stages.split_dataset
    monkeypatch.setattr(stages, "split_dataset", lambda *given: with_other_test_items(divide(*given)))
    record = only_searched(space_file(tmp_path, world), tmp_path / "out", trials=2)
    assert record == comparable(result(study / "out"))["trials"][:2]
    (kept,) = (Split.load(path) for path in (tmp_path / "out/shared").glob("*/dataset"))
    assert kept.retrieval_requests("test")[1] != kept.retrieval_requests("validation")[1]
    assert kept.fingerprint() != Split.load(next((study / "out/shared").glob("*/dataset"))).fingerprint()


def test_the_page_draws_every_trial_and_says_what_to_believe(study: Path) -> None:
    page, text = ((study / "out" / f"tune.{kind}").read_text() for kind in ("html", "md"))
    assert page.count("<svg") == 1 + 3
    assert all(drawing.count("trial 3: ") >= 1 for drawing in page.split("<svg")[1:])
    for part in (page, text):
        assert "curse" in part and "test part" in part and "over the seeds" in part
    assert "| training.learning\\_rate" in text or "| training.learning_rate" in text


def test_the_same_command_does_nothing_twice_and_more_trials_go_on(study: Path, copy_of: Path) -> None:
    done: list[str] = []
    tune(space_of(copy_of), copy_of / "out", lambda stage, *_: done.append(stage))
    assert (
        "trials" in done
        and "train" not in done
        and comparable(result(copy_of / "out")) == comparable(result(study / "out"))
    )
    record = only_searched(copy_of / "space.toml", copy_of / "out", trials=6)
    assert record[:5] == comparable(result(study / "out"))["trials"] and len(record) == 6


def stopping(trials: int, at_stage: str) -> OnProgress:
    """Progress that cuts the power in a stage of the trial after so many."""

    def progress(stage: str, number: int, total: int, text: str) -> None:
        if (
            stage == "trials"
            and number // UNITS == trials
            and f": {at_stage} " in text
            and number % UNITS > STAGE_UNITS[at_stage][0]
        ):
            raise PowerCut

    return progress


def test_a_search_killed_in_a_trial_runs_it_again_and_ends_as_an_uninterrupted_one(
    study: Path, world: Path, tmp_path: Path
) -> None:
    file = space_file(tmp_path, world)
    for before in (0, 2):
        with pytest.raises(PowerCut):
            only_searched(file, tmp_path / "out", stopping(before, "train"))
    assert only_searched(file, tmp_path / "out") == comparable(result(study / "out"))["trials"]


def test_trials_of_another_search_are_never_mixed(study: Path, copy_of: Path, tmp_path: Path) -> None:
    (copy_of / "space.toml").write_text(SPACE.replace("3000", "5000"))
    with pytest.raises(AnotherExperiment, match="whose tuning was another"):
        tune(space_of(copy_of), copy_of / "out")
    (copy_of / "space.toml").write_text(SPACE.replace("high = 1e-1", "high = 1e-2"))
    with pytest.raises(AnotherExperiment, match="whose space was another"):
        tune(space_of(copy_of), copy_of / "out")
    with pytest.raises(AnotherExperiment, match="not a search"):
        tune(space_of(study), copy_of)


def test_what_fails_is_a_result_and_only_failures_are_an_error(world: Path, tmp_path: Path) -> None:
    space_file(
        tmp_path,
        world,
        "[tuning]\ntrials = 2\ntokens = 2000\n[space]\ntraining.learning_rate = { choices = [1e30, 1e35] }\n",
    )
    with pytest.raises(SettingsError, match="none of 2 trials succeeded; .*learning_rate"):
        tune(space_of(tmp_path), tmp_path / "out")
