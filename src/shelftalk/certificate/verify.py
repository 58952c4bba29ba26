"""`shelftalk verify RUN`: every printed number computed again, every fact checked again, every file hashed.

No model is opened, no GPU is used and torch is not loaded. Nothing that is verified is believed: not the
manifests, which are compared with each other and with the certificate, and not the program's own evaluator,
beside which ranks and means are computed by other code (answers.py, figures.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from shelftalk.certificate import figures, file_checks, recomputation, report_checks
from shelftalk.certificate.facts import EVALUATIONS, AllAnswers, facts_of, read_answers
from shelftalk.certificate.leak_check import COMPARED, INDEX, RUNS_FILES, SAMPLES
from shelftalk.certificate.record import Certificate, Fact, program_hash, read_certificate
from shelftalk.certificate.run_files import RunFiles, check_evaluated, imported_models, stages_of
from shelftalk.errors import MissingFile, ShelftalkError
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.recommender import TaskName
from shelftalk.runtime.progress import OnProgress, silent
from shelftalk.runtime.run_folder import RunFolder

KIND_OF_FACT = {
    EVALUATIONS: "evaluation log",
    INDEX: "item index",
    SAMPLES: "samples",
    "candidates": "candidates",
    "split": "split",
    "answers": "answers",
}
"""The kind of a problem that a fact shows."""


@dataclass(frozen=True)
class Problem:
    """Something that does not hold: what kind of thing, and a sentence."""

    kind: str
    sentence: str


@dataclass
class Verification:
    """What `verify` found."""

    run: str
    fingerprint: str = ""
    """That of the certificate; "" where there is none that can be read."""
    problems: list[Problem] = field(default_factory=list)
    facts: tuple[Fact, ...] = ()
    """The facts as they were checked again."""
    left_out: list[str] = field(default_factory=list)
    """What was not checked, and why."""
    counted: dict[str, int] = field(default_factory=dict)
    """How much was: files, bytes, answers, figures."""
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether nothing was found that does not hold."""
        return not self.problems

    def add(self, problems: Iterable[tuple[str, str]]) -> None:
        """Note problems, each sentence once."""
        known = {problem.sentence for problem in self.problems}
        self.problems += [Problem(kind, text) for kind, text in problems if text not in known]

    def as_json(self) -> dict[str, Any]:
        """As `verify --json` prints it."""
        return {"verified": self.holds, **asdict(self)}


def verify(
    folder: RunFolder,
    progress: OnProgress = silent,
    complete: bool = False,
    fingerprint: str | None = None,
) -> Verification:
    """Check all that a run's folder holds, and describe each thing that does not hold.

    `complete`: also what takes minutes for very many users. `fingerprint`: the certificate's, as it was
    published. Raises MissingFile where there is no run, and StageMissing where nothing was evaluated.
    """
    start = time.perf_counter()
    experiment, problems = file_checks.read_settings(folder)
    check_evaluated(folder)
    result = Verification(str(folder.path))
    result.add(problems)
    records, problems = file_checks.read_records(folder, stages_of(experiment, imported_models(folder)))
    result.add(problems)
    files = RunFiles(folder, experiment, records)
    certificate = _certificate(result, folder)
    if certificate:
        wrong = file_checks.certificate_problems(folder, records, certificate, fingerprint)
        result.add(wrong)
        result.fingerprint = certificate.fingerprint
    result.add(file_checks.chain_problems(records))
    _hash_files(result, files, progress)
    steps: dict[str, Callable[[], None]] = {
        "data": lambda: _check_data(result, files, certificate, complete),
        "answers": lambda: _check_answers(result, files, certificate, complete, progress),
        "report": lambda: _check_report(result, files, certificate),
    }
    for number, (name, step) in enumerate(steps.items()):
        progress("verify", number, len(steps), name)
        with _described(result, name):
            step()
    progress("verify", len(steps), len(steps), "finished")
    result.seconds = time.perf_counter() - start
    return result


def _certificate(result: Verification, folder: RunFolder) -> Certificate | None:
    try:
        return read_certificate(folder)
    except ShelftalkError as error:
        result.add([("certificate", str(error))])
        return None


def _hash_files(result: Verification, files: RunFiles, progress: OnProgress) -> None:
    total, done = max(1, file_checks.total_bytes(files.folder, dict(files.records))), 0

    def on_bytes(number: int, name: str) -> None:
        nonlocal done
        done += number
        progress("files", min(done, total), total, name)
        result.counted["files"] = result.counted.get("files", 0) + 1

    result.add(file_checks.file_problems(files.folder, dict(files.records), on_bytes))
    result.counted["bytes"] = done


def _check_data(
    result: Verification, files: RunFiles, certificate: Certificate | None, complete: bool
) -> None:
    result.add(file_checks.split_problems(files, certificate))
    result.add(file_checks.data_problems(files, complete, result.left_out))


def _check_answers(
    result: Verification,
    files: RunFiles,
    certificate: Certificate | None,
    complete: bool,
    progress: OnProgress,
) -> None:
    """Lists -> per-user tables -> figures, and the facts."""
    answers = read_answers(files, progress)
    result.counted["answers"] = sum(one.lists for one in answers.of.values())
    result.add(_faults(answers))
    with _described(result, "figures"):
        printed = figures.printed_metrics(files.folder)
        tables = {task: pl.read_parquet(files.folder.evaluation(task), glob=False) for task in files.tasks}
        for task, table in tables.items():
            result.add(_of_ranks(task, table, answers, files.answered(task)))
        progress("verify", 1, 3, "figures")
        same_program = bool(certificate and certificate.program == program_hash())
        _check_figures(result, files, printed, tables, complete, same_program)
    if "index" in files.records:
        with _described(result, "item index"):
            ItemIndex.load(files.folder.item_index)
    with _described(result, "facts"):
        progress("verify", 1, 3, "facts")
        result.facts = facts_of(files, answers, complete)
        result.add(_of_facts(result.facts, certificate))


def _check_figures(
    result: Verification,
    files: RunFiles,
    printed: dict[str, Any],
    tables: dict[TaskName, pl.DataFrame],
    complete: bool,
    same_program: bool,
) -> None:
    if sorted(printed) != sorted(tables):
        named, answered = (", ".join(names) or "no task" for names in (printed, tables))
        result.add([("metric", f"metrics.json has figures of {named}, and there are answers to {answered}.")])
        return
    _, wrong, _ = figures.deviations_of_means(printed, tables)
    result.add([("metric", f"metrics.json: {one}.") for one in wrong])
    again = recomputation.recomputed(files, tables, printed, complete, same_program)
    result.add([(kind, f"{one}.") for kind, one in again.deviations])
    result.left_out += again.left_out
    result.counted["figures"] = again.figures


def _faults(answers: AllAnswers) -> list[tuple[str, str]]:
    """A sentence for each kind of fault in a model's answers."""
    problems = []
    for (task, model), one in answers.of.items():
        for fault, number in one.faults.items():
            first = f', the first of user "{one.first[fault]}"' if fault in one.first else ""
            if number:
                problems.append(("answers", f"Answers of {model} to {task}: {number:,} {fault}{first}."))
    return problems


def _of_ranks(
    task: TaskName, table: pl.DataFrame, answers: AllAnswers, models: list[str]
) -> list[tuple[str, str]]:
    """The per-user table of a task against the lists or estimates of its models."""
    problems, frames = [], recomputation.by_model(table)
    if list(frames) != models:
        sentence = f"evaluation/{task}.parquet has rows of {', '.join(frames)}, not of {', '.join(models)}."
        return [("per-user table", sentence)]
    for model, frame in frames.items():
        where = f"evaluation/{task}.parquet, {model}"
        if task == "rating":
            wrong = figures.deviations_of_errors(frame, answers.ratings[model], where)
        else:
            wrong = figures.deviations_of_ranks(frame, answers.requests, answers.of[task, model], where)
        problems += [("rank", f"{one}.") for one in wrong]
    return problems


def _of_facts(facts: tuple[Fact, ...], certificate: Certificate | None) -> list[tuple[str, str]]:
    """Facts that do not hold, and those that the certificate states otherwise."""
    problems = []
    certified = {fact.name: fact for fact in certificate.facts} if certificate else {}
    for fact in facts:
        kind = KIND_OF_FACT.get(fact.name, "fact")
        if fact.holds is False:
            problems.append((kind, f"{fact.name}: this does not hold: {_lower(fact.checked)}"))
        if certificate and certificate.made_here and _made_otherwise(fact):
            problems.append((kind, f"{fact.name}: other files than the run's are made of this split here."))
        known = certified.get(fact.name)
        if known is None or None in (known.holds, fact.holds):
            continue
        one, other = known.value, fact.value
        if certificate and not certificate.made_here and COMPARED in other:
            one, other = ({**value, COMPARED: ""} for value in (one, other))
        if certificate and certificate.program != program_hash():  # what both versions state
            one, other = figures.within(one, other), figures.within(other, one)
        where = f"certificate.json, {fact.name}"
        problems += [(kind, f"{wrong}.") for wrong in figures.deviations_of_values(one, other, where)]
    return problems


def _made_otherwise(fact: Fact) -> bool:
    return isinstance(fact.value, dict) and fact.value.get(COMPARED, RUNS_FILES) != RUNS_FILES


def _check_report(result: Verification, files: RunFiles, certificate: Certificate | None) -> None:
    if "report" not in files.records and not (files.folder.path / "report.json").exists():
        result.left_out.append("the report, which was not written")
        return
    if result.problems:
        result.left_out.append("the figures of the report, since those of the run do not hold")
        return
    program = certificate.program if certificate else None
    result.add(report_checks.report_problems(files, result.left_out, program))


@contextmanager
def _described(result: Verification, kind: str) -> Iterator[None]:
    """A block that reads what somebody may have changed: what it raises is a problem, and not an end."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # parsers written in Rust raise what is no Exception
        text = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        if isinstance(error, MissingFile | FileNotFoundError) or not isinstance(error, ShelftalkError):
            text = f"The {kind} cannot be read ({type(error).__name__}: {text})"
        result.add([(kind, f"{text[:400]}.")])


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
