"""What would fail after hours of training, looked for before its first step: names and ratings that are the
same tokens, and samples or prompts that are longer than the model can read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from shelftalk.data.splitting import Split
from shelftalk.errors import DuplicateName, SettingsError
from shelftalk.experiment import Experiment
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.pipeline.fresh_backbone import symbols
from shelftalk.pipeline.run import Run
from shelftalk.ragged import Ragged
from shelftalk.records import Segment
from shelftalk.settings import Settings
from shelftalk.tasks.samples import Samples, row_groups
from shelftalk.tasks.sentinels import all_sentinels
from shelftalk.tasks.task import ServedTask

if TYPE_CHECKING:  # torch is loaded only where a pretrained model is
    from shelftalk.models.backbone import Backbone

SHOWN = 60
"""Characters of a name in a message."""


def check_names(index: ItemIndex, split: Split, experiment: Experiment) -> None:
    """Raises DuplicateName where the pretrained tokenizer cannot tell the names of two items apart, or has no
    token for one. The nano model's tokenizer is made of the catalogue and reads bytes, so that different
    names are different tokens."""
    if not experiment.pretrained.name:
        return
    from shelftalk.models.pretrained import add_symbols, read_tokenizer
    from shelftalk.models.text_encoder import TextEncoder

    tokenizer = add_symbols(read_tokenizer(experiment.pretrained), [*all_sentinels(), *index.vocabulary])
    encoder = TextEncoder(tokenizer)
    titles = dict(zip(split.dataset.item_ids, split.dataset.items["title"], strict=True))

    def shown(row: int) -> str:
        item = index.item_ids[row]
        return f'"{item}" (titled "{titles[item][:SHOWN]}", named "{index.name(item)[:SHOWN]}")'

    remedy = (
        'set index.scheme = "atomic" or another whose names are symbols, and choose another --out if this '
        "one holds an index, or choose a pretrained model whose tokenizer reads these names "
        f'("{experiment.pretrained.name}" does not)'
    )
    names = encoder.encode_names([index.segments(item, closed=False) for item in index.item_ids])
    if not names.lengths.all():
        raise DuplicateName(
            f"the name of item {shown(int(names.lengths.argmin()))} has no token in this tokenizer; {remedy}."
        )
    closed = encoder.encode_names([index.segments(item) for item in index.item_ids])
    if pair := alike(closed):
        one, other = sorted(pair)
        raise DuplicateName(
            f"the names of items {shown(one)} and {shown(other)} are the same tokens to this tokenizer; "
            f"{remedy}."
        )


def check_run(run: Run, backbone: Backbone) -> None:
    """What can be known before the samples are made. Raises SettingsError where two
    rating values are the same tokens, or a prompt of the validation or the test
    part, with the longest answer after it, is longer than the model can read."""
    if "rating" in run.served:
        check_ratings(run.context.rating_texts, backbone)
    if backbone.positions is None:
        return
    names = backbone.encode_names([run.index.segments(item) for item in run.index.item_ids])
    for name, task in run.served.items():
        longest = int(names.lengths.max())
        if name == "rating":
            longest = max(len(backbone.tokens(text, False)) for text in run.context.rating_texts.values())
        for prompts in _prompts(run.split, name, task):
            # the answer's last token is decoded, not read
            check_lengths(prompts, backbone, run.experiment, answer=longest - 1)


def check_written(run: Run, backbone: Backbone) -> None:
    """Raises SettingsError where a sample in the run's files is longer than the model can read."""
    if backbone.positions is not None:
        for epoch in range(run.experiment.training.epochs):
            for samples in row_groups(run.folder.epoch(epoch)):
                check_lengths(samples, backbone, run.experiment)


def check_ratings(texts: dict[float, str], backbone: Backbone) -> None:
    """Raises SettingsError where the texts of two rating values are the same tokens."""
    rows = backbone.encode_names([[Segment(text)] for text in texts.values()])
    if pair := alike(rows):
        one, other = (list(texts)[position] for position in sorted(pair))
        raise SettingsError(
            f"the rating values {one:g} and {other:g} are the same tokens to this tokenizer, which could not "
            "tell them apart; leave the rating column out of the interactions and choose another --out, or "
            "choose a pretrained model whose tokenizer reads numbers."
        )


def check_lengths(samples: Samples, backbone: Backbone, experiment: Experiment, answer: int = 0) -> None:
    """Raises SettingsError where a sample, with `answer` tokens
    after it, is longer than the model can read at once."""
    if backbone.positions is None or not len(samples):
        return
    lengths = np.array([len(sample) for sample in backbone.encode_samples(samples)]) + answer
    position = int(lengths.argmax())
    if lengths[position] <= backbone.positions:
        return
    task, tasks = samples[position].task, np.array(samples.tasks())
    shortest = int(lengths[tasks == task].min())
    too_long = sorted(set(tasks[lengths > backbone.positions].tolist()))
    histories = {name: experiment.tasks[name] for name in too_long}
    settings = [
        f"tasks.{name}.max_history ({of_task.max_history})"
        for name, of_task in histories.items()
        if of_task.max_history > _least(of_task, "max_history")
    ]
    ways = [" and ".join(settings)] if settings else []
    if experiment.text.max_characters > _least(experiment.text, "max_characters"):
        ways.append(f"text.max_characters ({experiment.text.max_characters})")
    shorter = f"lower {', or '.join(ways)}"
    if not ways:
        shorter = f"give shorter templates (tasks.{task}.templates)"
    if shortest > backbone.positions:  # whatever is left out of it
        shorter = f"even the shortest has {shortest}, so give shorter templates (tasks.{task}.templates)"
    with_answer = " with its answer" if answer else ""
    raise SettingsError(
        f'the longest sample of the task "{task}" has {lengths[position]} tokens{with_answer}, and the '
        f'model "{experiment.pretrained.name}" has positions for {backbone.positions}; {shorter}, or choose '
        "a model with more positions."
    )


def _least(settings: Settings, name: str) -> int:
    """The lowest value that a setting takes."""
    bounds = (getattr(bound, "ge", None) for bound in type(settings).model_fields[name].metadata)
    return next(int(bound) for bound in bounds if bound is not None)


def alike(names: Ragged) -> tuple[int, int] | None:
    """Two rows of which one is the other or a prefix of it, None where there are none. In sorted order such
    rows are neighbours: [1], [1, 2], [2]."""
    rows = [names[row].tolist() for row in range(len(names))]
    order = sorted(range(len(rows)), key=rows.__getitem__)
    pairs: Sequence[tuple[int, int]] = list(zip(order, order[1:], strict=False))
    return next(((one, other) for one, other in pairs if rows[other][: len(rows[one])] == rows[one]), None)


def _prompts(split: Split, name: str, task: ServedTask) -> Iterator[Samples]:
    """The prompts of both parts that the finished model will read, in a seen and a held-out template."""
    requests_of = {
        "retrieval": split.retrieval_requests,
        "ranking": split.ranking_requests,
        "rating": split.rating_requests,
    }[name]
    for part in ("validation", "test"):
        requests, _ = requests_of(part)
        for template in (*task.seen[:1], *task.held_out[:1]):
            yield task.prompts(requests, template)


def meta_backbone(run: Run) -> Backbone | None:
    """The pretrained model on the meta device, without its weights; None where the nano model is trained."""
    if not run.experiment.pretrained.name:
        return None
    from shelftalk.models.pretrained import meta_model

    return meta_model(run.experiment.pretrained, symbols(run))
