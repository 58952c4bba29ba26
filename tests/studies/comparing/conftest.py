"""Small finished runs to compare: two data sets, several seeds, one changed setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelftalk.data.dataset import Dataset
from shelftalk.experiment import load_experiment
from shelftalk.pipeline import stages
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.worlds import tiny_world


def written(dataset: Dataset, folder: Path) -> Path:
    folder.mkdir()
    dataset.items.write_parquet(folder / "items.parquet")
    dataset.events.write_parquet(folder / "interactions.parquet")
    return folder


def made(out: Path, data: Path, seed: int, decay: float = 0.7, models: tuple[str, ...] = ()) -> Path:
    """A run of baselines. With positions no test item depends on the seed; candidates and ratings do."""
    experiment = load_experiment(
        None,
        {
            "name": f"shop-{decay}",
            "seed": seed,
            "models": models or ("popularity", "item_knn", "bias", "global_mean"),
            "data": {"folder": str(data), "k_core": 1},
            "split": {"ranking_negatives": 20},
            "baselines": {"item_knn": {"text_weight": [0.3], "decay": [decay], "max_history": [5]}},
            "evaluation": {"resamples": 200, "shown_users": 2},
        },
    )
    stages.run_all(RunFolder(out), experiment)
    return out


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """a0 to a2: one experiment, three seeds; b0: item_knn with another decay; c0: other data; copy: a0."""
    base = tmp_path_factory.mktemp("runs")
    data = written(tiny_world(users=40, items=60), base / "data")
    other = written(tiny_world(users=30, items=60), base / "other")
    runs = {f"a{seed}": made(base / f"a{seed}", data, seed) for seed in range(3)}
    runs["b0"] = made(base / "b0", data, 0, decay=0.1, models=("item_knn",))
    runs["c0"] = made(base / "c0", other, 0)
    moved = written(tiny_world(users=40, items=60), base / "moved")
    runs["copy"] = made(base / "copy", moved, 0)
    return runs
