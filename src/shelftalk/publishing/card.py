"""The model card: the report of a run in short, for users of the model who do not have the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shelftalk.experiment import Experiment
from shelftalk.recommender import ALIGNED, ALIGNED_WITH_PRIOR
from shelftalk.report import numbers, tables
from shelftalk.report.content import Fact, ModelRow, ReportContent, TaskResults
from shelftalk.report.markdown import escaped, markdown_table
from shelftalk.report.summary import summary
from shelftalk.report.tables import Cell, Table

VERSIONS = ("shelftalk", "python", "torch", "transformers", "tokenizers")
CONTENTS = (
    "Weights, tokenizer, item names, settings and templates, and the catalogue's ids and texts "
    "(`catalogue.parquet`), which prompts and filters need. No history and no id of any user. What a "
    "training has seen can be partly read out of its weights."
)
LICENCE = (
    "None is named here, since it is not shelftalk's to give: add `license:` to the first lines of this page."
    " The texts of the items belong to whoever made the catalogue, and terms of the data may bind the model "
    "too."
)
MOVIELENS = (
    "MovieLens may not be redistributed, nor used commercially, without permission: see its terms before this"
    " folder is given away."
)
USE = """\
```python
import shelftalk

model = shelftalk.load({folder})
model.recommend({history}, k=10)
```"""
CONTENTS_WITH_PRIOR = (
    "Weights, tokenizer, item names, settings and templates, the catalogue's ids and texts "
    "(`catalogue.parquet`), which prompts and filters need, and the prior (`prior/`): numbers that were "
    "counted in who took what with what. No history and no id of any user; but where few people took an item,"
    " such counts can tell what one of them took. What a training has seen can be partly read out of its "
    "weights, too."
)
WHICH_MODEL_WITH_PRIOR = (
    'This folder holds its prior and answers as "aligned+prior" in the tables below; of a person whose '
    "ratings the run knew, the prior of ratings reads those in the request alone."
)
WHICH_MODEL = (
    'This folder answers as "aligned" in the tables below. "aligned+prior", where it is listed, also needs '
    "its priors, which depend on the interactions and are not part of this folder."
)
CATALOGUE_ONLY = "It recommends only the items of its catalogue."


def model_card(
    content: ReportContent,
    experiment: Experiment,
    history: Iterable[str],
    folder: str,
    repository: str | None = None,
    with_prior: bool = False,
) -> str:
    """README.md of a published folder: front matter for a hub, then use, results, limits, data and model.

    `history`: some item ids for the example, which opens `folder`, or `repository` on a hub where one is
    named. `with_prior`: the folder holds the prior.
    """
    example = USE.format(folder=repr(repository or folder), history=repr(list(history)))
    backbone = {
        "backbone": (
            str(content.model["backbone"]).replace(
                experiment.pretrained.name, plain_name(experiment.pretrained.name)
            )
        )
    }
    sections = (
        [
            f"# {escaped(content.title)}",
            *(f"> **Warning:** {escaped(sentence, 600)}" for sentence in content.warnings),
            _introduction(content),
        ],
        ["## Use", example],
        [
            "## Results",
            WHICH_MODEL_WITH_PRIOR if with_prior else WHICH_MODEL,
            escaped(summary(content), 2000),
            *(block for task in content.tasks for block in _task(task)),
        ],
        ["## Limits", _bullets([CATALOGUE_ONLY, *content.left_out, *tables.caveats(content)])],
        ["## Data", _facts(content.data), *([MOVIELENS] if experiment.data.bundled_name else [])],
        [
            "## The model",
            _facts({**content.model, **backbone}),
            *([_bullets(content.chosen)] if content.chosen else []),
        ],
        ["## What is in this folder", CONTENTS_WITH_PRIOR if with_prior else CONTENTS],
        ["## Licence", LICENCE],
        [
            "## Versions",
            _facts({label: content.machine[label] for label in VERSIONS if label in content.machine}),
        ],
    )
    text = "\n\n".join(block for section in sections for block in section)
    answers_as = ALIGNED_WITH_PRIOR if with_prior else ALIGNED
    return f"---\n{_front_matter(content, experiment, answers_as)}\n---\n\n{text}\n"


def base_model(experiment: Experiment) -> str | None:
    """The hub's name of the model that training started from; None for the nano model, random weights, or a
    model from a folder or file."""
    name = experiment.pretrained.name
    return name if name and not experiment.pretrained.random_weights and plain_name(name) == name else None


def plain_name(name: str) -> str:
    """Only the last part of a path of this machine; anything else, such as the name of a model on
    a hub, unchanged."""
    path = Path(name)
    return path.name if path.is_absolute() or path.exists() or name.startswith((".", "~")) else name


def _front_matter(content: ReportContent, experiment: Experiment, answers_as: str = ALIGNED) -> str:
    """Of the model that the folder answers as. The data set is named with the results and not under
    `datasets:`, which takes only names of the hub."""
    from huggingface_hub import ModelCardData

    return ModelCardData(
        library_name="transformers",
        tags=["shelftalk", "recommendation", "generative-recommendation"],
        base_model=base_model(experiment),
        model_name=content.title,
        eval_results=[result for task in content.tasks for result in _results(content, task, answers_as)]
        or None,
    ).to_yaml()


def _results(content: ReportContent, task: TaskResults, answers_as: str) -> list[Any]:
    """The figures of the published model for the model index; their names include the intervals."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=task.task,
            task_name=task.task,
            dataset_type=numbers.shorten(_source(content)),
            dataset_name=numbers.shorten(_source(content)),
            dataset_split=(f"test of a {content.split_name}" if content.split_name else "test"),
            metric_type=metric,
            metric_name=_name_with_interval(row, metric),
            metric_value=round(value, 6),
        )
        for row in task.rows
        if row.model == answers_as
        for metric, value in row.metrics.items()
        if value is not None and numbers.known(value)
    ]


def _name_with_interval(row: ModelRow, metric: str) -> str:
    ends = numbers.interval(row.intervals.get(metric))
    return numbers.metric_name(metric) + (f", 95 % interval {ends}" if ends else "")


def _introduction(content: ReportContent) -> str:
    return (
        "A language model that recommends: it answers with items of one catalogue and with nothing else. "
        f"Made by shelftalk {content.version}, seed {content.seed}, from {escaped(_source(content))}; this "
        f"card was written by the program on {content.when}."
    )


def _source(content: ReportContent) -> str:
    return str(content.data["source"])


def _task(task: TaskResults) -> list[str]:
    means = f"{task.protocol} Means over {numbers.count(task.n)} {task.unit}, 95 % intervals in brackets."
    return [
        f"### {escaped(numbers.title(task.task))}",
        escaped(means, 800),
        markdown_table(tables.result_table(task)),
    ]


def _facts(facts: Mapping[str, Fact]) -> str:
    return markdown_table(
        Table(
            ("fact", "value"),
            tuple((Cell(label), Cell(value)) for label, value in tables.facts(facts)),
            words=2,
        )
    )


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {escaped(sentence, 600)}" for sentence in sentences)
