"""Sections beside a run's results: published numbers under the same protocol and others, held-out templates,
search error, and the facts of the certificate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from shelftalk.data.splitting import Split
from shelftalk.decoding.settings import DecodingSettings
from shelftalk.evaluation.evaluator import summarise
from shelftalk.evaluation.held_out_templates import RATINGS, TEMPLATES, USERS
from shelftalk.evaluation.significance import intervals_side_by_side, paired_difference
from shelftalk.experiment import Experiment
from shelftalk.recommender import ALIGNED, TaskName, is_refit
from shelftalk.report import ledger, numbers
from shelftalk.report.content import (
    CHANGE,
    THIS_RUN,
    CertifiedFact,
    ElsewhereRow,
    ElsewhereTable,
    ModelRow,
    PublishedRow,
    PublishedTable,
    SearchErrorRow,
    TaskResults,
    TemplateRow,
)
from shelftalk.report.ledger import PRINTED, Convention, Published, SplitFacts, Ties, facts_of, matching
from shelftalk.runtime.run_folder import RunFolder, read_signed

NONE_PUBLISHED = "There are no published numbers under this protocol for this data set."
PUBLISHED = (
    "Data set, split, the item tested, the order of ties, candidates, seen items, convention and metrics "
    "agree with this run's. Publications may have chosen their models by another validation practice than "
    "ours. Their figures come without per-user values, so that no difference from them can be tested."
)
LEAKING = " Models of this run that read the leaking item index are left out."
CONVENTIONS: dict[Convention, str] = {
    "train-only": "models saw the training part alone",
    "refit": "after choosing on validation, models were trained again on training and validation",
}
SHUFFLED = "shuffled"
TEMPLATE_METRICS: dict[TaskName, tuple[str, ...]] = {
    "retrieval": ("recall@10", "ndcg@10"), "ranking": ("hr@1", "ndcg@10"), "rating": ("rmse", "mae"),
}  # fmt: skip


def ties_of(ordered_by: str, wanted: str = "published") -> Ties:
    """What orders events of one time in a run: the positions of the published file, or a seeded hash;
    `wanted` is the setting of the split."""
    return "published order" if ordered_by.startswith("position") and wanted != SHUFFLED else "shuffled"


def published(
    split: Split, tasks: Sequence[TaskResults], leaks: bool, ties: Ties = "unknown"
) -> tuple[tuple[PublishedTable, ...], str]:
    """Tables of this run beside publications, and how to read them. With an index that leaks, only the run's
    baselines are shown."""
    facts = facts_of(split, ties)
    conventions: tuple[Convention, ...] = ("train-only", "refit")
    tables = [
        _published_table(facts, task, convention, leaks) for task in tasks for convention in conventions
    ]
    shown = tuple(table for table in tables if table is not None)
    return shown, PUBLISHED + (LEAKING if leaks else "") if shown else NONE_PUBLISHED


def elsewhere(
    split: Split, tasks: Sequence[TaskResults], ties: Ties = "unknown"
) -> tuple[ElsewhereTable, ...]:
    """Published figures of the same data on other or unknown terms, task by task."""
    facts = facts_of(split, ties)
    return tuple(
        _elsewhere_table(rows, facts, task.task)  # type: ignore[arg-type]
        for task in tasks
        if (rows := ledger.elsewhere(facts, task.task))  # type: ignore[arg-type]
    )


def _elsewhere_table(rows: Sequence[Published], facts: SplitFacts, task: TaskName) -> ElsewhereTable:
    divided = facts.ratings if task == "rating" else facts.events
    ours = (divided, "last", facts.ties, ledger.OURS[task], "left out", "train-only", "1", "yes")
    metrics = [metric for row in rows for metric in row.metrics]
    return ElsewhereTable(
        task, rows[0].dataset.title, ours, tuple(dict.fromkeys(metrics)), tuple(map(_row_elsewhere, rows))
    )


def _row_elsewhere(row: Published) -> ElsewhereRow:
    seeds, verified = str(row.seeds or "unknown"), "yes" if row.verified else "no"
    terms = (row.split, row.tested, row.ties, row.candidates, row.seen, row.convention, seeds, verified)
    return ElsewhereRow(row.model, row.source, row.metrics, terms, row.why)


def _published_table(
    facts: SplitFacts, task: TaskResults, convention: Convention, leaks: bool
) -> PublishedTable | None:
    """The run's rows, then the published ones; None where either has none."""
    theirs = matching(facts, task.task, convention)  # type: ignore[arg-type]
    ours = [
        row
        for row in task.rows
        if is_refit(row.model) == (convention == "refit")
        and (row.baseline or not leaks)
        and not row.imported  # what it was trained on is not known
    ]
    if not (theirs and ours):
        return None
    return PublishedTable(
        task=task.task,
        dataset=theirs[0].dataset.title,
        protocol=(
            f"{numbers.title(task.task)}, {theirs[0].split}, candidates: {theirs[0].candidates}; "
            f"{CONVENTIONS[convention]}."
        ),
        metrics=PRINTED,
        rows=(*map(_our_row, ours), *map(_their_row, theirs)),
    )


def _our_row(row: ModelRow) -> PublishedRow:
    metrics = {metric: row.metrics[metric] for metric in PRINTED if metric in row.metrics}
    return PublishedRow(
        row.model, THIS_RUN, metrics, {metric: row.intervals.get(metric) for metric in metrics}
    )


def _their_row(row: Published) -> PublishedRow:
    return PublishedRow(
        row.model, row.source, {metric: row.metrics[metric] for metric in PRINTED if metric in row.metrics}
    )


def held_out_templates(folder: RunFolder, experiment: Experiment) -> tuple[tuple[TemplateRow, ...], str]:
    """The language model with a seen and a held-out template, the paired change, and a sentence on which
    requests were evaluated."""
    if not experiment.evaluation.held_out_templates:
        return (), ""
    path = folder.evaluation("held_out_templates")
    answered = folder.needed(f"recommend.{ALIGNED}").facts["tasks"]
    if not path.exists():
        return (), _without(answered, experiment)
    table = pl.read_parquet(path, glob=False)
    tasks = table["task"].unique(maintain_order=True).to_list()
    rows = tuple(
        row
        for task in tasks
        for row in _template_rows(task, table.filter(pl.col("task") == task), experiment)
    )
    ranking_note = ""
    if "ranking" in tasks and experiment.decoding.ranking_prompt == "retrieval":
        ranking_note = (
            " Ranking scores its candidates after the retrieval prompt, so the template of retrieval changes."
        )
    lacking = _without([task for task in answered if task not in tasks], experiment)
    note = (
        f"Validation part, at most {USERS:,} users and {RATINGS:,} of their ratings, drawn by the run's "
        "seed; the change is paired by user, with its 95 % interval."
    )
    return rows, f"{note}{ranking_note}{lacking and ' '}{lacking}"


def _without(tasks: Sequence[str], experiment: Experiment) -> str:
    """The sentence on tasks without a held-out template, and the prompts that lack it; "" for none."""
    prompt_of = {"ranking": experiment.decoding.ranking_prompt}
    prompts = list(dict.fromkeys(prompt_of.get(task, task) for task in tasks))
    if not prompts:
        return ""
    templates = f"the templates of {' and '.join(prompts)} hold none out"
    return f"There is no held-out template for {' and '.join(tasks)}: {templates}."


def _template_rows(task: TaskName, table: pl.DataFrame, experiment: Experiment) -> list[TemplateRow]:
    metrics, resamples, seed = [*TEMPLATE_METRICS[task]], experiment.evaluation.resamples, experiment.seed
    frames = {templates: table.filter(pl.col("templates") == templates) for templates in TEMPLATES}
    intervals = intervals_side_by_side(frames, metrics, resamples, seed)
    name, seen = f"{task} (validation part)", frames["seen"]
    rows = []
    for templates, frame in frames.items():
        figures = summarise(frame, task)
        ends = {metric: intervals[templates][metric] for metric in metrics}
        rows.append(
            TemplateRow(
                name, ALIGNED, templates, frame.height, {metric: figures[metric] for metric in metrics}, ends
            )
        )
    changes = {
        metric: paired_difference(frames["held out"], seen, metric, resamples, seed=seed)
        for metric in metrics
    }
    values = {metric: change.value for metric, change in changes.items()}
    bounds = {metric: (change.low, change.high) for metric, change in changes.items()}
    return [*rows, TemplateRow(name, ALIGNED, CHANGE, seen.height, values, bounds)]


def search_error(folder: RunFolder, experiment: Experiment) -> tuple[tuple[SearchErrorRow, ...], str]:
    """Beams against the model's true top 10, and how to read it; nothing where it was not measured."""
    path = folder.evaluation("search_error")
    if not path.exists():
        return (), ""
    table = pl.read_parquet(path, glob=False)
    known = table.filter("proven")
    searches = known.select("beams", "finish").unique(maintain_order=True)
    rows = tuple(
        _search_error_row(known.filter(beams=beams, finish=finish)) for beams, finish in searches.iter_rows()
    )
    sentences = [
        f"{numbers.count(table['user'].n_unique())} users of the validation part, drawn by the run's seed, "
        "answered by beams and by exact search, which finds the ten items that the model itself scores "
        "highest. Names of one symbol are one step, which any ten beams find; the largest gap is that of the "
        "worst request, between its tenth item and the true tenth."
    ]
    if unknown := table.filter(~pl.col("proven"))["user"].n_unique():
        sentences.append(
            f"For {numbers.count(unknown)} of them it met its limit before it was done: they are left out."
        )
    return rows, " ".join([*sentences, *_reading(rows, experiment.decoding)])


def _search_error_row(table: pl.DataFrame) -> SearchErrorRow:
    """One setting of the search, over the requests whose true top 10 is known."""
    missing, shortfall = table["missing"].to_numpy(), float(table["shortfall"].to_numpy().max())
    differing = float((missing > 0).mean())
    return SearchErrorRow(
        table["beams"][0], table["finish"][0], table.height, differing, float(missing.mean()) / 10, shortfall
    )


def _reading(rows: Sequence[SearchErrorRow], settings: DecodingSettings) -> list[str]:
    """A sentence on the search settings of this run."""
    if settings.search == "exact":
        return ["This run's own answers are exact."]
    penalty = " (before its length penalty)" if settings.length_penalty else ""
    return [
        f'This run\'s search{penalty}, {row.beams} beams with finish = "{row.finish}", finds another top 10 '
        f"for {numbers.percent(row.differing)} of them and misses {numbers.percent(row.missing)} of the true "
        "items."
        for row in rows
        if (row.beams, row.finish) == (max(10, settings.beams), settings.finish)
    ]


def certified(folder: RunFolder) -> tuple[str, tuple[CertifiedFact, ...]]:
    """The fingerprint of the certificate and its facts; "" and none where the run has none. Raises
    ChangedFile for one that is not as it was written."""
    record = folder.check("certify")
    if record is None:
        return "", ()
    facts = read_signed(folder.certificate)["facts"]
    return record.facts["certificate"], tuple(
        CertifiedFact(
            fact["name"], fact["checked"], ", ".join(_plain(fact["value"])), fact["holds"], fact["how"]
        )
        for fact in facts
    )


def _plain(value: Any) -> Iterator[str]:
    """The figures of a fact as words; what has tables of its own is left to the file."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(inner, Mapping) and all(isinstance(one, int) for one in inner.values()):
                yield f"{name} " + " and ".join(f"{key} {one:,}" for key, one in inner.items())
            elif isinstance(inner, str | int | float):
                shown = f"{inner:,}" if isinstance(inner, int) else str(inner)
                yield f"{name} {shown[:12] + '…' if name == 'sha256' else shown}"
            elif isinstance(inner, list) and inner and all(isinstance(one, str) for one in inner):
                yield f"{name}: {' '.join(inner)}"
