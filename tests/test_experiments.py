"""The experiment files say what they claim: neighbours stand one switch away, and the same in file and
grid."""

from pathlib import Path

import pytest

from shelftalk.experiment import load_experiment
from shelftalk.studies.ablation.grid import load_grid

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
NEIGHBOURS = sorted((EXPERIMENTS / "neighbours").glob("*.toml"))


@pytest.mark.parametrize("path", NEIGHBOURS, ids=lambda path: path.stem)
def test_a_neighbour_is_the_same_in_its_file_and_in_the_grid(path):
    variants = {
        variant.name: variant.experiment
        for variant in load_grid(EXPERIMENTS / "ablations/neighbours.toml").variants
    }
    assert variants[path.stem].model_copy(update={"name": path.stem}) == load_experiment(path)


@pytest.mark.parametrize("path", NEIGHBOURS, ids=lambda path: path.stem)
def test_no_neighbour_has_an_auxiliary_task_or_a_leaking_index(path):
    experiment = load_experiment(path)
    auxiliary = (
        "masked_items",
        "masked_language",
        "pairwise_preference",
        "name_to_text",
        "text_to_name",
        "alike_item",
        "next_items",
        "co_occurring_items",
        "similar_items",
    )
    assert not any(experiment.tasks[name].weight for name in auxiliary)
    assert experiment.index.scheme != "sequential"


@pytest.mark.parametrize(
    "path", sorted((EXPERIMENTS / "ablations").glob("*.toml")), ids=lambda path: path.stem
)
def test_every_grid_loads_with_all_its_variants(path):
    grid = load_grid(path)
    assert grid.baseline.name in {variant.name for variant in grid.variants} and grid.variants
