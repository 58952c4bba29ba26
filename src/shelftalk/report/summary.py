"""The sentences built from numbers. A model "beats" another only where the paired interval excludes zero."""

from __future__ import annotations

from shelftalk.report import numbers
from shelftalk.report.content import Difference, ModelRow, ReportContent, TaskResults

VERBS = {
    "ahead": "beats",
    "behind": "is worse than",
    "level": "is not distinguishable from",
    "unmeasured": "was not compared with",
}


def verdict(difference: Difference, task: TaskResults) -> str:
    """The first model is "ahead" or "behind" (interval excludes zero), "level", or
    "unmeasured" (no interval)."""
    low, high = difference.low, difference.high
    measured = numbers.known(low) and numbers.known(high) and numbers.known(difference.value)
    if low is None or high is None or not measured:
        return "unmeasured"
    if low <= 0 <= high:
        return "level"
    return "ahead" if (low > 0) != (difference.metric in task.lower_is_better) else "behind"


def verdict_sentence(difference: Difference, task: TaskResults) -> str:
    """As in "aligned beats popularity"."""
    return f"{difference.first} {VERBS[verdict(difference, task)]} {difference.second}"


def main_differences(task: TaskResults) -> list[Difference]:
    """The comparisons in the task's main metric."""
    return [difference for difference in task.differences if difference.metric == task.main_metric]


def main_row(task: TaskResults) -> ModelRow | None:
    """The model that the summary is about: the first of the first main comparison, else the first row."""
    compared = [difference.first for difference in main_differences(task)]
    rows = [row for row in task.rows if compared and row.model == compared[0]]
    return next(iter(rows or task.rows), None)


def summary(content: ReportContent) -> str:
    """The results in a sentence per task, with no claim that the numbers do not support."""
    if not content.tasks:
        return "No task was evaluated in this run."
    note = [content.split_note] if content.split_note else []
    return " ".join([*map(_sentence, content.tasks), *note])


def _sentence(task: TaskResults) -> str:
    start = f"{numbers.title(task.task)}: "
    differences = main_differences(task)
    if not differences:
        return start + _alone(task)
    return f"{start}{verdict_sentence(differences[0], task)}{_figures(differences[0], task)}."


def _alone(task: TaskResults) -> str:
    row = main_row(task)
    if row is None:
        return "nothing was measured."
    name, value = numbers.metric_name(task.main_metric), row.metrics.get(task.main_metric)
    if not numbers.known(value):
        return f"{row.model} has no {name}."
    return f"{row.model} has {name} {numbers.figure(value)}, compared with nothing."


def _figures(difference: Difference, task: TaskResults) -> str:
    by_model = {row.model: row.metrics.get(difference.metric) for row in task.rows}
    first, second = by_model.get(difference.first), by_model.get(difference.second)
    if not (numbers.known(first) and numbers.known(second)):
        return ""
    name = numbers.metric_name(difference.metric)
    lower = ", lower is better" if difference.metric in task.lower_is_better else ""
    return f" ({name} {numbers.figure(first)} against {numbers.figure(second)}{lower})"
