from dataclasses import replace

import pytest

from shelftalk.report.content import Difference, ModelRow, ReportContent, TaskResults
from shelftalk.report.markdown import render_markdown
from shelftalk.report.render import render_html
from shelftalk.report.summary import leader, leader_sentences, summary, verdict
from shelftalk.report.tables import (
    SLICES,
    caveats,
    list_sentences,
    list_table,
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


def compared(first: str, second: str, value: float, p: float | None, metric: str = "ndcg@10") -> Difference:
    """A difference whose interval is clear of zero."""
    return Difference(first, second, metric, value, value - 0.001, value + 0.001, 0.001, p)


THREE = tuple(ModelRow(name, {"ndcg@10": value}) for name, value in (("a", 0.4), ("b", 0.3), ("c", 0.2)))
B_OVER_C = compared("b", "c", 0.1, 0.01)


def marked(task: TaskResults) -> list[bool]:
    return [row[1].best for row in result_table(task).rows]


def test_a_figure_is_marked_where_its_model_is_ahead_of_every_other_one() -> None:
    differences = (compared("a", "b", 0.1, 0.02), compared("c", "a", -0.2, 0.02), B_OVER_C)
    task = task_with(*THREE, differences=differences)
    assert leader(task, "ndcg@10") == "a" and marked(task) == [True, False, False]
    assert leader_sentences(task) == [
        "NDCG@10: a is ahead of every other model, each with an adjusted p below .05."
    ]


def test_of_errors_the_lowest_is_ahead() -> None:
    rows = (ModelRow("a", {"rmse": 0.8}), ModelRow("b", {"rmse": 0.9}))
    task = task_with(*rows, differences=(compared("a", "b", -0.1, 0.01, "rmse"),), metric="rmse")
    assert marked(task) == [True, False]


@pytest.mark.parametrize("p", [0.05, 0.3])
def test_the_best_figure_is_not_marked_while_one_adjusted_p_is_not_below_the_level(p: float) -> None:
    differences = (compared("a", "b", 0.1, p), compared("a", "c", 0.2, 0.01), B_OVER_C)
    task = task_with(*THREE, differences=differences)
    assert verdict(differences[0], task) == "level" and marked(task) == [False] * 3
    assert leader_sentences(task) == [
        "NDCG@10: no model is ahead of every other one; a has the best figure and is not distinguishable "
        "from b."
    ]


def test_a_metric_without_tests_marks_nothing_and_claims_nothing() -> None:
    assert marked(task_with(*THREE)) == [False] * 3 and leader_sentences(task_with(*THREE)) == []
    unadjusted = task_with(*THREE, differences=tuple(replace(B_OVER_C, first="a", second=s) for s in "bc"))
    without = replace(
        unadjusted, differences=tuple(replace(row, p_adjusted=None) for row in unadjusted.differences)
    )
    assert marked(unadjusted) == [True, False, False]
    assert marked(without) == [False] * 3 and leader_sentences(without) == []
    assert verdict(without.differences[0], without) == "ahead"  # of a folder of an earlier version
    assert marked(task_with(THREE[0])) == [False]


def test_a_refitted_model_is_compared_with_no_other() -> None:
    rows = (*THREE[:2], ModelRow("a@refit", {"ndcg@10": 0.9}))
    assert marked(task_with(*rows, differences=(compared("a", "b", 0.1, 0.01),))) == [True, False, False]


def test_lists_are_described_with_a_sentence_for_each_figure_and_none_is_marked() -> None:
    lists = (
        ModelRow("a", {"coverage@10": 0.5, "popularity_lift@10": -0.2}, {"popularity_lift@10": (-0.3, -0.1)}),
    )
    task = replace(task_with(*THREE), of_lists=lists)
    table = list_table(task)
    assert table.columns == ("model", "Coverage@10", "Popularity lift@10")
    assert [(cell.text, cell.note, cell.best) for cell in table.rows[0][1:]] == [
        (".5000", "", False),
        ("−.2000", "[−.3000, −.1000]", False),
    ]
    assert [sentence.split(":")[0] for sentence in list_sentences(task)] == list(table.columns[1:])


def test_the_number_of_comparisons_and_what_could_have_been_shown_are_caveats() -> None:
    task = task_with(*THREE, differences=(replace(B_OVER_C, smallest_effect=0.02),))
    sentences = caveats(replace(content_of(task), correction="Holm"))
    assert "1 differences are shown" in sentences[0] and "(Holm)" in sentences[0]
    assert "80 of 100" in sentences[1]
    assert len(caveats(content_of(task_with(*THREE, differences=(B_OVER_C,))))) == 1


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
