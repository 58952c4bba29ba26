"""What the benchmark of baselines claims of given figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import baselines
from benchmarks.baselines import CLAIMS, NAMES, REFERENCE, claims_of
from shelftalk import parts
from shelftalk.runtime.run_folder import RunFolder


def run(data: str, task: str, model: str, seconds: float = 100.0, **metrics: float) -> dict[str, Any]:
    return {
        "data": data,
        "ties": "published",
        "task": task,
        "model": model,
        "processor seconds": seconds,
        **metrics,
    }


RATINGS = [
    run("movielens-small", "rating", "bias", rmse=0.8750),
    run("movielens-small", "rating", "matrix_factorisation", rmse=0.8712),
]
BEAUTY = [
    run("beauty", "retrieval", "item_knn", **{"recall@10": 0.0937, "ndcg@10": 0.055}),
    run("beauty", "retrieval", "slist", 20.0, **{"recall@10": 0.0861, "ndcg@10": 0.0529}),
    run("beauty", "retrieval", "tale", 181.0, **{"recall@10": 0.0861, "ndcg@10": 0.0531}),
]


def test_every_baseline_of_the_menu_is_measured_and_those_held_against_stand_last_of_their_task():
    built_in = {name for name, model in parts.MODELS.items() if model.stands_on == "prepare"}
    assert built_in <= set(NAMES)
    of_task = {
        task: [name for name in NAMES if name in built_in and task in parts.MODELS[name].tasks]
        for task in REFERENCE
    }
    assert {task: names[-1] for task, names in of_task.items()} == REFERENCE


def test_a_claim_holds_only_where_one_model_reaches_both_figures_and_its_own_time_counts():
    held = {claim.claim: claim for claim in claims_of([*BEAUTY, *RATINGS])}
    assert held[CLAIMS[1]].holds and held[CLAIMS[1]].value == "tale: 0.0861, 0.0531"
    assert not held[CLAIMS[2]].holds and held[CLAIMS[2]].value == 181.0
    assert held[CLAIMS[3]].holds and held[CLAIMS[5]].holds
    assert not held[CLAIMS[4]].holds and held[CLAIMS[4]].value == 0.8712
    assert (held[CLAIMS[6]].value, held[CLAIMS[6]].holds) == (3, False)


def test_nothing_is_claimed_of_what_was_not_measured():
    claimed = {claim.claim for claim in claims_of(RATINGS)}
    assert claimed == {CLAIMS[4], CLAIMS[5], CLAIMS[7]}


def test_a_run_in_another_order_of_ties_counts_for_no_claim():
    shuffled = [{**one, "ties": "shuffled", "recall@10": 0.5, "ndcg@10": 0.5} for one in BEAUTY]
    assert claims_of([*BEAUTY, *RATINGS, *shuffled]) == claims_of([*BEAUTY, *RATINGS])


def test_answers_whose_cost_was_lost_are_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(baselines, "KEPT", tmp_path)
    folder = RunFolder(tmp_path / "run")
    manifest = folder.path / "stages" / "recommend.ease.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")

    def stage(name: str, file: Path, folder: RunFolder, models: list[str]) -> dict[str, Any]:
        skipped = manifest.exists()
        manifest.write_text("{}")
        return {"processor seconds": 1.0 if skipped else 50.0, "skipped": skipped}

    monkeypatch.setattr(baselines, "_stage", stage)
    for _ in range(2):  # the second time it is skipped, and the cost of the first is kept
        costs = baselines._answered("ease", tmp_path / "data.toml", folder)
        assert costs == {"processor seconds": 50.0}
