"""The sentences built from numbers. "Beats" is said only where the paired interval is clear of zero."""

from __future__ import annotations

from shelftalk.data.splitting import RANDOM_SPLIT
from shelftalk.report import numbers
from shelftalk.report.content import Difference, ModelRow, ReportContent, TaskResults

REFIT = "@refit"  # trained on training + validation: another convention, compared with nothing here
VERBS = {
    "ahead": "beats",
    "behind": "stays behind",
    "level": "cannot be told apart from",
    "unmeasured": "was not compared with",
}


def verdict(difference: Difference, task: TaskResults) -> str:
    """Says "ahead" or "behind" where the whole interval lies on one side of zero, else "level"; "unmeasured"
    without one."""
    low, high = difference.low, difference.high
    if (
        low is None
        or high is None
        or not (numbers.known(low) and numbers.known(high) and numbers.known(difference.value))
    ):
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


def headline_row(task: TaskResults) -> ModelRow | None:
    """The model that the headline is about: the first of the first main comparison, else the first row."""
    judged = [difference.first for difference in main_differences(task)]
    ours = [row for row in task.rows if judged and row.model == judged[0]]
    return next(iter(ours or task.rows), None)


def headline(content: ReportContent) -> str:
    """The whole result in a sentence per task, without a word that the numbers do not bear."""
    if not content.tasks:
        return "No task was evaluated in this run."
    random = [RANDOM_SPLIT] if content.scheme == "random" else []
    return " ".join([*map(_sentence, content.tasks), *random])


def _sentence(task: TaskResults) -> str:
    start = f"{numbers.title(task.task)}: "
    differences = main_differences(task)
    if not differences:
        return start + _alone(task)
    return f"{start}{verdict_sentence(differences[0], task)}{_figures(differences[0], task)}."


def _alone(task: TaskResults) -> str:
    row = headline_row(task)
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
