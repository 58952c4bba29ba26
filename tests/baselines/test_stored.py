"""Fitted baselines as files: the same answers to the last bit, and nothing of a damaged file is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from shelftalk.baselines.als import AlsSettings, fit_als
from shelftalk.baselines.bias import BiasSettings, fit_bias, fit_global_mean
from shelftalk.baselines.ease import EaseSettings, fit_ease
from shelftalk.baselines.fusion import FusionSettings
from shelftalk.baselines.item_knn import ItemKnnSettings, fit_item_knn
from shelftalk.baselines.matrix_factorisation import MatrixFactorisationSettings, fit_matrix_factorisation
from shelftalk.baselines.neural.sasrec import fit_sasrec
from shelftalk.baselines.neural.settings import SasRecSettings
from shelftalk.baselines.popularity import fit_popularity
from shelftalk.baselines.stored import can_be_stored, open_model, save_model
from shelftalk.baselines.svd_plus_plus import SvdPlusPlusSettings, fit_svd_plus_plus
from shelftalk.baselines.transition_graph import TransitionGraphSettings, fit_transition_graph
from shelftalk.errors import SettingsError
from shelftalk.experiment import load_experiment
from shelftalk.pipeline.fusion import fit_fusion
from shelftalk.recipes import recipe_file, recipe_names
from shelftalk.records import Request
from shelftalk.testing.exams import exam_split

EXPERIMENTS = sorted((Path(__file__).parents[2] / "experiments").glob("*.toml"))
SPLIT = exam_split()
ITEMS = SPLIT.dataset.items
ONE = {"text_weight": (0.3,), "decay": (0.7,), "max_history": (3,)}
FUSED = FusionSettings(
    models=("item_knn", "ease"),
    weights=((0.3, 0.7),),
    settings={"item_knn": ONE, "ease": {"l2": (10.0,), "history_decay": (0.8,)}},
)
FITS: dict[str, Any] = {
    "item_knn": lambda: fit_item_knn(SPLIT, ItemKnnSettings(**ONE), 0),
    "transition_graph": lambda: fit_transition_graph(SPLIT, TransitionGraphSettings(**ONE), 0),
    "popularity": lambda: fit_popularity(SPLIT),
    "ease": lambda: fit_ease(SPLIT, EaseSettings(l2=(10.0,), history_decay=(0.8,)), 0),
    "fusion": lambda: fit_fusion(SPLIT, FUSED, 0),
    "sasrec": lambda: fit_sasrec(SPLIT, SasRecSettings(width=(8,), epochs=2, patience=0), 0),
}
SMALL = {"factors": (3,), "l2": (2.0,), "bias_l2": (1.0,)}
RATERS: dict[str, Any] = {
    "bias": lambda: fit_bias(SPLIT, BiasSettings(item_damping=(2.0,), user_damping=(4.0,))),
    "global_mean": lambda: fit_global_mean(SPLIT),
    "matrix_factorisation": lambda: fit_matrix_factorisation(SPLIT, MatrixFactorisationSettings(**SMALL), 0),
    "svd_plus_plus": lambda: fit_svd_plus_plus(SPLIT, SvdPlusPlusSettings(**SMALL), 0),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for each model."""
    folder = tmp_path_factory.mktemp("stored")
    for name, fit in {**FITS, **RATERS}.items():
        save_model(fit(), folder / name)
    return folder


@pytest.mark.parametrize("name", FITS)
def test_a_stored_model_answers_to_the_bit_as_before(name: str, files: Path) -> None:
    before, after = FITS[name](), open_model(files / name, ITEMS)
    requests = [Request("", r.history) for r in SPLIT.retrieval_requests("test")[0][:40]] + [Request("", ())]
    assert after.name == before.name and after.recommend(requests, 20) == before.recommend(requests, 20)
    assert np.array_equal(after.scores(requests), before.scores(requests))
    ranked = [Request("", r.history, candidates=r.candidates) for r in SPLIT.ranking_requests("test")[0][:10]]
    assert after.rank(ranked) == before.rank(ranked)


@pytest.mark.parametrize("name", RATERS)
def test_a_stored_rater_answers_from_histories_as_before(name: str, files: Path) -> None:
    before, after = RATERS[name](), open_model(files / name, ITEMS)
    requests = [Request("", r.history, r.ratings, item=r.item) for r in SPLIT.rating_requests("test")[0][:40]]
    assert after.rate(requests) == before.rate(requests)


@pytest.mark.parametrize("name", [*FITS, *RATERS])
def test_no_file_holds_the_id_of_a_user(name: str, files: Path) -> None:
    """Beside numbers there is nothing in it but the header."""
    content = (files / name).read_bytes()
    header = content[8 : 8 + int.from_bytes(content[:8], "little")].decode()
    assert name in header and not [user for user in SPLIT.dataset.user_ids if f'"{user}' in header]


@pytest.mark.parametrize(
    "path", [*map(recipe_file, recipe_names()), *EXPERIMENTS], ids=lambda path: path.stem
)
def test_the_priors_of_every_experiment_that_comes_with_the_project_can_be_published(path: Path) -> None:
    experiment = load_experiment(path)
    combined = set(experiment.baselines["fusion"].models) if experiment.prior.model == "fusion" else set()
    linear = {"slist", "tale"}  # of the kind of ease
    assert {experiment.prior.model, *combined} <= {*FITS, *linear}
    assert experiment.prior.rating_model in RATERS


def test_a_model_of_another_kind_is_refused_and_the_remedy_works(tmp_path: Path) -> None:
    model = fit_als(SPLIT, AlsSettings(), 0)
    assert not can_be_stored(model)
    with pytest.raises(SettingsError, match="cannot be stored in a folder; choose one of item_knn"):
        save_model(model, tmp_path / "als")
    save_model(FITS["item_knn"](), tmp_path / "als")


def rewritten(path: Path, to: Path, header: Any = None, **arrays: Any) -> Path:
    """The file with some arrays replaced (None: left out) and facts of its header changed."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        facts = json.loads(file.metadata()["shelftalk"])
    kept = {**load_file(path), **arrays}
    kept = {name: array for name, array in kept.items() if array is not None}
    save_file(kept, to, metadata={"shelftalk": json.dumps({**facts, **(header or {})})})
    return to


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("item_knn", {"header": {"kind": "planted"}}),
        ("item_knn", {"header": {"more": 1}}),
        ("item_knn", {"header": {"decay": 2.0}}),
        ("item_knn", {"header": {"features": 2**30}}),
        ("item_knn", {"links.indices": lambda a: a + 10**6}),
        ("item_knn", {"links.indptr": lambda a: a[::-1].copy()}),
        ("item_knn", {"links.indptr": lambda a: a * 0 + 10**12}),
        ("item_knn", {"text.data": lambda a: a * np.float32("nan")}),
        ("item_knn", {"text.data": lambda a: a.astype(np.float64)}),
        ("item_knn", {"tie_order": lambda a: a * 0}),
        ("item_knn", {"tie_order": lambda a: a[:-1]}),
        ("item_knn", {"links.data": lambda a: None}),
        ("item_knn", {"planted": lambda a: np.zeros(3)}),
        ("popularity", {"counts": lambda a: -a - 1}),
        ("popularity", {"counts": lambda a: a[:5]}),
        ("ease", {"items": lambda a: a * 0}),
        ("ease", {"items": lambda a: a + 10**6}),
        ("ease", {"weights": lambda a: a[:3]}),
        ("sasrec", {"header": {"width": 2**15}}),
        ("sasrec", {"header": {"blocks": 200}}),
        ("sasrec", {"header": {"heads": 3}}),
        ("sasrec", {"norm.weight": lambda a: None}),
        ("sasrec", {"norm.weight": lambda a: a[:2]}),
        ("sasrec", {"items.weight": lambda a: a * np.float32("inf")}),
        ("fusion", {"header": {"weights": [0.5, 0.7]}}),
        ("fusion", {"header": {"weights": [0.5, 0.3, 0.2]}}),
        ("fusion", {"header": {"models": [{"kind": "fusion"}, {"kind": "counts"}]}}),
        ("fusion", {"0.links.indices": lambda a: a + 10**6}),
        ("fusion", {"1.weights": lambda a: a[:3]}),
        ("fusion", {"1.tie_order": lambda a: a * 0}),
        ("fusion", {"2.planted": lambda a: np.zeros(3)}),
        ("bias", {"item_bias": lambda a: a * np.nan}),
        ("bias", {"header": {"scale": [5.0, 1.0]}}),
        ("bias", {"header": {"damping": 0.0}}),
        ("global_mean", {"header": {"mean": "x"}}),
        ("svd_plus_plus", {"header": {"l2": 0.0}}),
        ("svd_plus_plus", {"header": {"bias_l2": -1.0}}),
        ("svd_plus_plus", {"header": {"scale": [5.0, 1.0]}}),
        ("svd_plus_plus", {"header": {"kind": "factors"}}),
        ("svd_plus_plus", {"taken": lambda a: None}),
        ("svd_plus_plus", {"taken": lambda a: a[:, :1].copy()}),
        ("svd_plus_plus", {"items": lambda a: a[:, :0].copy()}),
        ("svd_plus_plus", {"items": lambda a: a[:3]}),
        ("svd_plus_plus", {"items": lambda a: a * np.nan}),
        ("svd_plus_plus", {"item_bias": lambda a: a[:-1]}),
        ("matrix_factorisation", {"header": {"kind": "implicit_factors"}}),
        ("matrix_factorisation", {"items": lambda a: a.ravel()}),
        ("matrix_factorisation", {"planted": lambda a: np.zeros(3)}),
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_file_is_refused(name: str, change: dict[str, Any], files: Path, tmp_path: Path) -> None:
    arrays = load_file(files / name)
    header = change.get("header")
    changed = {key: make(arrays.get(key)) for key, make in change.items() if key != "header"}
    path = rewritten(files / name, tmp_path / "damaged", header, **changed)
    with pytest.raises((ValueError, RuntimeError)):
        open_model(path, ITEMS)
    open_model(rewritten(files / name, tmp_path / "whole"), ITEMS)


def test_a_cut_file_and_one_of_another_catalogue_are_refused(files: Path, tmp_path: Path) -> None:
    content = (files / "item_knn").read_bytes()
    for stop in (0, 5, 200, len(content) - 7):
        (tmp_path / "cut").write_bytes(content[:stop])
        with pytest.raises(Exception):  # noqa: B017 - of the library's own kind
            open_model(tmp_path / "cut", ITEMS)
    for name in (*FITS, "bias", "svd_plus_plus"):
        with pytest.raises(ValueError):
            open_model(files / name, ITEMS.head(20))
