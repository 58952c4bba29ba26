from dataclasses import replace

import pytest

from shelftalk.report.content import Difference, ModelRow, ReportContent, TaskResults
from shelftalk.report.markdown import render_markdown
from shelftalk.report.render import render_html
from shelftalk.report.summary import summary, verdict
from shelftalk.report.tables import (
    SLICES,
    best_figure,
    caveats,
    result_table,
    slice_groups,
    slice_table,
    total_time,
)

NAN = float("nan")


def task_with(
    *rows: ModelRow, differences: tuple[Difference, ...] = (), metric: str = "ndcg@10"
) -> TaskResults:
    return TaskResults("ranking", rows, metric, (metric,), 671, "users", "1 + 99.", differences)


def difference(
    low: float | None, high: float | None, metric: str = "ndcg@10", value: float | None = 0.01
) -> Difference:
    return Difference("a", "b", metric, value, low, high)


def content_of(*tasks: TaskResults) -> ReportContent:
    return ReportContent("t", "today", 1, "0", "shelftalk run", data={}, tasks=tasks)


@pytest.mark.parametrize(
    ("low", "high", "metric", "expected"),
    [
        (0.001, 0.02, "ndcg@10", "ahead"),
        (-0.02, -0.001, "ndcg@10", "behind"),
        (-0.001, 0.02, "ndcg@10", "level"),
        (0.0, 0.02, "ndcg@10", "level"),  # an interval that touches zero is not clear of it
        (-0.02, 0.0, "ndcg@10", "level"),
        (0.001, 0.02, "rmse", "behind"),
        (-0.02, -0.001, "rmse", "ahead"),
        (NAN, 0.02, "ndcg@10", "unmeasured"),
        (None, None, "ndcg@10", "unmeasured"),
    ],
)
def test_one_model_beats_another_only_where_the_interval_is_clear_of_zero(
    low, high, metric, expected
) -> None:
    assert verdict(difference(low, high, metric), task_with()) == expected


def test_the_summary_is_made_of_the_first_difference_on_the_main_metric() -> None:
    rows = (ModelRow("a", {"ndcg@10": 0.4}), ModelRow("b", {"ndcg@10": 0.39}))
    other, main = difference(0.1, 0.2, "hr@1"), difference(-0.01, 0.03)
    sentence = summary(content_of(task_with(*rows, differences=(other, main))))
    assert sentence == "Ranking: a is not distinguishable from b (NDCG@10 .4000 against .3900)."


def test_the_summary_of_models_that_were_never_compared_claims_nothing() -> None:
    rows = (ModelRow("a", {"ndcg@10": 0.4}), ModelRow("b", {"ndcg@10": 0.1}))
    assert summary(content_of(task_with(*rows))) == "Ranking: a has NDCG@10 .4000, compared with nothing."
    assert summary(content_of(task_with(ModelRow("a", {})))) == "Ranking: a has no NDCG@10."
    assert summary(content_of(task_with())) == "Ranking: nothing was measured."


def test_a_difference_whose_models_have_no_figures_is_described_without_figures() -> None:
    sentence = summary(
        content_of(task_with(ModelRow("a", {"ndcg@10": NAN}), differences=(difference(0.01, 0.02),)))
    )
    assert sentence == "Ranking: a beats b."


def test_the_best_value_is_the_highest_or_of_errors_the_lowest() -> None:
    first, second = ModelRow("a", {"ndcg@10": 0.4, "rmse": 0.9}), ModelRow("b", {"ndcg@10": 0.3, "rmse": 0.8})
    rows = (first, second, ModelRow("c", {"rmse": NAN}))
    marked = [[cell.best for cell in row[1:]] for row in result_table(task_with(*rows)).rows]
    assert marked == [[True, False], [False, True], [False, False]]


def test_models_equal_in_print_are_equally_best_and_a_single_model_is_not() -> None:
    rows = (ModelRow("a", {"mrr": 0.12341}), ModelRow("b", {"mrr": 0.12339}), ModelRow("c", {"mrr": 0.1}))
    assert [row[1].best for row in result_table(task_with(*rows)).rows] == [True, True, False]
    assert best_figure(task_with(rows[0]), "mrr") == ""


def test_a_refitted_model_is_compared_with_no_other() -> None:
    rows = (ModelRow("a", {"mrr": 0.2}), ModelRow("b", {"mrr": 0.1}), ModelRow("a@refit", {"mrr": 0.3}))
    assert [row[1].best for row in result_table(task_with(*rows)).rows] == [True, False, False]


def test_page_and_text_say_what_is_counted_in_slices(content: ReportContent) -> None:
    assert SLICES in render_html(content) and SLICES in render_markdown(content)


def test_a_model_that_lacks_a_slice_gets_a_dash(content: ReportContent) -> None:
    lacking = replace(
        content,
        slices=tuple(row for row in content.slices if (row.model, row.slice) != ("aligned", "under 20")),
    )
    group = next(group for group in slice_groups(lacking) if group.kind == "history length")
    table = slice_table(group)
    row = next(row for row in table.rows if row[0].text == "under 20")
    assert (
        table.columns[1] == "users"
        and row[1].text == "88"
        and row[table.columns.index("aligned")].text == "–"
    )


def test_skipped_stages_are_not_counted_in_the_total(content: ReportContent) -> None:
    assert total_time(content.stages) == "8 min 34 s"


@pytest.mark.parametrize(("times", "expected"), [(None, 0), (1, 1), (3, 1)])
def test_how_often_the_test_part_was_looked_at_is_a_caveat(
    content: ReportContent, times: int | None, expected: int
) -> None:
    sentences = [
        sentence for sentence in caveats(replace(content, test_evaluations=times)) if "test part" in sentence
    ]
    assert len(sentences) == expected
    assert all(("3 times" in sentence) == (times == 3) for sentence in sentences)
