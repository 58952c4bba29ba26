"""All that a run chooses, it chooses on validation: another test part changes no choice.

Three runs of one experiment: as it is, with the test part replaced, with the validation part replaced. What a
run chooses or measures beside the test part is the same in the first two, to the digit, and differs in the
third.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from shelftalk.data.dataset import Dataset
from shelftalk.data.splitting import PART_NUMBER, Part, Split, split_dataset
from shelftalk.decoding.search_error import search_error
from shelftalk.experiment import load_experiment
from shelftalk.pipeline import stages
from shelftalk.pipeline.run import Run
from shelftalk.runtime.run_folder import RunFolder
from tests.end_to_end.tiny import call, write_experiment

OF_A_RATING = {"validation": PART_NUMBER["test"], "test": PART_NUMBER["validation"]}
"""The part whose ratings stay as they are, items included, when a part is replaced."""

PARTS: tuple[Part, ...] = ("validation", "test")
TASKS = ("retrieval", "ranking", "rating")


def with_another(split: Split, part: Part) -> Split:
    """The split with what `part` holds out replaced: other items, other ratings, other candidates.

    The few events that the part holds out for retrieval and the other part for ratings stay.
    """
    data, draw = split.dataset, np.random.default_rng(5)
    items, candidates = data.event_item.copy(), split.candidates[part].copy()
    for row, event in enumerate(split.held_out_events(part).tolist()):
        user = split.event_user[event]
        if split.rating_part[event] != OF_A_RATING[part]:
            untaken = np.setdiff1d(
                np.arange(len(data.items)), data.event_item[data.bounds[user] : data.bounds[user + 1]]
            )
            candidates[row] = draw.choice(untaken, candidates.shape[1], replace=False)
            items[event] = draw.choice(candidates[row])
    ratings, held_out = data.event_rating.copy(), split.rating_part == PART_NUMBER[part]
    ratings[held_out] = draw.permutation(data.rating_values)[
        np.arange(held_out.sum()) % len(data.rating_values)
    ]
    columns = [
        pl.Series("item_id", [data.item_ids[row] for row in items.tolist()], pl.String),
        pl.Series("rating", ratings, pl.Float64).fill_nan(None),
    ]
    dataset = Dataset(data.items, data.events.with_columns(columns))
    return replace(split, dataset=dataset, candidates={**split.candidates, part: candidates})


def chosen_and_measured(run: RunFolder) -> dict[str, Any]:
    """What a run chose and what it was chosen by, by name."""
    trained, weights = run.needed("train").facts, run.needed("recommend.aligned+prior").facts["weights"]
    templates = pl.read_parquet(run.evaluation("held_out_templates"))
    return {
        "losses": trained["curve"],
        "quality": trained["quality"],
        **{name: run.needed(f"recommend.{name}").facts["chosen"] for name in ("item_knn", "bias")},
        **{f"weight of {weight['task']}": weight for weight in weights},
        **{f"other templates of {task}": templates.filter(task=task).rows() for task in TASKS},
    }


@pytest.fixture(scope="module")
def runs(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """ "as it is", "test", "validation": the run whose part of that name was replaced."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("chosen")
    training = {"epochs": 2, "batch_tokens": 1024, "validations": 4, "validation_samples": 20}
    judged = {**training, "validation_users": 30, "best_by": "ndcg@10", "patience": 1, "precision": "fp32"}
    several = {"text_weight": [0.0, 0.3, 0.6], "decay": [0.5, 0.9], "max_history": [3, 20]}
    nano = {"width": 16, "layers": 1, "heads": 2, "vocabulary": 320}
    weights = {"weights": [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], "pool": 20}
    tables = {
        "training": judged,
        "baselines": {"item_knn": several},
        "nano": nano,
        "prior": weights,
        "index": {"scheme": "semantic"},
    }
    file = write_experiment(folder / "tiny.toml", world, **tables)

    def run(name: str, change: Callable[[Split], Split]) -> RunFolder:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stages, "split_dataset", lambda *given: change(split_dataset(*given)))
            called = call("run", file, "--out", folder / name, "--json")
        assert called.exit_code == 0, called.output
        return RunFolder(folder / name)

    changed = {part: run(part, partial(with_another, part=part)) for part in PARTS}
    return {"as it is": run("as it is", lambda split: split), **changed}


def test_what_the_test_part_holds_changes_no_choice_and_no_weight_of_the_model(
    runs: dict[str, RunFolder],
) -> None:
    one, other = runs["as it is"], runs["test"]
    assert Split.load(one.dataset).fingerprint() != Split.load(other.dataset).fingerprint()
    assert chosen_and_measured(one) == chosen_and_measured(other)
    for weights in one.model.glob("*.safetensors"):
        assert weights.read_bytes() == (other.model / weights.name).read_bytes()


def test_what_the_validation_part_holds_changes_all_that_is_chosen_by(runs: dict[str, RunFolder]) -> None:
    one, other = chosen_and_measured(runs["as it is"]), chosen_and_measured(runs["validation"])
    assert {name for name in one if one[name] == other[name]} == set()


def test_the_error_of_the_search_is_that_on_validation_prompts(runs: dict[str, RunFolder]) -> None:
    run = runs["as it is"]
    opened = Run(run, load_experiment(run.experiment))
    measured = pl.read_parquet(run.evaluation("search_error"))
    beams, tables = sorted(set(measured["beams"])), {}
    for part in PARTS:
        requests = {request.user: request for request in opened.split.retrieval_requests(part)[0]}
        drawn = [requests[user] for user in measured["user"].unique(maintain_order=True)]
        tables[part] = search_error(opened.language_model, drawn, beams, 10)
    columns = ("user", "beams", "finish", "missing", "tokens")
    assert measured.select(columns).equals(tables["validation"].select(columns))
    assert not measured.select(columns).equals(tables["test"].select(columns))
