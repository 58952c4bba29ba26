"""`shelftalk distil`: a small sequential model learns the lists and the item vectors of a published one.

The teacher answers prefixes of training histories, some drawn by seed for each user and the whole one, whose
next item it has not seen; the student learns them beside the next items (baselines/neural/student.py), is
chosen on validation, measured once on the test part, and written as a folder that `shelftalk.load` opens.

Legend: P lists, N items of a list.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shelftalk import __version__, seeds
from shelftalk.baselines.stored import save_model
from shelftalk.data.splitting import Split
from shelftalk.errors import AnotherExperiment, SettingsError
from shelftalk.evaluation.evaluator import evaluate_retrieval, summarise
from shelftalk.evaluation.metrics import LIST_LENGTH
from shelftalk.pipeline.run import Run
from shelftalk.publishing.contents import CARD, CATALOGUE, FACTS, STUDENT, hashes, is_student, read_facts
from shelftalk.publishing.opening import open_published
from shelftalk.ragged import ragged
from shelftalk.records import Request
from shelftalk.runtime.progress import OnProgress, fitting_reported_to, silent
from shelftalk.runtime.run_folder import alone_beside, beside, write_json

if TYPE_CHECKING:  # torch is loaded when something is distilled
    from shelftalk.baselines.neural.student import Lessons, StudentSettings

PREFIXES = 8
"""Prefixes of each training history that the teacher answers, the whole one among them."""
LISTED = 20
"""Items of each list."""
TIMED = 40
"""Requests that are answered one by one to measure how long that takes."""
ASKED_AT_ONCE = 256
LISTS, STUDENT_STAGE = "teacher", "student"


@dataclass(frozen=True)
class Distilled:
    """The student's folder, and what was measured: by model ("student" and the teacher's name) the metrics of
    the test part, and the milliseconds of one request on one thread."""

    folder: Path
    metrics: dict[str, dict[str, float]]
    milliseconds: dict[str, dict[str, float]]

    @property
    def kept(self) -> float:
        """The student's share of the teacher's NDCG@10; NaN where the teacher's is 0."""
        teacher = next(values for name, values in self.metrics.items() if name != "student")
        return self.metrics["student"]["ndcg@10"] / (teacher["ndcg@10"] or float("nan"))


def distil(
    model: Path,
    run: Run,
    out: Path,
    settings: StudentSettings | None = None,
    prefixes: int = PREFIXES,
    listed: int = LISTED,
    progress: OnProgress = silent,
) -> Distilled:
    """Teach a student what the published `model` answers, from the histories of its `run`, and write it to
    `out`. Raises AnotherExperiment where model and run do not belong together or `out` is there, and
    SettingsError for a model that is no language model."""
    from shelftalk.baselines.neural.student import StudentSettings, fit_student

    if is_student(model):
        raise SettingsError(f'"{model}" is a student itself; give the folder of a language model.')
    if prefixes < 1 or listed < 1:
        raise SettingsError("a teacher is asked for at least one prefix and one item; raise them to 1.")
    if read_facts(model).split != run.split.fingerprint():
        raise AnotherExperiment(
            f'"{model}" was trained on another split than "{run.folder.path}" has; give the run that it was '
            "published from."
        )
    if out.exists():
        raise AnotherExperiment(f'"{out}" is there already; remove it, or choose another --out.')
    with alone_beside(out, "another --out"):
        teacher, items = open_published(model)
        chosen = settings or StudentSettings()
        seed = run.experiment.seed
        given = lessons(teacher, run.split, prefixes, listed, chosen.max_history, seed, progress)
        with fitting_reported_to(lambda done, total, text: progress(STUDENT_STAGE, done, total, text)):
            student = fit_student(run.split, given, chosen, seed)
        metrics = {"student": quality(student, run.split), teacher.name: _teacher_quality(run, teacher)}
        run.folder.count_test_evaluation("distil: the student")
        requests = run.split.retrieval_requests("test")[0][:TIMED]
        times = {one.name: latency(one, requests) for one in (student, teacher)}
        with beside(out) as part:
            part.mkdir()
            save_model(student, part / STUDENT)
            items.write_parquet(part / CATALOGUE)
            result = Distilled(out, metrics, times)
            (part / CARD).write_text(card(result, teacher.name), "utf-8")
            facts = {"shelftalk": __version__, "student": student.name, "teacher": teacher.name}
            measured = {"ndcg@10": metrics["student"]["ndcg@10"], "p50 ms": times["student"]["p50"]}
            facts_of_files = {"split": run.split.fingerprint(), "measured": measured, "files": hashes(part)}
            write_json(part / FACTS, {**facts, **facts_of_files})
            open_published(part)
    return result


def lessons(
    teacher: Any, split: Split, prefixes: int, listed: int, longest: int, seed: int, progress: OnProgress
) -> Lessons:
    """The teacher's lists after prefixes of the training histories, and its vectors of items."""
    from shelftalk.baselines.neural.student import Lessons

    histories = training_prefixes(split, prefixes, longest, seed)
    ids, row_of = split.dataset.item_ids, split.dataset.row_of
    requests = [Request("", tuple(ids[row] for row in history)) for history in histories]
    items = np.zeros((len(requests), listed), np.int32)
    log_probs = np.full((len(requests), listed), -np.inf, np.float32)
    for start in range(0, len(requests), ASKED_AT_ONCE):
        progress(LISTS, start, len(requests), "answers training histories")
        for row, ranking in enumerate(
            teacher.recommend(requests[start : start + ASKED_AT_ONCE], listed), start
        ):
            items[row, : len(ranking.items)] = [row_of[item] for item in ranking.items]
            log_probs[row, : len(ranking.items)] = ranking.scores
    progress(LISTS, len(requests), len(requests), "finished")
    language_model = getattr(teacher, "model", teacher)
    return Lessons(ragged(histories), items, log_probs, language_model.item_vectors)


def training_prefixes(split: Split, number: int, longest: int, seed: int) -> list[list[int]]:
    """Of each training history the whole one and up to `number` - 1 shorter ones of at least one item, drawn
    by seed; of each its last `longest` items, as catalogue rows."""
    rng = seeds.generator(seed, "prefixes for a student")
    items = split.dataset.event_item
    result: list[list[int]] = []
    for first, last in split.training_bounds.tolist():
        stops = np.arange(first + 1, last)
        drawn = np.sort(rng.permutation(stops)[: number - 1]).tolist()
        ends = [*drawn, last] if last > first else []
        result += [items[max(first, stop - longest) : stop].tolist() for stop in ends]
    return result


def quality(model: Any, split: Split) -> dict[str, float]:
    """The metrics of retrieval on the test part."""
    requests, truths = split.retrieval_requests("test")
    rankings = model.recommend(requests, LIST_LENGTH)
    return summarise(evaluate_retrieval(rankings, requests, truths, split.dataset.item_ids), "retrieval")


def _teacher_quality(run: Run, teacher: Any) -> dict[str, float]:
    """As the run measured it, or now."""
    measured = run.metrics["retrieval"].get(teacher.name)
    return measured if measured else quality(teacher, run.split)


def latency(model: Any, requests: Sequence[Request]) -> dict[str, float]:
    """Milliseconds of one request on one thread, p50 and p95, after a few that do not count."""
    import torch

    threads, times = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for number, request in enumerate([*requests[:3], *requests]):
            start = time.perf_counter()
            model.recommend([request], 10)
            if number >= 3:
                times.append(1000 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(threads)
    return {"p50": float(np.percentile(times, 50)), "p95": float(np.percentile(times, 95))}


def card(result: Distilled, teacher: str) -> str:
    """README.md of a student's folder."""
    shown = [(name, values, result.milliseconds[name]["p50"]) for name, values in result.metrics.items()]
    rows = [
        f"| {name} | {values['recall@10']:.4f} | {values['ndcg@10']:.4f} | {milliseconds:.1f} |"
        for name, values, milliseconds in shown
    ]
    return "\n".join(
        [
            "# A student",
            "",
            f'A small sequential model (SASRec) that learned the lists and the item vectors of "{teacher}".',
            "It answers from item ids; `shelftalk.load` opens this folder. It holds weights and the texts of",
            "the catalogue, no history and no id of a user.",
            "",
            "| model | Recall@10 | NDCG@10 | ms per request |",
            "| --- | ---: | ---: | ---: |",
            *rows,
            "",
            "Test part; milliseconds are the median of one request at a time on one thread of the machine",
            "that made it.",
            "",
        ]
    )
