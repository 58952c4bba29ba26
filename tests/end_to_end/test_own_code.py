"""Code of one's own is an input: what depends on a changed module is done again, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.tiny import call, done_again, write_experiment

MODEL = """
from dataclasses import replace
from shelftalk.baselines.popularity import fit_popularity
from own_helper import SIGN
def model(split, settings, seed):
    fitted = fit_popularity(split, settings, seed)
    return replace(fitted, counts=SIGN * fitted.counts, name="mine")
"""
INDEX = """
from shelftalk.indexing.numbers import build as numbers
def build(split, settings, seed):
    return numbers(split, settings, seed)
"""
TASK = """
from shelftalk.tasks.masked_items import MaskedItems
class Masked(MaskedItems):
    name = "masked_items"
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    files = {"own_model": MODEL, "own_helper": "SIGN = 1\n", "own_index": INDEX, "own_task": TASK}
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    forget()


def forget() -> None:
    """As in another process."""
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def test_a_changed_helper_of_an_own_model_has_that_model_answer_again_alone(
    world: Path, own: Path, tmp_path: Path
) -> None:
    experiment = write_experiment(
        tmp_path / "tiny.toml", world, models=["popularity", "item_knn", "own_model:model"]
    )
    run = ("run", experiment, "--out", tmp_path / "run", "--json")
    done_again(call(*run))
    forget()
    assert done_again(call(*run)) == set()
    (own / "own_helper.py").write_text("SIGN = -1\n")
    forget()
    assert done_again(call(*run)) == {"recommend.own_model:model", "evaluate", "report"}


def test_settings_of_one_baseline_ask_that_baseline_alone(world: Path, tmp_path: Path) -> None:
    models = ["popularity", "item_knn", "bias"]
    first = write_experiment(tmp_path / "tiny.toml", world, models=models)
    done_again(call("run", first, "--out", tmp_path / "run", "--json"))
    other = write_experiment(
        tmp_path / "tiny.toml", world, models=models, baselines={"bias": {"item_damping": [7.0]}}
    )
    assert done_again(call("run", other, "--out", tmp_path / "run", "--json")) == {
        "recommend.bias",
        "evaluate",
        "report",
    }


def test_an_own_index_and_an_own_task_are_inputs_of_their_stages(
    world: Path, own: Path, tmp_path: Path
) -> None:
    tables = {"index": {"scheme": "own_index:build"}, "tasks": {"own_task:Masked": {"weight": 1.0}}}
    experiment = write_experiment(tmp_path / "tiny.toml", world, models=["aligned"], **tables)
    order = ("prepare", "index", "write")

    def done() -> list[str]:
        forget()
        return [
            stage
            for stage in order
            if done_again(call(stage, experiment, "--out", tmp_path / "run", "--json"))
        ]

    assert done() == list(order)
    assert done() == []
    (own / "own_task.py").write_text(TASK + "\n# another\n")
    assert done() == ["write"]
    (own / "own_index.py").write_text(INDEX + "\n# another\n")
    assert done() == ["index", "write"]
