from dataclasses import replace

from shelftalk.report import plots
from shelftalk.report.content import CurvePoint, ModelRow, QualityPoint, ReportContent, Stage
from shelftalk.report.render import render_html
from shelftalk.report.tables import slice_groups


def every_panel(content: ReportContent) -> list[plots.Panel]:
    metrics = [panel for task in content.tasks for panel in plots.metric_panels(task)]
    return (
        metrics
        + plots.slice_panels(slice_groups(content))
        + plots.curve_panels(content)
        + plots.stage_panels(content.stages)
    )


def test_there_is_a_panel_per_plotted_metric_slice_kind_curve_and_one_for_stages(
    content: ReportContent,
) -> None:
    assert [panel.heading for panel in every_panel(content)] == [
        "Recall@10", "NDCG@10", "MRR", "HR@1", "NDCG@10", "RMSE (lower is better)", "MAE (lower is better)",
        "Retrieval: Recall@10 by item popularity", "Retrieval: Recall@10 by history length",
        "Ranking: NDCG@10 by item popularity", "Ranking: NDCG@10 by history length",
        "All tasks together", "Retrieval", "Ranking", "Rating", "Masked items", "Masked language",
        "Time by stage",
    ]  # fmt: skip


def test_drawings_carry_no_ids_references_or_scripts_that_could_clash(content: ReportContent) -> None:
    for panel in every_panel(content):
        assert panel.svg.startswith("<svg ")
        assert not any(forbidden in panel.svg for forbidden in (" id=", "url(", "href", "<script", "http"))


def test_every_figure_of_a_drawing_can_be_heard_and_hovered(content: ReportContent) -> None:
    panel = plots.metric_panels(content.tasks[0])[0]
    root = panel.svg[: panel.svg.index(">")]
    assert 'role="img"' in root
    for row in content.tasks[0].rows:
        tip = plots._metric_row(row, "recall@10")["tip"]
        assert tip in root and f"<title>{tip}</title>" in panel.svg


def test_a_plot_shows_the_values_where_they_are(content: ReportContent) -> None:
    task = replace(
        content.tasks[0],
        rows=(ModelRow("low", {"mrr": 0.1}), ModelRow("high", {"mrr": 0.9})),
        plotted=("mrr",),
    )
    svg = plots.metric_panels(task)[0].svg
    positions = [
        float(part.split("translate(")[1].split(",")[0])
        for part in svg.split('aria-roledescription="point"')[1:]
    ]
    assert len(positions) == 2 and positions[0] < positions[1]


def test_a_model_without_the_metric_has_no_dot_and_a_metric_of_no_model_no_panel(
    content: ReportContent,
) -> None:
    rows = (ModelRow("has", {"mrr": 0.0}), ModelRow("lacks", {}), ModelRow("nan", {"mrr": float("nan")}))
    panels = plots.metric_panels(replace(content.tasks[0], rows=rows, plotted=("mrr", "recall@10")))
    assert len(panels) == 1 and panels[0].svg.count('aria-roledescription="point"') == 1


def test_baselines_are_grey(content: ReportContent) -> None:
    colours = {row.model: plots._metric_row(row, "recall@10")["colour"] for row in content.tasks[0].rows}
    assert colours["item_knn"] == colours["popularity"] == plots.GREY and colours["aligned"] == plots.ACCENT


def test_a_curve_without_validation_is_drawn_and_losses_that_are_no_numbers_are_left_out(
    content: ReportContent,
) -> None:
    losses = (3.0, float("nan"), None, 2.0)
    points = tuple(CurvePoint(step, step * 10, "all", "training", loss) for step, loss in enumerate(losses))
    (panel,) = plots.curve_panels(replace(content, curves=points, best_step=None))
    assert [key.label for key in panel.legend] == ["training"] and "loss 2.000" in panel.svg


def test_quality_during_training_is_drawn_metric_by_metric_where_it_was_measured(
    content: ReportContent,
) -> None:
    values = {"ndcg@10": (0.01, 0.05, 0.04), "recall@10": (0.02, 0.11, 0.09)}
    points = tuple(
        QualityPoint(step, 10 * step, metric, value)
        for position, step in enumerate((10, 20, 30)) for metric,
        value in ((name, values[name][position]) for name in values)
    )  # fmt: skip
    measured = replace(content, quality=points, best_step=20)
    assert [panel.heading for panel in plots.quality_panels(measured)] == [
        "NDCG@10, validation",
        "Recall@10, validation",
    ]
    for panel, figures in zip(
        plots.quality_panels(measured),
        ((".0100", ".0500", ".0400"), (".0200", ".1100", ".0900")),
        strict=True,
    ):
        assert panel.svg.count('aria-roledescription="point"') == 3 and all(
            figure in panel.svg for figure in figures
        )
        assert "kept: step 20" in panel.svg
    assert "Recommendation quality during training" in render_html(measured)
    assert plots.quality_panels(
        content
    ) == [] and "Recommendation quality during training" not in render_html(content)


def test_nothing_measured_gives_no_panel(content: ReportContent) -> None:
    empty = replace(content, curves=(CurvePoint(1, 10, "all", "training", None),))
    assert (
        plots.curve_panels(empty)
        == plots.stage_panels((Stage("train", None),))
        == plots.slice_panels([])
        == []
    )


def test_stages_of_no_time_and_skipped_stages_are_drawn() -> None:
    (panel,) = plots.stage_panels((Stage("prepare", 0.0), Stage("train", 0.0, skipped=True)))
    assert "prepare: 0.0 s" in panel.svg and "train: skipped (0.0 s before)" in panel.svg


def test_more_models_than_colours_still_have_a_sign_each(content: ReportContent) -> None:
    rows = tuple(replace(content.slices[0], model=f"m{n}") for n in range(9))
    (panel,) = plots.slice_panels(slice_groups(replace(content, slices=rows)))
    assert len(panel.legend) == 9 and panel.svg.count('aria-roledescription="point"') == 9
