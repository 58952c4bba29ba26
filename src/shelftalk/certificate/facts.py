"""Every fact of a certificate, from the files of a run alone: no model is asked, nothing holds by hand."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from shelftalk import seeds
from shelftalk.certificate import figures
from shelftalk.certificate.answers import (
    FAULTS,
    LISTED,
    Answers,
    RequestArrays,
    read_ranking,
    read_ratings,
    read_retrieval,
    request_arrays,
)
from shelftalk.certificate.leak_check import leak_facts
from shelftalk.certificate.record import Fact
from shelftalk.certificate.run_files import RunFiles
from shelftalk.data.splitting import PARTS, TRAIN
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.recommender import ALIGNED, ALIGNED_WITH_PRIOR, TaskName, is_refit
from shelftalk.runtime.progress import OnProgress

EVALUATIONS = "evaluations of the test part"
SAMPLING = {"do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "repetition_penalty": 1.0}
"""Settings of `generate`, and the values with which they change nothing where `do_sample` is off."""
AnswersOf = Mapping[tuple[TaskName, str], Answers]


@dataclass(frozen=True, eq=False)
class AllAnswers:
    """What was read of the answers of every model: by task and model."""

    requests: RequestArrays
    of: AnswersOf
    ratings: Mapping[str, pl.DataFrame]
    """Model -> the requests of rating prediction with its estimates."""


def read_answers(files: RunFiles, progress: OnProgress) -> AllAnswers:
    """Check the answer files of every model. Progress counts answers."""
    requests = request_arrays(files.split)
    of: dict[tuple[TaskName, str], Answers] = {}
    ratings: dict[str, pl.DataFrame] = {}
    named = [(task, model) for task in files.tasks for model in files.answered(task)]
    each = max(1, len(requests.event))
    total, done = max(1, len(named) * each), 0
    progress("answers", 0, total, "reading")
    for number, (task, model) in enumerate(named):

        def on_lists(read: int, end: int = (number + 1) * each, label: str = f"{task} of {model}") -> None:
            nonlocal done
            done = min(end, done + read)
            progress("answers", done, total, label)

        path = files.folder.ranking(task, model)
        if task == "rating":
            of[task, model], ratings[model] = read_ratings(path, files.split, on_lists)
        else:
            read = read_retrieval if task == "retrieval" else read_ranking
            of[task, model] = read(path, requests, on_lists)
        if done < (number + 1) * each:
            on_lists(each)
    return AllAnswers(requests, of, ratings)


def facts_of(files: RunFiles, answers: AllAnswers, complete: bool = False) -> tuple[Fact, ...]:
    """All facts. `complete`: those too that take minutes with very many interactions."""
    return (
        *leak_facts(files, complete),
        _split(files),
        _test_items(answers.requests),
        _candidates(files),
        _order(files),
        *_lists(answers),
        _evaluations(files),
        _generation(files),
        _names(files),
        _chosen(files),
        _convention(files),
        _figures(files),
    )


def _split(files: RunFiles) -> Fact:
    split = files.split
    trains, same_user = split.event_part == TRAIN, np.diff(split.event_user) == 0
    back = int((same_user & trains[1:] & ~trains[:-1]).sum())
    leaked = int(((split.rating_part == TRAIN) & (split.event_part != TRAIN)).sum())
    value = {
        "scheme": split.scheme,
        "users": len(split.dataset.user_ids),
        "evaluated": len(split.evaluated_users("test")),
        "events": {part: len(split.held_out_events(part)) for part in PARTS},
        "held out before training": back,
        "ratings of held-out events in training": leaked,
    }
    checked = (
        "In each user's events those of the training part come before all that is held out; no rating of a "
        "held-out event is in the training part."
    )
    return Fact("split", checked, value, back == leaked == 0, "Counted over all events.")


def _test_items(requests: RequestArrays) -> Fact:
    keys = requests.user_number * len(requests.catalogue) + requests.truth
    repeated = int((requests.event_of(keys) < requests.event).sum())
    checked = "No item of the test part is in the history that it is to be predicted from."
    return Fact("test items", checked, {"repeated": repeated}, repeated == 0, "Counted over all requests.")


def _candidates(files: RunFiles) -> Fact:
    split, data = files.split, files.split.dataset
    taken = np.sort(split.event_user * len(data.items) + data.event_item)
    wrong, digest = 0, hashlib.sha256()
    for part in [part for part in PARTS if part in split.candidates]:
        events, rows = split.held_out_events(part), split.candidates[part]
        digest.update(rows.tobytes())
        keys = split.event_user[events][:, None] * len(data.items) + rows
        at = np.minimum(np.searchsorted(taken, keys), len(taken) - 1)
        # of a row's items the user took exactly one, the held-out one
        right = (rows == data.event_item[events][:, None]).sum(1) == 1
        right &= (taken[at] == keys).sum(1) == 1
        ordered = np.sort(rows, axis=1)
        right &= (np.diff(ordered, axis=1) > 0).all(1)
        wrong += int((~right).sum())
    width = split.candidates["test"].shape[1] if len(split.candidates["test"]) else 0
    value = {"each": f"1 + {width - 1}", "wrong": wrong, "sha256": digest.hexdigest()}
    checked = "Ranking candidates are the held-out item and others that its user never took, each once."
    return Fact("candidates", checked, value, wrong == 0, "Counted over all requests of the parts held out.")


def _order(files: RunFiles) -> Fact:
    data = files.split.dataset
    order = seeds.hash_order(data.item_ids, files.experiment.seed, "catalogue order")
    seeded = bool((order[1:] >= order[:-1]).all())
    noted = files.records["prepare"].facts["data"]
    value = {
        "ordered by": noted["ordered_by"],
        "ties": noted["tie_rule"],
        "users tied at the end": noted["users_tied_at_end"],
    }
    checked = "The order of the catalogue is that of a seeded hash, so no tie is decided by a file's order."
    how = "The hash was computed again for every item; what orders events is what the data reader noted."
    return Fact("order and ties", checked, value, seeded, how)


def _lists(answers: AllAnswers) -> list[Fact]:
    counts = {
        f"{task}, {model}": {"lists": one.lists, **one.faults} for (task, model), one in answers.of.items()
    }
    faults = {fault: sum(row[fault] for row in counts.values()) for fault in FAULTS}
    lists = sum(row["lists"] for row in counts.values())
    valid = Fact(
        "answers",
        "Every answer of every model is valid: catalogue items, each once, none of the history, as many as "
        "asked for, best first.",
        {"answers": lists, **faults, "by model": counts},
        not any(faults.values()),
        f"Counted over all answer files; a retrieval list holds {LISTED} items where there are as many.",
    )
    seen = sum(one.faults["seen"] for (task, _), one in answers.of.items() if task == "retrieval")
    retrieving = [model for task, model in answers.of if task == "retrieval"]
    checked = "Items of the history are left out of every retrieval list, of all models alike."
    masked = Fact(
        "seen items",
        checked,
        {"models": retrieving, "seen": seen} if retrieving else None,
        seen == 0 if retrieving else None,
        "Counted over all retrieval lists." if retrieving else "No model of the run answers retrieval.",
    )
    return [valid, masked]


def _evaluations(files: RunFiles) -> Fact:
    path = files.folder.evaluation_log
    lines = path.read_bytes().splitlines() if path.exists() else []
    number = files.folder.test_evaluations()
    return Fact(
        EVALUATIONS,
        "The log has a line for every evaluation of the test part.",
        {"evaluations": number, "sha256": hashlib.sha256(b"\n".join(lines)).hexdigest()},
        len(lines) == number,
        "Lines were counted, and compared with the number that the last evaluation noted.",
    )


def _generation(files: RunFiles) -> Fact:
    name = "generation settings"
    checked = "The model's settings of generation are its own, without sampling or penalties."
    path = files.folder.model / "generation_config.json"
    if not {ALIGNED, ALIGNED_WITH_PRIOR} & set(files.experiment.models) or not path.exists():
        return Fact(name, checked, None, None, "No language model of the run was evaluated.")
    saved, decoding = json.loads(path.read_text("utf-8")), files.experiment.decoding
    other = {key: saved[key] for key, value in SAMPLING.items() if saved.get(key, value) != value}
    value = {
        "search": decoding.search,
        "beams": decoding.beams,
        "beams saved": saved.get("num_beams"),
        **other,
    }
    how = (
        "Read from model/generation_config.json and the settings; answers come from searches without chance."
    )
    return Fact(name, checked, value, not other and saved.get("do_sample", False) is False, how)


def _names(files: RunFiles) -> Fact:
    titles = [title for title in files.split.dataset.items["title"].to_list() if title]
    shared = sum(number for number in Counter(titles).values() if number > 1)
    value: dict[str, Any] = {"items": len(files.split.dataset.items), "items that share a title": shared}
    checked = "No two items have one name, so that an item is never credited for another."
    if "index" not in files.records:
        how = "Models of this run answer with item ids, which are distinct in the catalogue."
        distinct = files.split.dataset.items["item_id"].is_unique().all()
        return Fact("item names", checked, value, bool(distinct), how)
    index = ItemIndex.load(files.folder.item_index)
    names = [index.name(item) for item in index.item_ids]
    value |= {"names": len(set(names)), "collisions resolved by a last level": index.collisions}
    whole = set(index.item_ids) == set(files.split.dataset.item_ids)
    holds = len(set(names)) == len(names) and whole
    return Fact("item names", checked, value, holds, "Counted over all names of the item index.")


def _chosen(files: RunFiles) -> Fact:
    value = {
        name.partition(".")[2]: record.facts["chosen"]
        for name, record in files.records.items()
        if record.facts.get("chosen")
    }
    checked = "Weights of priors and recipes of baselines were chosen on the validation part."
    how = "Not checked: each model states what it chose; choosing again needs the models."
    return Fact("choices on validation", checked, value, None, how)


def _convention(files: RunFiles) -> Fact:
    refit = [name for name in files.experiment.models if is_refit(name)]
    value = {"train-only": [name for name in files.experiment.models if name not in refit], "refit": refit}
    checked = "Models saw the training part alone, or are named as refitted."
    how = (
        "Not checked for baselines, which are fitted by the program itself; of a language model the two "
        "facts on held-out data say it."
    )
    return Fact("convention", checked, value, None, how)


def _figures(files: RunFiles) -> Fact:
    printed = figures.printed_metrics(files.folder)
    tables = {task: pl.read_parquet(files.folder.evaluation(task), glob=False) for task in printed}
    number, wrong, largest = figures.deviations_of_means(printed, tables)
    value = {"figures": number, "deviating": len(wrong), "tolerance": figures.TOLERANCE}
    checked = "Every metric printed follows from the per-user tables."
    how = "Ranks and errors were turned into means by formulas of the certificate's own."
    return Fact("figures", checked, value, not wrong and largest <= figures.TOLERANCE, how)
