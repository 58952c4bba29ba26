"""The report of a whole run: true to the files beside it, and complete."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest

from shelftalk import parts
from shelftalk.experiment import Experiment
from shelftalk.pipeline.run import Run
from shelftalk.report.content import CHANGE, ReportContent
from shelftalk.report.from_run import SUMMED_LOSS, content_of
from shelftalk.report.markdown import render_markdown
from shelftalk.report.render import render_html
from shelftalk.runtime.run_folder import RunFolder, read_signed, write_signed
from tests.end_to_end.tiny import sign_anew


@pytest.fixture(scope="module")
def content(finished: RunFolder, tiny: Experiment) -> ReportContent:
    return content_of(Run(finished, tiny))


def test_the_page_is_one_file_without_any_reference_to_the_outside(finished: RunFolder) -> None:
    page = (finished.path / "report.html").read_text()
    assert not re.search(r"<(script|link|iframe|img)\b|@import|url\((?!#)|src=", page)
    sections = (
        "results",
        "people",
        "slices",
        "templates",
        "search",
        "caveats",
        "certificate",
        "training",
        "samples",
        "data",
        "again",
    )
    assert [name for name in sections if f'id="{name}"' not in page] == []


def test_the_language_model_with_its_prior_is_held_against_counting_first(content: ReportContent) -> None:
    heads = [[(d.first, d.second) for d in task.differences[:3]] for task in content.tasks]
    shown = [("aligned+prior", "item_knn"), ("aligned", "item_knn"), ("aligned", "popularity")]
    assert heads == [
        shown,
        shown,
        [("aligned+prior", "bias"), ("aligned", "bias"), ("aligned", "global_mean")],
    ]
    assert [[row.baseline for row in task.rows] for task in content.tasks] == [[False, False, True, True]] * 3


def test_there_is_an_example_of_every_kind_of_sample_trained_on(
    content: ReportContent, tiny: Experiment
) -> None:
    assert [sample.task for sample in content.samples] == [
        name for name in parts.TASKS if tiny.tasks[name].weight
    ]
    assert all(any(segment.bears_loss for segment in sample.segments) for sample in content.samples)


def test_curves_do_not_mix_the_sum_over_tasks_with_the_mean_of_the_mixture(
    content: ReportContent, tiny: Experiment
) -> None:
    assert {point.part for point in content.curves if point.task == "all"} == {"training"}
    assert {point.task for point in content.curves if point.part == "validation"} == {
        *parts.SERVED,
        SUMMED_LOSS,
    }
    by_task = {
        point.task: point.loss
        for point in content.curves
        if point.step == content.best_step and point.part == "validation"
    }
    assert by_task[SUMMED_LOSS] == pytest.approx(sum(by_task[task] for task in tiny.training.judged_by))
    assert by_task[SUMMED_LOSS] == min(point.loss for point in content.curves if point.task == SUMMED_LOSS)


def test_seen_and_held_out_templates_are_evaluated_on_the_validation_part(content: ReportContent) -> None:
    expected = [
        (f"{task} (validation part)", templates)
        for task in parts.SERVED
        for templates in ("seen", "held out", CHANGE)
    ]
    assert [(row.task, row.templates) for row in content.held_out_templates] == expected
    assert {row.n for row in content.held_out_templates if not row.task.startswith("rating")} == {30}
    seen, held_out, change = (dict(row.metrics) for row in content.held_out_templates[-3:])
    assert change == pytest.approx({metric: held_out[metric] - seen[metric] for metric in seen})
    assert all(
        low <= row.metrics[metric] <= high
        for row in content.held_out_templates
        for metric, (low, high) in row.intervals.items()
    )
    assert (
        "after the retrieval prompt" in content.held_out_templates_note
        and "no held-out template" not in content.held_out_templates_note
    )


@pytest.mark.parametrize(
    ("left", "sentence"),
    [(2, "for rating: the templates of rating"), (0, "for retrieval and ranking and rating:")],
)
def test_tasks_without_a_held_out_template_are_named(
    finished: RunFolder, tiny: Experiment, tmp_path: Path, left: int, sentence: str
) -> None:
    copy = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "run")))
    path = copy.evaluation("held_out_templates")
    table = pl.read_parquet(path).filter(pl.col("task").is_in(list(parts.SERVED)[:left]))
    path.unlink()
    if left:
        table.write_parquet(path)
    sign_anew(copy, "recommend.aligned")
    content = content_of(Run(copy, tiny))
    assert (
        "There is no held-out template " + sentence in content.held_out_templates_note
        and len(content.held_out_templates) == 3 * left
    )
    assert content.held_out_templates_note in render_markdown(content) and 'id="templates"' in render_html(
        content
    )


def test_beams_are_held_against_the_true_top_of_the_same_users(
    finished: RunFolder, content: ReportContent
) -> None:
    table = pl.read_parquet(finished.evaluation("search_error"))
    ways = [(10, "replay"), (20, "replay"), (20, "retire")]
    assert [(row.beams, row.finish, row.n) for row in content.search_error] == [(*way, 30) for way in ways]
    assert table["user"].n_unique() == 30 and table["proven"].all()
    assert "30 users of the validation part" in content.search_error_note


def test_a_warning_of_the_index_is_the_first_thing_the_report_says(
    finished: RunFolder, tiny: Experiment, tmp_path: Path
) -> None:
    copy = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "run")))
    manifest = read_signed(copy.manifest("index"))
    manifest["facts"] |= {"leaks": True, "warning": "These item numbers tell what is held out."}
    write_signed(copy.manifest("index"), manifest)
    content = content_of(Run(copy, tiny))
    assert (
        content.warnings == ("These item numbers tell what is held out.",)
        and "index: warning" not in content.model
    )
    assert content_of(Run(finished, tiny)).warnings == ()


def test_published_numbers_are_not_shown_for_data_that_nobody_published(content: ReportContent) -> None:
    assert content.published == () and content.published_note.startswith("There are no published numbers")


def test_slices_have_intervals_in_their_main_metric(content: ReportContent) -> None:
    bounded = [row for row in content.slices if row.task == "rating"]
    assert bounded and all(
        row.intervals["rmse"][0] <= row.metrics["rmse"] <= row.intervals["rmse"][1]
        for row in bounded
        if row.n > 1
    )


def test_model_and_stages_are_described_from_the_manifests(
    content: ReportContent, finished: RunFolder
) -> None:
    train = finished.needed("train")
    assert (
        content.model["parameters"] == train.facts["parameters"]
        and content.model["tokens read"] == train.facts["tokens"]
    )
    expected = [f"recommend {name}" for name in parts.DEFAULT_MODELS]
    assert [stage.name for stage in content.stages] == [
        "prepare",
        "index",
        "write",
        "train",
        *expected,
        "evaluate",
    ]
    assert content.stages[3].seconds == train.seconds


def test_the_language_models_own_lists_are_shown(content: ReportContent) -> None:
    assert {user.model for user in content.users} == {"aligned"} and len(content.users) == 3


def test_the_report_as_data_is_the_report(finished: RunFolder) -> None:
    report = json.loads((finished.path / "report.json").read_text())
    assert report["title"] == "tiny" and report["seed"] == 3
    assert [task["task"] for task in report["tasks"]] == list(json.loads(finished.metrics.read_text()))


def test_the_settings_in_the_report_are_those_of_the_run(content: ReportContent, finished: RunFolder) -> None:
    assert content.settings == finished.experiment.read_text()


def test_nothing_but_the_run_folder_is_written(finished: RunFolder) -> None:
    assert [path.name for path in Path(finished.path.parent).iterdir()] == [finished.path.name]
