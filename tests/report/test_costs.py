"""Costs: from the manifests, from finer measurements where there are, and drawn beside quality."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shelftalk.experiment import load_experiment
from shelftalk.pipeline.run import Run
from shelftalk.report import plots, tables
from shelftalk.report.content import CostRow, ReportContent
from shelftalk.report.costs import APART, TOGETHER, costs
from shelftalk.runtime.run_folder import RunFolder

COSTS = {
    "fit_seconds": 2.5, "answer_seconds": {"retrieval": 0.2, "ranking": 0.1},
    "requests": {"retrieval": 500, "ranking": 500}, "peak_memory_mb": 300,
}  # fmt: skip
REQUESTS = {"retrieval": 671, "ranking": 671}


def answered(folder: RunFolder, **facts_of: dict[str, object]) -> Run:
    """A run of models that have answered, by their manifests alone."""
    folder.do("prepare", {}, dict)
    prepared = folder.needed("prepare").fingerprint
    for name, facts in facts_of.items():
        folder.do(f"recommend.{name}", {"built on": {"prepare": prepared}}, lambda facts=facts: facts)
    return Run(folder, load_experiment(None, {"models": list(facts_of)}))


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_a_model_that_answered_has_a_row_with_what_it_chose_and_one_that_did_not_has_none(folder) -> None:
    chosen = ["item_knn: decay 0.7.", "item_knn, ranking: 3."]
    (row,), note = costs(
        answered(
            folder, item_knn={"tasks": [*REQUESTS], "chosen": chosen, "costs": COSTS}, bias={"tasks": []}
        ),
        REQUESTS,
    )
    assert row == CostRow(
        "item_knn", ("decay 0.7.", "ranking: 3."), 2.5, None, {"retrieval": 0.4, "ranking": 0.2},
        peak_memory_mb=300,
    )  # fmt: skip
    assert note == APART


def test_a_folder_of_an_earlier_version_has_the_time_of_the_whole_stage(folder) -> None:
    (row,), note = costs(answered(folder, item_knn={"tasks": [*REQUESTS]}), REQUESTS)
    seconds = folder.needed("recommend.item_knn").seconds
    assert row.together == pytest.approx(1000 * seconds / (671 + 671)) and row.seconds_per_1000 == {}
    assert note == TOGETHER


def test_the_training_of_the_language_model_stands_beside_the_models_that_need_it(folder) -> None:
    folder.do("prepare", {}, dict)
    for stage in ("index", "write"):
        folder.do(stage, {}, dict)
    folder.do("train", {}, lambda: {"seconds_before": 90.0})
    trained = folder.needed("train").fingerprint
    folder.do(
        "recommend.aligned",
        {"built on": {"train": trained}},
        lambda: {"tasks": ["retrieval"], "costs": COSTS},
    )
    run = answered(folder, item_knn={"tasks": ["retrieval"], "costs": COSTS})
    run = Run(folder, load_experiment(None, {"models": ["aligned", "item_knn"]}))
    aligned, item_knn = costs(run, REQUESTS)[0]
    assert aligned.training_seconds is not None and aligned.training_seconds >= 90
    assert item_knn.training_seconds is None


def test_the_table_has_a_column_for_what_some_model_was_measured_in() -> None:
    rows = (CostRow("a", ("x 3.",), 2.0, None, {"retrieval": 0.0004}), CostRow("b", fit_seconds=90.0))
    table = tables.cost_table(rows)
    assert table.columns == ("model", "fit or open", "retrieval, per 1,000", tables.CHOSEN)
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["a", "2.0 s", "0.4 ms", "x 3."],
        ["b", "1 min 30 s", "\u2013", "\u2013"],
    ]


def test_quality_is_drawn_over_seconds_a_point_and_a_whisker_for_each_model(content: ReportContent) -> None:
    panels = plots.cost_panels(content.tasks, content.costs)
    assert [panel.heading for panel in panels] == [
        "Retrieval: NDCG@10 by time",
        "Ranking: NDCG@10 by time",
        "Rating: RMSE (lower is better) by time",
    ]
    retrieval = panels[0]
    assert retrieval.svg.count('aria-roledescription="point"') == 4
    assert retrieval.svg.count('aria-roledescription="rule mark"') == 4
    assert "item_knn: .0615 [.0395, .0835], 31 ms for a thousand requests" in retrieval.svg
    across = {
        name: float(part.split("translate(")[1].split(",")[0])
        for part in retrieval.svg.split('aria-roledescription="point"')[1:]
        for name in ("aligned+prior:", "popularity:")
        if name in part.split("</path>")[0]
    }
    assert across["popularity:"] < across["aligned+prior:"]


def test_a_model_without_a_time_or_a_figure_is_not_drawn(content: ReportContent) -> None:
    known = replace(content, costs=tuple(row for row in content.costs if row.model == "item_knn"))
    assert [
        panel.svg.count('aria-roledescription="point"')
        for panel in plots.cost_panels(known.tasks, known.costs)
    ] == [1, 1]
    assert plots.cost_panels(content.tasks, ()) == []


def test_a_dozen_models_are_told_apart_by_colour_and_shape() -> None:
    assert len({plots._series(number) for number in range(36)}) == 36
