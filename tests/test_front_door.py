"""The front door: a user may rely on `shelftalk.__all__`, it loads nothing heavy, and a run is an object."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w

import shelftalk
from shelftalk.decoding.prior import Prior
from shelftalk.errors import AnotherExperiment, MissingFile, StageMissing, UnknownPart
from shelftalk.experiment import read_toml
from shelftalk.publishing.publish import publish
from shelftalk.runtime.file_hashes import sha256
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import SETTINGS, merged, save_world
from tests.verified import verified

PUBLIC = {
    "run",
    "open_run",
    "Run",
    "load",
    "ServedModel",
    "RankedItems",
    "Reasons",
    "Request",
    "Text",
    "Filter",
    "Ranking",
    "Recommender",
    "Ranker",
    "Rater",
    "Experiment",
    "load_experiment",
    "write_data",
    "ShelftalkError",
    "__version__",
}
"""A name that is added here is a promise; one that is removed breaks somebody's program."""
BASELINES = ["item_knn", "popularity", "bias"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tables of a tiny experiment with baselines only."""
    world = save_world(tiny_world(users=30, items=50), tmp_path_factory.mktemp("front") / "data")
    return merged(SETTINGS, {"data": {"folder": str(world)}, "models": BASELINES})


@pytest.fixture(scope="module")
def run(tables: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> shelftalk.Run:
    run = shelftalk.run(tables, out=tmp_path_factory.mktemp("front") / "run")
    verified(run.folder)
    return run


def test_the_public_names_are_these_and_each_says_what_it_is() -> None:
    assert set(shelftalk.__all__) == PUBLIC and len(shelftalk.__all__) == len(PUBLIC)
    assert set(dir(shelftalk)) >= PUBLIC
    for name in PUBLIC - {"__version__"}:
        assert getattr(shelftalk, name).__doc__, f"{name} has no docstring"


def test_a_name_that_is_not_public_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Backbone'"):
        shelftalk.Backbone  # noqa: B018


def test_importing_the_package_and_its_plain_names_loads_nothing_heavy() -> None:
    program = (
        "import sys, shelftalk\n"
        "print(sorted(name for name in sys.modules if name.startswith('shelftalk.')))\n"
        "shelftalk.Request, shelftalk.Filter, shelftalk.Run, shelftalk.open_run, shelftalk.run\n"
        "shelftalk.Experiment, shelftalk.load_experiment, shelftalk.load\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]


def test_a_run_from_python_holds_what_it_made(run: shelftalk.Run) -> None:
    assert run.split.dataset.item_ids and not (run.folder.path / "model").exists()
    model = run.model("item_knn")
    (ranking,) = model.recommend([shelftalk.Request("anyone", history=run.split.dataset.item_ids[:2])], k=5)
    assert isinstance(ranking, shelftalk.Ranking) and len(set(ranking.items)) == 5
    assert run.model("item_knn") is model and isinstance(model, Prior)
    assert set(run.metrics["retrieval"]) == {"item_knn", "item_knn.ci", "popularity", "popularity.ci"}
    assert run.metrics["retrieval"]["item_knn"]["recall@10"] > 0
    assert "<html" in run.report_path.read_text("utf-8")


def test_a_run_opened_again_gives_the_same(run: shelftalk.Run) -> None:
    again = shelftalk.open_run(str(run.folder.path))
    requests, _ = run.split.retrieval_requests("test")
    assert again.experiment == run.experiment and again.metrics == run.metrics
    assert again.split.fingerprint() == run.split.fingerprint() and again.report_path == run.report_path
    assert again.model("popularity").recommend(requests, 5) == run.model("popularity").recommend(requests, 5)


def test_a_run_prints_in_one_short_line(run: shelftalk.Run) -> None:
    assert repr(run) == f"Run({str(run.folder.path)!r}, models={BASELINES})"


def test_the_same_run_again_does_nothing(run: shelftalk.Run, tables: dict[str, Any]) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.folder.path.rglob("*") if path.is_file()}
    assert shelftalk.run(shelftalk.load_experiment(None, tables), out=run.folder.path).metrics == run.metrics
    after = {path: path.stat().st_mtime_ns for path in run.folder.path.rglob("*") if path.is_file()}
    assert {path for path in after if before.get(path) != after[path]} <= {
        run.folder.experiment,
        run.folder.signed_experiment,
    }


def test_what_a_run_lacks_is_one_sentence_with_the_remedy(run: shelftalk.Run) -> None:
    with pytest.raises(UnknownPart, match='did you mean "item_knn"'):
        run.model("item_kn")
    with pytest.raises(StageMissing, match="`shelftalk train` first") as lacking:
        shelftalk.open_run(run.folder.path).folder.needed("train")
    assert isinstance(lacking.value, shelftalk.ShelftalkError)


def test_a_model_of_your_own_with_other_parameters_is_refused_in_a_sentence(
    run: shelftalk.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_fits.py").write_text(
        "from shelftalk.baselines.popularity import fit_popularity\n"
        "def of_a_run(found):\n    return fit_popularity(found.split), []\n"
        "def of_a_split(split, settings, seed):\n    return fit_popularity(split)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = r"is called with \(split, settings, seed\), and its function takes other parameters"
    with pytest.raises(UnknownPart, match=words):
        run.model("own_fits:of_a_run")
    assert run.model("own_fits:of_a_split").name == "popularity"  # as the sentence says


def test_a_run_with_baselines_has_an_index_when_one_is_made(run: shelftalk.Run) -> None:
    from shelftalk.pipeline import stages

    stages.index(run.folder, run.experiment)
    assert list(run.index.item_ids) == run.split.dataset.item_ids


@pytest.mark.parametrize("name", ["", "not/there", "file.txt"])
def test_a_folder_that_is_no_run_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.txt").write_text("no folder")
    with pytest.raises(MissingFile) as refused:
        shelftalk.open_run(tmp_path / name)
    assert "is no run folder" in str(refused.value) and one_sentence(refused.value)


def test_a_run_folder_of_version_0_1_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """It had [item_knn] at the top, and evaluation.held_out_wordings."""
    old = {"item_knn": {"decay": [0.5]}, "evaluation": {"held_out_wordings": True}}
    for values in (old, {"item_knn": old["item_knn"]}, {"evaluation": old["evaluation"]}):
        (tmp_path / "experiment.toml").write_text(tomli_w.dumps(values))
        with pytest.raises(shelftalk.ShelftalkError, match="of an earlier version") as refused:
            shelftalk.open_run(tmp_path)
        assert one_sentence(refused.value)
    assert "held_out_templates" in str(refused.value)


def test_settings_of_baselines_are_named_where_version_0_1_had_them(tmp_path: Path) -> None:
    for name in ("item_knn", "bias"):
        with pytest.raises(shelftalk.ShelftalkError, match=f'did you mean "baselines.{name}"'):
            shelftalk.load_experiment(None, {name: {}})


def test_a_folder_published_by_version_0_1_opens_and_answers_alike(
    tables: dict[str, Any], tmp_path: Path
) -> None:
    """Its experiment.toml has settings that are elsewhere now; answers depend on none of them."""
    quick = {
        "models": ["aligned"],
        "training": {"max_steps": 3, "batch_tokens": 512},
        "evaluation": {"search_error_users": 0, "held_out_templates": False},
    }
    made = shelftalk.run(merged(tables, quick), out=tmp_path / "run")
    folder = publish(made.folder.path, tmp_path / "published")
    requests = [shelftalk.Request("anyone", history=made.split.dataset.item_ids[:3])]
    answers = shelftalk.load(folder).recommend(requests, 5)

    values = read_toml(folder / "experiment.toml", "experiment")
    values |= values.pop("baselines")
    values["evaluation"]["held_out_wordings"] = values["evaluation"].pop("held_out_templates")
    (folder / "experiment.toml").write_text(tomli_w.dumps(values))
    facts = json.loads((folder / "shelftalk.json").read_text())
    facts["shelftalk"] = "0.1.0"
    (folder / "shelftalk.json").write_text(json.dumps(facts))
    with pytest.raises(AnotherExperiment) as refused:  # its hash is another
        shelftalk.load(folder)
    assert one_sentence(refused.value)
    facts["files"]["experiment.toml"] = sha256(folder / "experiment.toml")
    (folder / "shelftalk.json").write_text(json.dumps(facts))
    assert shelftalk.load(folder).recommend(requests, 5) == answers


def one_sentence(error: Exception) -> bool:
    text = str(error)
    return "\n" not in text and text.endswith(".") and ". " not in text
