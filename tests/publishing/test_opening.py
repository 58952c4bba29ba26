"""A published folder answers as its run, by itself, and refuses what does not belong together."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shelftalk.errors import AnotherExperiment, MissingFile, SettingsError, UnknownItem, UnreadableFile
from shelftalk.experiment import load_experiment
from shelftalk.pipeline.run import Run
from shelftalk.publishing import open_recommender, with_prior
from shelftalk.records import Filter, Request
from shelftalk.runtime.run_folder import RunFolder

Copied = Callable[[], Path]


@pytest.fixture(scope="module")
def finished(run: RunFolder) -> Run:
    return Run(run, load_experiment(run.experiment))


def test_the_folder_answers_as_the_run(run: RunFolder, published: Path, finished: Run) -> None:
    away = run.dataset.rename(run.path / "hidden")  # nothing of the run is needed
    try:
        model = open_recommender(published)
    finally:
        away.rename(run.dataset)
    retrieval, ranking, rating = (
        getattr(finished.split, f"{task}_requests")("test")[0] for task in ("retrieval", "ranking", "rating")
    )
    theirs = finished.language_model
    assert model.recommend(retrieval, 10) == theirs.recommend(retrieval, 10)
    assert model.rank(ranking) == theirs.rank(ranking)
    assert model.rate(rating) == theirs.rate(rating)
    assert np.array_equal(model.ratings(rating).probabilities, theirs.ratings(rating).probabilities)
    kept = pl.read_parquet(run.ranking("retrieval", "aligned"))["items"].to_list()
    assert [list(ranking.items) for ranking in model.recommend(retrieval, len(kept[0]))] == kept


def test_an_unknown_user_a_filter_and_an_empty_history_are_answered(published: Path, finished: Run) -> None:
    model, some = open_recommender(published), finished.split.dataset.item_ids
    brand = next(brand for brand in finished.split.dataset.items["brand"] if brand)
    requests = [Request("nobody", ()), Request("nobody", tuple(some[:3]), filter=Filter(brands=(brand,)))]
    assert model.recommend(requests, 5) == finished.language_model.recommend(requests, 5)
    with pytest.raises(UnknownItem, match="catalogue"):
        model.recommend([Request("nobody", ("no such item",))], 5)


def test_the_templates_of_the_training_are_used_whatever_the_package_has(
    published: Path, finished: Run
) -> None:
    request = Request("nobody", tuple(finished.split.dataset.item_ids[:2]))
    prompt = open_recommender(published).prompt("retrieval", request)
    assert prompt == finished.language_model.prompt("retrieval", request)
    assert prompt[0].text.startswith("After these items:")


@pytest.mark.parametrize(
    "name",
    [
        "item_index.parquet",
        "item_trie/token.npy",
        "catalogue.parquet",
        "templates/rating.toml",
        "model.safetensors",
        "experiment.toml",
    ],
)
def test_a_file_of_another_training_is_refused_by_name(name: str, copied: Copied) -> None:
    folder = copied()
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(AnotherExperiment, match=f'"{name}" in .* is not the file'):
        open_recommender(folder)


def test_a_missing_file_and_a_folder_of_something_else_are_named(
    run: RunFolder, copied: Copied, tmp_path: Path
) -> None:
    folder = copied()
    (folder / "item_trie" / "leaf.npy").unlink()
    with pytest.raises(MissingFile, match=r'"item_trie/leaf.npy" is missing'):
        open_recommender(folder)
    for other in (run.model, tmp_path / "nothing"):
        with pytest.raises(MissingFile, match="shelftalk publish RUN"):
            open_recommender(other)
    (folder / "shelftalk.json").write_text("{")
    with pytest.raises(UnreadableFile, match="is damaged .Invalid JSON"):
        open_recommender(folder)


def test_a_tokenizer_that_reads_names_otherwise_is_refused(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shelftalk.models.text_encoder import TextEncoder

    ids = TextEncoder.symbol_ids.func
    monkeypatch.setattr(TextEncoder, "symbol_ids", property(lambda encoder: dict.fromkeys(ids(encoder), 1)))
    with pytest.raises(AnotherExperiment, match="other tokens here"):
        open_recommender(copied())


def test_the_card_may_be_edited_and_strange_files_may_lie_beside(copied: Copied) -> None:
    folder = copied()
    (folder / "README.md").write_text("mine")
    (folder / ".gitattributes").write_text("* text")
    assert open_recommender(folder).recommend([Request("nobody", ())], 3)


def test_a_prior_joins_by_the_weights_of_the_run_and_no_other_does(published: Path, finished: Run) -> None:
    combined = finished.model("aligned+prior")
    knn, bias = finished.model("item_knn"), finished.model("bias")
    ours = with_prior(published, open_recommender(published), knn, bias)
    requests, rated = (
        finished.split.retrieval_requests("test")[0][:5],
        finished.split.rating_requests("test")[0][:5],
    )
    assert ours.weights == combined.weights
    assert ours.recommend(requests, 5) == combined.recommend(requests, 5) and ours.rate(
        rated
    ) == combined.rate(rated)
    with pytest.raises(SettingsError, match='chosen for the prior "item_knn", not for "mine"'):
        with_prior(published, ours.model, replace(knn, name="mine"))


def test_without_weights_a_prior_is_refused(copied: Copied, finished: Run) -> None:
    folder = copied()
    facts = json.loads((folder / "shelftalk.json").read_text())
    (folder / "shelftalk.json").write_text(json.dumps({**facts, "weights": []}))
    with pytest.raises(SettingsError, match="no weight of a prior for retrieval"):
        with_prior(folder, open_recommender(folder), finished.model("item_knn"))
