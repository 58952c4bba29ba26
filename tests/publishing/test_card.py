"""The model card: valid front matter, the figures of the run with their intervals, an example that runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from shelftalk.evaluation.metrics import metric_names
from shelftalk.experiment import load_experiment
from shelftalk.pipeline.run import Run
from shelftalk.publishing.card import MOVIELENS, _front_matter, model_card
from shelftalk.report.content import ReportContent
from shelftalk.report.from_run import content_of
from shelftalk.report.numbers import figure
from shelftalk.runtime.run_folder import RunFolder


@pytest.fixture(scope="module")
def content(run: RunFolder) -> ReportContent:
    return content_of(Run(run, load_experiment(run.experiment)))


def test_the_front_matter_holds_the_models_own_figures(run: RunFolder, published: Path) -> None:
    data = ModelCard.load(published / "README.md").data
    assert data.library_name == "transformers" and "recommendation" in data.tags
    assert data.get("license") is None and data.get("base_model") is None and data.model_name == "tiny"
    metrics = json.loads(run.metrics.read_text())
    results = {(result.task_type, result.metric_type): result for result in data.eval_results}
    shown = {
        (task, metric): metrics[task]["aligned"][metric]
        for task in metrics
        for metric in metric_names(task)
        if metric != "ndcg@1"
    }
    assert {key: result.metric_value for key, result in results.items()} == pytest.approx(shown, abs=1e-6)
    for (task, metric), result in results.items():
        low, high = metrics[task]["aligned.ci"][metric]
        assert result.metric_name.endswith(f"95 % interval [{figure(low)}, {figure(high)}]")
        assert result.dataset_name == "shop-data"


def test_the_card_has_data_protocol_limits_and_versions(published: Path) -> None:
    card = (published / "README.md").read_text("utf-8")
    headings = [
        "Use",
        "Results",
        "Limits",
        "Data",
        "The model",
        "What is in this folder",
        "Licence",
        "Versions",
    ]
    assert re.findall(r"^## (.*)", card, re.MULTILINE) == headings
    for sentence in (
        "Each user's last interaction is the test",
        "Leave-one-out lets a model learn",
        "SHA-256 of items.parquet",
        "transformers |",
    ):
        assert sentence in card
    assert MOVIELENS not in card


def test_the_example_of_the_card_runs(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.search(r"```python\n(.*?)```", (published / "README.md").read_text("utf-8"), re.DOTALL)
    assert example is not None
    monkeypatch.chdir(published.parent)
    held: dict[str, object] = {}
    exec(example[1].replace("model.recommend", "answers = model.recommend"), held)
    assert len(held["answers"].items) == 10  # type: ignore[index]


def test_the_card_says_whose_figures_the_folder_has_before_any_of_them(published: Path) -> None:
    card = (published / "README.md").read_text("utf-8")
    assert card.index('This folder answers as "aligned"') < card.index("Recall@10 .")


def test_the_example_of_a_repository_fetches_it(content: ReportContent) -> None:
    card = model_card(content, load_experiment(None), ["a", "b"], "folder", "owner/model")
    assert "shelftalk.load('owner/model')" in card and MOVIELENS in card


def test_foreign_texts_and_warnings_cannot_break_the_card(content: ReportContent, tmp_path: Path) -> None:
    evil = "--- \n---\nlicense: mit\n| <script> `x`"
    changed = replace(
        content, title=evil, warnings=("the index leaks",), data={**content.data, "source": evil}
    )
    (tmp_path / "README.md").write_text(
        model_card(changed, load_experiment(None), ["it's\n```"], "folder"), "utf-8"
    )
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.get("license") is None and card.data.library_name == "transformers"
    assert "**Warning:** the index leaks" in card.text and "<script>" not in card.text


def test_a_folder_of_this_machine_is_not_named_as_the_backbone(
    content: ReportContent, tmp_path: Path
) -> None:
    name = str(tmp_path / "smol")
    experiment = load_experiment(None, {"pretrained": {"name": name}})
    card = model_card(
        replace(content, model={**content.model, "backbone": f"{name}, revision main"}),
        experiment,
        ["a"],
        "folder",
    )
    assert str(tmp_path) not in card and "smol, revision main" in card


def test_figures_of_an_unusual_protocol_name_it_in_the_model_index(content: ReportContent) -> None:
    experiment = load_experiment()
    named = replace(content, split_name="leave-one-out split with shuffled ties")
    assert "split: test\n" in _front_matter(content, experiment)
    assert "split: test of a leave-one-out split with shuffled ties\n" in _front_matter(named, experiment)
