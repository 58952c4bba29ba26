"""What is computed again of a run with very many users, and what of it is found to be changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from shelftalk.certificate import file_checks, leak_check, recomputation
from shelftalk.certificate.verify import Verification, verify
from shelftalk.experiment import load_experiment
from shelftalk.pipeline import stages
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import save_world, sign_anew, write_experiment
from tests.verified import verified


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("many")
    data = save_world(tiny_world(users=400, items=60), folder / "data")
    models = ["popularity", "item_knn", "bias", "global_mean"]
    experiment = write_experiment(folder / "many.toml", data, models=models, evaluation={"resamples": 2000})
    stages.run_all(RunFolder(folder / "run"), load_experiment(experiment))
    return verified(RunFolder(folder / "run"))


@pytest.fixture
def many_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """This run counts as one of very many users."""
    monkeypatch.setattr(recomputation, "ENTRIES", 10)
    monkeypatch.setattr(recomputation, "DRAWS", 2_000_000)
    monkeypatch.setattr(file_checks, "RESPLIT_EVENTS", 10)
    monkeypatch.setattr(leak_check, "EVENTS", 10)


def test_a_large_run_passes_and_says_what_was_not_checked(run: RunFolder, many_users: None) -> None:
    result = verify(run)
    assert result.holds, result.problems
    text = " ".join(result.left_out)
    assert "splitting the data again" in text and "--complete draws all" in text and "p-values" in text
    whole = verify(run, complete=True)
    assert whole.holds and whole.left_out == []


def edited(run: RunFolder, path: Path, edit: Callable[[Path], None], folder: Path) -> Verification:
    copy = RunFolder(Path(shutil.copytree(run.path, folder / "copy")))
    edit(copy.path / path.relative_to(run.path))
    for stage in ("evaluate", "recommend.item_knn"):
        sign_anew(copy, stage)
    return verify(copy)


def cell(column: str, value: float) -> Callable[[Path], None]:
    """An edit of the first row's cell."""

    def edit(path: Path) -> None:
        frame = pl.read_parquet(path)
        frame.with_columns(pl.Series(column, [value, *frame[column][1:].to_list()])).write_parquet(path)

    return edit


def metric(value: Any) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        content = json.loads(path.read_text())
        value(content["retrieval"])
        path.write_text(json.dumps(content))

    return edit


def test_values_ends_of_metrics_and_rough_changes_of_other_ends_are_found_in_a_large_run_too(
    run: RunFolder, many_users: None, tmp_path: Path
) -> None:
    cases: dict[str, tuple[Path, Callable[[Path], None]]] = {
        "metric": (run.metrics, metric(lambda models: models["item_knn"].update({"mrr@20": 0.2}))),
        "interval": (run.metrics, metric(lambda models: models["item_knn.ci"]["mrr@20"].reverse())),
        "slice": (run.evaluation("slices"), cell("recall@5", 0.9)),
        "difference": (run.evaluation("differences"), cell("value", 0.9)),
        "rank": (run.evaluation("retrieval"), cell("rank", 1.5)),
    }
    for kind, (path, edit) in cases.items():
        result = edited(run, path, edit, tmp_path / kind)
        assert kind in {problem.kind for problem in result.problems}, (kind, result.problems)
    rough = edited(run, run.evaluation("differences"), cell("low", -0.9), tmp_path / "rough")
    assert "difference" in {problem.kind for problem in rough.problems}


def test_what_is_left_out_is_not_found_and_complete_finds_it(
    run: RunFolder, many_users: None, tmp_path: Path
) -> None:
    copy = RunFolder(Path(shutil.copytree(run.path, tmp_path / "copy")))
    cell("p", 0.0123)(copy.evaluation("differences"))
    sign_anew(copy, "evaluate")
    assert "difference" not in {problem.kind for problem in verify(copy).problems}
    assert "difference" in {problem.kind for problem in verify(copy, complete=True).problems}


def test_bootstrap_ends_lie_where_the_normal_approximation_has_them(run: RunFolder) -> None:
    """What `WITHIN` allows is several times what resampling deviates by."""
    table = pl.read_parquet(run.evaluation("differences")).filter(task="retrieval", metric="ndcg@10")
    frames = recomputation.by_model(pl.read_parquet(run.evaluation("retrieval")))
    for row in table.iter_rows(named=True):
        gaps = (frames[row["first"]]["ndcg@10"] - frames[row["second"]]["ndcg@10"]).to_numpy()
        margin = 1.96 * gaps.std() / np.sqrt(len(gaps))
        assert abs(row["low"] - (gaps.mean() - margin)) < 0.1 * margin
        assert abs(row["high"] - (gaps.mean() + margin)) < 0.1 * margin
