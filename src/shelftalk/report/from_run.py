"""From the files of a finished run to the content of its report."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from shelftalk import __version__, seeds
from shelftalk.data.splitting import Split
from shelftalk.evaluation.beyond_accuracy import LIST_METRICS
from shelftalk.evaluation.comparison import COMPARED
from shelftalk.evaluation.metrics import LIST_LENGTH, metric_names
from shelftalk.evaluation.multiple_testing import CORRECTION_NAMES
from shelftalk.pipeline.imported_answers import sentences_on_imported
from shelftalk.pipeline.run import Run
from shelftalk.recommender import ALIGNED, ALIGNED_WITH_PRIOR, is_refit
from shelftalk.records import Request, Sample
from shelftalk.report import extra_sections, run_facts
from shelftalk.report.ablations import ablations
from shelftalk.report.content import (
    CurvePoint,
    Difference,
    Interval,
    Link,
    ModelRow,
    QualityPoint,
    Recommendation,
    ReportContent,
    SearchErrorRow,
    ShownSample,
    ShownUser,
    SliceRow,
    Stage,
    TaskResults,
    TemplateRow,
)
from shelftalk.report.costs import costs
from shelftalk.runtime.run_folder import RunFolder, StageRecord
from shelftalk.tasks.samples import Samples, row_groups

PLOTTED = {
    "retrieval": ("recall@10", "recall@20", "ndcg@10"),
    "ranking": ("hr@1", "hr@10", "ndcg@10"),
    "rating": ("rmse", "mae"),
}
FIRST_PAIRS = (
    (ALIGNED_WITH_PRIOR, "fusion"),
    (ALIGNED_WITH_PRIOR, "svd_plus_plus"),
    (ALIGNED_WITH_PRIOR, "item_knn"),
    (ALIGNED_WITH_PRIOR, "bias"),
    (ALIGNED, "item_knn"),
    (ALIGNED, "bias"),
    (ALIGNED, "popularity"),
    (ALIGNED, "global_mean"),
    (ALIGNED_WITH_PRIOR, ALIGNED),
)
"""The comparisons that matter, first to last; the others follow. Fixed before any result was seen, but for
the first two, which came with stronger baselines. The first that there is makes the first sentence."""
REFERENCES = ("item_knn", "bias")
"""The baselines that every other model of their tasks is compared with first."""
SIMPLEST = ("popularity", "global_mean")
"""What is the second of any comparison, so that a page is about the other model."""
SHOWN_MODELS = (ALIGNED, "item_knn", "popularity")
"""The model whose lists are shown: the first of these that was evaluated, else the first that retrieves."""
SUMMED_LOSS = "sum by which the checkpoint was kept"
SHOWN_HISTORY, SHOWN_TOP = 8, 5
EARLY_SAMPLES = 40
LINKS = (
    ("All metrics with intervals", "metrics.json"),
    ("Times and memory by model", "costs.json"),
    ("This report as text", "report.md"),
    ("This report as data", "report.json"),
    ("The experiment, every setting resolved", "experiment.toml"),
    ("Per user: retrieval", "evaluation/retrieval.parquet"),
    ("Per user: ranking", "evaluation/ranking.parquet"),
    ("Per rating: rating", "evaluation/rating.parquet"),
    ("Slices", "evaluation/slices.parquet"),
    ("Paired differences", "evaluation/differences.parquet"),
    ("Per list: what is beside accuracy", "evaluation/lists.parquet"),
    ("In how many lists each item is", "evaluation/recommended.parquet"),
    ("Seen and held-out templates", "evaluation/held_out_templates.parquet"),
    ("Beams against the true top 10", "evaluation/search_error.parquet"),
    ("Every evaluation of the test part", "evaluation/test_evaluations.jsonl"),
    ("The certificate: what was checked", "certificate.json"),
    ("Names of the items", "item_index.parquet"),
    ("Samples of the first epoch", "samples/epoch-0000.parquet"),
)


def content_of(run: Run) -> ReportContent:
    """The whole report of a run. Raises StageMissing where a stage that it describes was not run."""
    experiment, folder = run.experiment, run.folder
    prepare, records = folder.needed("prepare"), _records(run)
    trained = (
        {name: folder.needed(name) for name in ("index", "write", "train")}
        if experiment.needs_training
        else {}
    )
    metrics = json.loads(folder.metrics.read_text("utf-8"))
    tasks = tuple(_task(run, task, metrics[task]) for task in COMPARED if task in metrics)
    warnings = tuple(record.facts["warning"] for record in records if record.facts.get("warning"))
    certificate, facts = extra_sections.certified(folder)
    ordered_by = prepare.facts["data"]["ordered_by"]
    ties = extra_sections.ties_of(ordered_by, experiment.split.ties)
    published, published_note = extra_sections.published(run.split, tasks, bool(warnings), ties)
    cost_rows, costs_note = costs(run, {task.task: task.n for task in tasks})
    templates: tuple[TemplateRow, ...] = ()
    search_error: tuple[SearchErrorRow, ...] = ()
    templates_note = search_error_note = ""
    if ALIGNED in experiment.models:
        templates, templates_note = extra_sections.held_out_templates(folder, experiment)
        search_error, search_error_note = extra_sections.search_error(folder, experiment)
    return ReportContent(
        title=experiment.name,
        when=f"{datetime.now(UTC):%-d %B %Y, %H:%M} UTC",
        seed=experiment.seed,
        version=__version__,
        command=_command(folder),
        data=run_facts.data_facts(
            prepare.facts["data"], run.split.protocol, len(run.split.evaluated_users("test"))
        ),
        data_notes=tuple(prepare.facts["data"].get("notes", ())),
        data_probes=tuple(probe["sentence"] for probe in prepare.facts.get("probes", ())),
        machine=run_facts.machine_facts(records),
        settings=experiment.toml(),
        scheme=run.split.scheme,
        split_name="" if run.split.protocol.is_usual else run.split.protocol.name,
        split_note=run.split.protocol.note,
        left_out=tuple(sentence for record in records for sentence in record.facts.get("left_out", ())),
        model=run_facts.model_facts(**trained) if trained else {},
        stages=tuple(
            Stage(record.name.replace("recommend.", "recommend "), record.seconds) for record in records
        ),
        tasks=tasks,
        warnings=warnings,
        published=published,
        published_note=published_note,
        elsewhere=extra_sections.elsewhere(run.split, tasks, ties),
        chosen=tuple(sentence for record in records for sentence in record.facts.get("chosen", ())),
        costs=cost_rows,
        costs_note=costs_note,
        ablations=ablations(folder.path),
        correction=CORRECTION_NAMES[experiment.evaluation.correction],
        slices=_slices(run),
        curves=_curves(trained["train"], experiment.tasks) if trained else (),
        quality=_quality(trained["train"]) if trained else (),
        best_step=trained["train"].facts["best_step"] if trained else None,
        samples=_samples(run) if trained else (),
        users=_users(run),
        users_note=_users_note(run),
        held_out_templates=templates,
        held_out_templates_note=templates_note,
        search_error=search_error,
        search_error_note=search_error_note,
        caveats=(
            *(sentence for record in records for sentence in sentences_on_imported(record)),
            *_caveats(run, [task.task for task in tasks], trained),
        ),
        test_evaluations=folder.test_evaluations(),
        certificate=certificate,
        facts=facts,
        links=_links(folder),
    )


def _caveats(run: Run, tasks: Sequence[str], trained: Mapping[str, StageRecord]) -> tuple[str, ...]:
    experiment = run.experiment
    return tuple(
        run_facts.caveats(
            run.folder.needed("prepare").facts["data"],
            tasks,
            bool(trained),
            experiment.split.ranking_negatives,
            pretrained=bool(experiment.pretrained.name),
            symbols=bool(trained) and trained["index"].facts["symbols in the vocabulary"] > 0,
            divided=run.split.protocol,
            refitted=any(map(is_refit, experiment.models)),
        )
    )


def _links(folder: RunFolder) -> tuple[Link, ...]:
    return tuple(
        Link(label, path)
        for label, path in LINKS
        if path.startswith("report.") or (folder.path / path).exists()
    )


def _records(run: Run) -> list[StageRecord]:
    """The manifests of this run's stages, in the order in which they ran."""
    names = ["prepare", *(("index", "write", "train") if run.experiment.needs_training else ())]
    names += [f"recommend.{name}" for name in run.models] + ["evaluate"]
    return [record for name in names if (record := run.folder.record(name)) is not None]


def _command(folder: RunFolder) -> str:
    again = folder.path.with_name(f"{folder.path.name}-again")
    return f"shelftalk run {shlex.quote(str(folder.experiment))} --out {shlex.quote(str(again))}"


# --- results ---


def _task(run: Run, task: str, metrics: Mapping[str, Any]) -> TaskResults:
    models = [name for name in metrics if not name.endswith(".ci")]
    shown = metric_names(task)  # type: ignore[arg-type]
    imported = run.folder.imported_models()
    rows, of_lists = (
        tuple(_row(name, metrics, columns, name in imported) for name in models)
        for columns in (shown, LIST_METRICS)
    )
    per_user = pl.read_parquet(run.folder.evaluation(task), columns=["model"], glob=False)
    protocol = run_facts.protocol(
        task, run.experiment.split, len(run.split.dataset.items), run.split.protocol
    )
    refitted = any(is_refit(row.model) for row in rows)
    return TaskResults(
        task=task,
        rows=rows,
        main_metric=COMPARED[task][0],  # type: ignore[index]
        plotted=PLOTTED[task],
        n=per_user.filter(pl.col("model") == rows[0].model).height,
        unit="ratings" if task == "rating" else "users" if run.split.protocol.last == 1 else "requests",
        protocol=f"{protocol} {run_facts.REFITTED}" if refitted else protocol,
        differences=_differences(run.folder, task),
        of_lists=tuple(row for row in of_lists if row.metrics),
    )


def _row(model: str, metrics: Mapping[str, Any], columns: Sequence[str], imported: bool) -> ModelRow:
    """Of the `columns` those that were measured, without NDCG@1: with one relevant item it is the hit rate
    at 1."""
    of_model, ends = metrics[model], metrics[f"{model}.ci"]
    shown = {metric: of_model[metric] for metric in columns if metric in of_model and metric != "ndcg@1"}
    intervals = {metric: (low, high) for metric, (low, high) in ends.items() if metric in shown}
    return ModelRow(model, shown, intervals, model not in (ALIGNED, ALIGNED_WITH_PRIOR), imported)


def _differences(folder: RunFolder, task: str) -> tuple[Difference, ...]:
    """Every pair with the language model first, in the order of FIRST_PAIRS."""
    frame = pl.read_parquet(folder.evaluation("differences"), glob=False).filter(pl.col("task") == task)
    columns = ("first", "second", "metric", "value", "low", "high", "p", "p_adjusted", "smallest_effect")
    present = [column for column in columns if column in frame.columns]  # earlier versions lack the last two
    differences = [_oriented(Difference(**row)) for row in frame.select(present).iter_rows(named=True)]
    metrics = COMPARED[task]  # type: ignore[index]
    return tuple(sorted(differences, key=lambda row: (metrics.index(row.metric), _pair_order(row))))


def _oriented(difference: Difference) -> Difference:
    """The difference with the language model first and the simplest models last, in whatever order the models
    were named; other baselines stay in that order."""
    order = {ALIGNED_WITH_PRIOR: 0, ALIGNED: 1, **dict.fromkeys(SIMPLEST, 3)}
    if order.get(difference.first, 2) <= order.get(difference.second, 2):
        return difference
    value, low, high = (
        None if n is None else -n for n in (difference.value, difference.high, difference.low)
    )
    return replace(
        difference, first=difference.second, second=difference.first, value=value, low=low, high=high
    )


def _pair_order(difference: Difference) -> int:
    """FIRST_PAIRS, then the others with a reference, then all others."""
    pair = (difference.first, difference.second)
    if pair in FIRST_PAIRS:
        return FIRST_PAIRS.index(pair)
    return len(FIRST_PAIRS) + (not {*pair} & {*REFERENCES})


def _slices(run: Run) -> tuple[SliceRow, ...]:
    rows = pl.read_parquet(run.folder.evaluation("slices"), glob=False).iter_rows(named=True)
    return tuple(
        SliceRow(
            row["task"],
            row["slice_kind"],
            row["slice"],
            row["users"],
            row["model"],
            _measured(row),
            _bounds(row),
        )
        for row in sorted(rows, key=_slice_order)
    )


def _slice_order(row: Mapping[str, Any]) -> tuple[int, str, int]:
    """By task and kind, bins ascending, "never seen" before any count; the sort is stable, so models
    stay in order."""
    start = row["slice"].partition(" ")[0].partition("-")[0]
    return list(COMPARED).index(row["task"]), row["slice_kind"], int(start) if start.isdigit() else -1


def _measured(row: Mapping[str, Any]) -> dict[str, float]:
    return {metric: row[metric] for metric in metric_names(row["task"])}


def _bounds(row: Mapping[str, Any]) -> dict[str, Interval | None]:
    """The intervals there are: none where all users of the slice are alike, nor in folders
    of version 0.1.0."""
    measured = [metric for metric in COMPARED[row["task"]] if row.get(f"{metric}.low") is not None]
    return {metric: (row[f"{metric}.low"], row[f"{metric}.high"]) for metric in measured}


# --- training ---


def _curves(train: StageRecord, tasks: Iterable[str]) -> tuple[CurvePoint, ...]:
    """The mixture, then task by task; last the sum over tasks by which the checkpoint was kept."""
    points = [_point(row) for row in train.facts["curve"]]
    order = ["all", *tasks, *sorted({point.task for point in points})]
    return tuple(sorted(points, key=lambda point: order.index(point.task)))


def _point(row: Mapping[str, Any]) -> CurvePoint:
    summed = row["task"] == "all" and row["part"] == "validation"
    return CurvePoint(
        row["step"], row["tokens"], SUMMED_LOSS if summed else row["task"], row["part"], row["loss"]
    )


def _quality(train: StageRecord) -> tuple[QualityPoint, ...]:
    """The compared metrics and the one that chose the checkpoint; folders of version 0.1.0 have none."""
    shown = (*COMPARED["retrieval"], run_facts.best_by(train))
    rows = [row for row in train.facts.get("quality", ()) if row["metric"] in shown]
    return tuple(QualityPoint(row["step"], row["tokens"], row["metric"], row["value"]) for row in rows)


def _samples(run: Run) -> tuple[ShownSample, ...]:
    """Of each task, one of the first samples of the first epoch, rather short and with items'
    texts if any."""
    by_task: dict[str, Samples] = {}
    trained = {name for name, settings in run.experiment.tasks.items() if settings.weight > 0}
    for samples in row_groups(run.folder.epoch(0)):
        for task in samples.counts().keys() - by_task.keys():
            by_task[task] = samples.take(samples.positions(task)[:EARLY_SAMPLES])
        if trained <= by_task.keys():
            break
    order = [*run.experiment.tasks, *by_task]
    shown = [_readable(by_task[task], run.split) for task in dict.fromkeys(order) if task in by_task]
    return tuple(ShownSample(sample.task, sample.template, sample.segments) for sample in shown)


def _readable(samples: Sequence[Sample], split: Split) -> Sample:
    """Of the samples that show an item's title (else of all), the one at the first quartile by length."""
    titled = [
        sample for sample in samples if any(_begins_title(item, sample, split) for item in sample.items)
    ]
    by_length = sorted(titled or samples, key=lambda sample: len(sample.text))
    return by_length[len(by_length) // 4]


def _begins_title(item: str, sample: Sample, split: Split) -> bool:
    title = split.dataset.item(item).title[:20].strip()  # the text beside a name may be cut after that
    return bool(title) and title in sample.text


# --- users ---


def _shown_model(run: Run) -> str | None:
    """The model whose lists are shown, or None where no model retrieves."""
    retrieving = [name for name in run.models if run.folder.ranking("retrieval", name).exists()]
    return next((name for name in (*SHOWN_MODELS, *retrieving) if name in retrieving), None)


def _users(run: Run) -> tuple[ShownUser, ...]:
    """Users drawn by seed, not chosen by their results."""
    model = _shown_model(run)
    if model is None:
        return ()
    asked = len(run.split.held_out_events("test"))
    drawn = seeds.generator(run.experiment.seed, "shown users").permutation(asked)
    positions = drawn[: run.experiment.evaluation.shown_users].tolist()
    # these alone, since there may be a million others
    shown = zip(*run.split.retrieval_requests("test", positions), strict=True)
    rankings = _rows(run.folder.ranking("retrieval", model), positions)
    noun = run.experiment.data.nouns.person.capitalize()
    return tuple(
        _user(run.split, f"{noun} {number}", model, request, truth, ranking)
        for number, ((request, truth), ranking) in enumerate(zip(shown, rankings, strict=True), start=1)
    )


def _rows(path: Path, positions: Sequence[int]) -> list[dict[str, Any]]:
    """Rows of a Parquet file, in the order of `positions`."""
    rows = pl.scan_parquet(path, glob=False).with_row_index("position")
    wanted = (
        rows.filter(pl.col("position").is_in(list(positions))).collect().rows_by_key("position", named=True)
    )
    return [wanted[position][0] for position in positions]


def _user(
    split: Split, label: str, model: str, request: Request, truth: str, ranking: Mapping[str, Any]
) -> ShownUser:
    items, scores = ranking["items"], ranking["scores"]
    top = zip(items[:SHOWN_TOP], scores[:SHOWN_TOP], strict=True)
    return ShownUser(
        label=label,
        history=tuple(_lines(split, request.history[-SHOWN_HISTORY:])),
        earlier=max(0, len(request.history) - SHOWN_HISTORY),
        model=model,
        top=tuple(Recommendation(line_of(split, item), score, hit=item == truth) for item, score in top),
        truth=line_of(split, truth),
        rank=items.index(truth) + 1 if truth in items else None,
        listed=len(items),
        ordered=split.dataset.ordered,
    )


def _users_note(run: Run) -> str:
    model, people = _shown_model(run), run.experiment.evaluation.shown_users
    if model is None or not people:
        return ""
    return (
        f"Drawn by the run's seed, not chosen by their results. {model} answers with "
        f"{LIST_LENGTH} items; the first {SHOWN_TOP} are shown with their scores."
    )


def _lines(split: Split, items: Iterable[str]) -> list[str]:
    return [line_of(split, item) for item in items]


def line_of(split: Split, item_id: str) -> str:
    """The item as a person reads it: title and brand, else its category or id."""
    item = split.dataset.item(item_id)
    title = item.title.strip() or f"untitled, {item.categories.strip() or item_id}"
    return f"{title} ({item.brand.strip()})" if item.brand.strip() else title
