"""Scores of a language model for the options of a question. Texts here; tensors inside `_scores` and
`_log_probs` only.

A question is put in one of several ways. Most are the prompt of one task, filled as for its training samples,
up to where the missing item would be; the score is the log-probability of the option there. "retrieval" is
the prompt that every model is trained on; it cannot express where in the history the item is missing.
"inverted" uses the same prompt with Bayes' rule: it inserts each option at its position and scores the whole
history from there.

Legend: Q questions, O options; scores in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from shelftalk import seeds
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.records import Request, Segment
from shelftalk.studies.probing.questions import Question
from shelftalk.tasks.item_text import ItemText
from shelftalk.tasks.masked_language import MaskedLanguageSettings
from shelftalk.tasks.sentinels import sentinel
from shelftalk.tasks.task import ServedTask, Task
from shelftalk.tasks.templates import Template, fill

if TYPE_CHECKING:
    from shelftalk.models.backbone import Backbone
    from shelftalk.models.text_encoder import Encoded

BATCH = 64
"""Prompts read at once."""
Tasks = Mapping[str, Task]
Prompt = Callable[[Task, Template, Question], list[Segment]]


def option_scores(
    backbone: Backbone,
    index: ItemIndex,
    tasks: Tasks,
    questions: Sequence[Question],
    way: str,
    held_out: bool = False,
) -> list[np.ndarray]:
    """[Q] arrays [O]: the score of each option of each question, with the templates that `way` was trained
    with, or with those that training held out. Only the order of a question's scores is meaningful.

    Each question has one template, drawn once for all models: a model may know a fact with one template
    better than with another, and the result should not depend on a single one.
    """
    task = tasks["retrieval" if way == "inverted" else way]
    available = task.held_out if held_out else task.seen
    drawn = seeds.generator(0, "probe wordings").integers(len(available), size=len(questions))
    templates = [available[number] for number in drawn.tolist()]
    if way == "inverted":
        return _inverted_scores(backbone, task, templates, questions)
    if way == "pairwise_preference":
        return _pairwise_scores(backbone, index, task, templates, questions)
    prompts = [
        PROMPTS[way](task, template, question)
        for template, question in zip(templates, questions, strict=True)
    ]
    return _scores(backbone, index, prompts, [question.options for question in questions])


def retrieval_prompt(task: Task, template: Template, question: Question) -> list[Segment]:
    """The history; what comes next?"""
    return cast(ServedTask, task).prompt(Request("", question.history), template)


def ranking_prompt(task: Task, template: Template, question: Question) -> list[Segment]:
    """The history and the options; which of them?"""
    return cast(ServedTask, task).prompt(Request("", question.history, candidates=question.options), template)


def masked_items_prompt(task: Task, template: Template, question: Question) -> list[Segment]:
    """The history with a sentinel in a line of its own where the item is missing."""
    text, (before, after) = _text(task), _around(question, task.settings.max_history)
    shown = [*text.lines(before), sentinel(0), Segment("\n"), *text.lines(after)]
    return _before_loss(
        task, template.source, template.target, masked_history=shown, masked=[sentinel(0), *ANSWER]
    )


def masked_language_prompt(task: Task, template: Template, question: Question) -> list[Segment]:
    """The history's text with a sentinel in place of the missing name, and of its line break where spans of
    two units or more are masked."""
    text, (before, after) = _text(task), _around(question, task.settings.max_history)
    line_end = [] if cast(MaskedLanguageSettings, task.settings).mean_span >= 2 else [Segment("\n")]
    corrupted = [*text.lines(before), sentinel(0), *line_end, *text.lines(after)]
    return _before_loss(
        task, template.source, template.target, corrupted=corrupted, spans=[sentinel(0), *ANSWER]
    )


def preference_prompt(
    task: Task, template: Template, question: Question, first: str, second: str
) -> list[Segment]:
    """The history and two of the options; which one is preferred?"""
    text = _text(task)
    shown = question.history[-task.settings.max_history :]
    source = fill(template.source, _values(task, history=text.lines(shown)))
    options = {"first": text.line(first), "second": text.line(second)}
    return source + _before_loss(task, template.question, template.target, **options, preferred=ANSWER)


ANSWER = [Segment("", bears_loss=True)]
"""A placeholder for the answer while a template is filled; the prompt ends before it."""
PROMPTS: dict[str, Prompt] = {
    "retrieval": retrieval_prompt,
    "ranking": ranking_prompt,
    "masked_items": masked_items_prompt,
    "masked_language": masked_language_prompt,
}
WAYS = (*PROMPTS, "pairwise_preference", "inverted")


def _text(task: Task) -> ItemText:
    """How items are written in prompts of the finished model."""
    return task.context.text.names_only if task.prompts_names_only else task.context.text


def _values(task: Task, **more: str | list[Segment]) -> dict[str, str | list[Segment]]:
    """Values of the template's placeholders: the shop's words, and what the question adds."""
    return {**task.context.nouns.placeholders(), **more}


def _around(question: Question, shown: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The items before and after the missing one, in a window of at most `shown` items that includes it."""
    after = question.history[question.position :][: shown - 1]
    before = question.history[: question.position]
    return before[max(0, len(before) - (shown - 1 - len(after))) :], after


def _before_loss(task: Task, source: str, target: str, **values: str | list[Segment]) -> list[Segment]:
    """The filled template, up to where the answer begins."""
    filled = fill(source, _values(task, **values)) + fill(target, _values(task, **values))
    return filled[: next(position for position, segment in enumerate(filled) if segment.bears_loss)]


def _scores(
    backbone: Backbone, index: ItemIndex, prompts: Sequence[list[Segment]], options: Sequence[Sequence[str]]
) -> list[np.ndarray]:
    """The log-probability of each option's name after each prompt."""
    from shelftalk.decoding.item_trie import trie_of
    from shelftalk.decoding.scoring import score_items

    backbone.model.eval()
    row_of = {item: row for row, item in enumerate(index.item_ids)}
    trie = trie_of(backbone, index)
    rows = [[row_of[item] for item in of_prompt] for of_prompt in options]
    table = np.full((len(rows), max(map(len, rows))), -1)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    scores: list[np.ndarray] = []
    for start in range(0, len(prompts), BATCH):
        prefilled = backbone.prefill([backbone.encode(prompt) for prompt in prompts[start : start + BATCH]])
        scores += list(score_items(prefilled, trie, table[start : start + BATCH]))
    return [of_prompt[: len(row)] for of_prompt, row in zip(scores, rows, strict=True)]


def _pairwise_scores(
    backbone: Backbone,
    index: ItemIndex,
    task: Task,
    templates: Sequence[Template],
    questions: Sequence[Question],
) -> list[np.ndarray]:
    """Each option against each other, in both orders: the sum of the differences in log-probability.

    Example: of options a and b, both prompts (a, b) and (b, a) are scored, and
    score(a) = the sum of log p(a) - log p(b) over the two.
    """
    comparisons = [
        (number, a, b)
        for number, question in enumerate(questions)
        for a, b in _ordered_pairs(len(question.options))
    ]
    prompts, pairs = [], []
    for number, a, b in comparisons:
        options = questions[number].options
        pairs.append((options[a], options[b]))
        prompts.append(preference_prompt(task, templates[number], questions[number], options[a], options[b]))
    totals = [np.zeros(len(question.options)) for question in questions]
    for (number, a, b), (first, second) in zip(
        comparisons, _scores(backbone, index, prompts, pairs), strict=True
    ):
        totals[number][[a, b]] += (first - second, second - first)
    return totals


def _ordered_pairs(options: int) -> Iterator[tuple[int, int]]:
    return ((a, b) for a in range(options) for b in range(options) if a != b)


def _inverted_scores(
    backbone: Backbone, task: Task, templates: Sequence[Template], questions: Sequence[Question]
) -> list[np.ndarray]:
    """The log-probability of each option at its position and of all items after it."""
    text = _text(task)
    samples: list[Encoded] = []
    for template, question in zip(templates, questions, strict=True):
        before, after = question.history[: question.position], question.history[question.position :]
        for option in question.options:
            scored = [segment for item in (option, *after) for segment in text.line(item, bears_loss=True)]
            lines = [*text.lines(before), *scored]
            samples.append(backbone.encode(fill(template.source, _values(task, history=lines))))
    totals = _log_probs(backbone, samples)
    ends = np.cumsum([len(question.options) for question in questions])
    return np.split(totals, ends[:-1])


def _log_probs(backbone: Backbone, samples: Sequence[Encoded]) -> np.ndarray:
    """[samples] the sum of the log-probabilities of the tokens that bear loss in each."""
    import torch

    backbone.model.eval()
    totals: list[float] = []
    with torch.no_grad():
        for start in range(0, len(samples), BATCH):
            batch = samples[start : start + BATCH]
            tensors = {name: tensor.to(backbone.device) for name, tensor in backbone.collate(batch).items()}
            labels = backbone.label_log_probs(tensors).double().cpu().numpy()
            ends = np.cumsum([int(sample.bears_loss.sum()) for sample in batch])
            totals += [float(part.sum()) for part in np.split(labels, ends[:-1])]
    return np.array(totals)
