"""Ways of asking a language model one question: each gives a score to every option. Texts here; tensors
inside `scores` only.

A way is the wording in which one task's samples were said, up to where the missing item stands, so that the
model is asked as it was trained. "retrieval" is the wording that every model knows; it cannot say where in
the history the item is missing. "inverted" asks the same wording backwards, by the rule of Bayes: it puts
each option in its place and scores the whole history from there.

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


def ask(
    backbone: Backbone,
    index: ItemIndex,
    tasks: Tasks,
    questions: Sequence[Question],
    way: str,
    held_out: bool = False,
) -> list[np.ndarray]:
    """[Q] arrays [O]: how much the model is for each option of each question, in the wordings that `way` was
    trained in, or in those that training held out. Only the order of a question's scores means something.

    Each question is asked in one of the wordings, drawn once for all models: a model may know a fact in one
    wording better than in another, and what is known should not hang on one of them.
    """
    task = tasks["retrieval" if way == "inverted" else way]
    wordings = task.held_out if held_out else task.seen
    drawn = seeds.generator(0, "probe wordings").integers(len(wordings), size=len(questions))
    templates = [wordings[number] for number in drawn.tolist()]
    if way == "inverted":
        return _whole_histories(backbone, task, templates, questions)
    if way == "pairwise_preference":
        return _duels(backbone, index, task, templates, questions)
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
    """The history with a mark in a line of its own where the item is missing."""
    text, (before, after) = _text(task), _around(question, task.settings.max_history)
    shown = [*text.lines(before), sentinel(0), Segment("\n"), *text.lines(after)]
    return _before_loss(
        task, template.source, template.target, masked_history=shown, masked=[sentinel(0), *ANSWER]
    )


def masked_language_prompt(task: Task, template: Template, question: Question) -> list[Segment]:
    """The history's text with a mark in place of the missing name, and of its line break where runs of two
    units or more are masked."""
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
"""Stands for the answer while a wording is filled; the prompt ends before it."""
PROMPTS: dict[str, Prompt] = {
    "retrieval": retrieval_prompt,
    "ranking": ranking_prompt,
    "masked_items": masked_items_prompt,
    "masked_language": masked_language_prompt,
}
WAYS = (*PROMPTS, "pairwise_preference", "inverted")


def _text(task: Task) -> ItemText:
    """How items stand in what the finished model is asked."""
    return task.context.text.names_only if task.prompts_names_only else task.context.text


def _values(task: Task, **more: str | list[Segment]) -> dict[str, str | list[Segment]]:
    """What the wording's placeholders stand for: the shop's words, and what the question adds."""
    return {**task.context.nouns.placeholders(), **more}


def _around(question: Question, shown: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What stands before and behind the missing item, in a window of at most `shown` items, the missing one
    among them."""
    after = question.history[question.position :][: shown - 1]
    before = question.history[: question.position]
    return before[max(0, len(before) - (shown - 1 - len(after))) :], after


def _before_loss(task: Task, source: str, target: str, **values: str | list[Segment]) -> list[Segment]:
    """The wording filled in, up to where the answer begins."""
    filled = fill(source, _values(task, **values)) + fill(target, _values(task, **values))
    return filled[: next(position for position, segment in enumerate(filled) if segment.bears_loss)]


def _scores(
    backbone: Backbone, index: ItemIndex, prompts: Sequence[list[Segment]], options: Sequence[Sequence[str]]
) -> list[np.ndarray]:
    """The log-probability of each option's name behind each prompt."""
    from shelftalk.decoding.item_trie import trie_of
    from shelftalk.decoding.scoring import score_items

    backbone.model.eval()
    row_of = {item: row for row, item in enumerate(index.item_ids)}
    trie = trie_of(backbone, index)
    wanted = [[row_of[item] for item in row] for row in options]
    table = np.full((len(wanted), max(map(len, wanted))), -1)
    for number, row in enumerate(wanted):
        table[number, : len(row)] = row
    found: list[np.ndarray] = []
    for start in range(0, len(prompts), BATCH):
        prefilled = backbone.prefill([backbone.encode(prompt) for prompt in prompts[start : start + BATCH]])
        found += list(score_items(prefilled, trie, table[start : start + BATCH]))
    return [scores[: len(row)] for scores, row in zip(found, wanted, strict=True)]


def _duels(
    backbone: Backbone,
    index: ItemIndex,
    task: Task,
    templates: Sequence[Template],
    questions: Sequence[Question],
) -> list[np.ndarray]:
    """Each option against each other, in both orders: by how many nats it is preferred, on average."""
    duels = [
        (number, a, b)
        for number, question in enumerate(questions)
        for a, b in _ordered_pairs(len(question.options))
    ]
    prompts, pairs = [], []
    for number, a, b in duels:
        options = questions[number].options
        pairs.append((options[a], options[b]))
        prompts.append(preference_prompt(task, templates[number], questions[number], options[a], options[b]))
    found = [np.zeros(len(question.options)) for question in questions]
    for (number, a, b), (first, second) in zip(duels, _scores(backbone, index, prompts, pairs), strict=True):
        found[number][[a, b]] += (first - second, second - first)
    return found


def _ordered_pairs(options: int) -> Iterator[tuple[int, int]]:
    return ((a, b) for a in range(options) for b in range(options) if a != b)


def _whole_histories(
    backbone: Backbone, task: Task, templates: Sequence[Template], questions: Sequence[Question]
) -> list[np.ndarray]:
    """The log-probability of each option in its place and of all that stands behind it."""
    text = _text(task)
    samples: list[Encoded] = []
    for template, question in zip(templates, questions, strict=True):
        before, after = question.history[: question.position], question.history[question.position :]
        for option in question.options:
            spoken = [segment for item in (option, *after) for segment in text.line(item, bears_loss=True)]
            lines = [*text.lines(before), *spoken]
            samples.append(backbone.encode(fill(template.source, _values(task, history=lines))))
    totals = _log_probs(backbone, samples)
    ends = np.cumsum([len(question.options) for question in questions])
    return np.split(totals, ends[:-1])


def _log_probs(backbone: Backbone, samples: Sequence[Encoded]) -> np.ndarray:
    """[samples] the sum of the log-probabilities of what bears loss in each."""
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
