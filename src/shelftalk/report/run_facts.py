"""The facts that a report lists about a run: its data, its model, its machine, and its caveats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shelftalk.data.dataset import ITEM_COLUMNS
from shelftalk.data.protocol import NAMES, Protocol, SplitSettings, moment
from shelftalk.data.sources.reading import NO_ORDER
from shelftalk.report.content import Fact
from shelftalk.runtime import machine
from shelftalk.runtime.run_folder import StageRecord

SHOWN_AT_TOP = ("warning", "left_out")
"""Facts of the index that are shown at the top of a report."""
FEW_USERS = 2000
"""With fewer users than this, a caveat says that intervals are wide."""


def data_facts(data: Mapping[str, Any], divided: Protocol, evaluated_users: int) -> dict[str, Fact]:
    """What was read and what was kept of it; `data` is a DataReport as a mapping."""
    texts = {
        f"items with {name}": f"{data[f'items_with_{name}']:.1%}"
        for name in ITEM_COLUMNS
        if name != "item_id"
    }
    return {
        "source": data["source"],
        "users": data["users"],
        "items": data["catalogue"],
        "interactions": data["events"],
        "interactions for each user": round(data["events"] / data["users"], 1),
        "users evaluated": f"{evaluated_users:,}",
        **_filters(data),
        "filter": _filter(data),
        "before the filter": (
            f"{data['users_read']:,} users, {data['catalogue_read']:,} items "
            f"({data['items_read']:,} of them with an interaction), {data['events_read']:,} interactions"
        ),
        "repeats dropped": (
            f"{data['repeats_dropped']:,}" + (f" ({data['repeats']} kept)" if data["repeats_dropped"] else "")
        ),
        "interactions with a rating": f"{data['events_with_rating']:.1%}",
        **texts,
        "order": _order(data, divided),
        "SHA-256 of " + data["interactions_file"]: data["interactions_sha256"],
        "SHA-256 of " + data["items_file"]: data["items_sha256"],
    }


def _order(data: Mapping[str, Any], divided: Protocol) -> str:
    """What orders a user's events, and what was left of that by the split."""
    if divided.scheme == "random" and data["ordered_by"] != NO_ORDER:
        return f"by seed alone: split.scheme is random, and {data['ordered_by']} is not used"
    if divided.ties == "shuffled":
        return f"by time, equal times by seed: split.ties is shuffled ({data['ordered_by']} as published)"
    result: str = data["tie_rule"]
    return result


def _filters(data: Mapping[str, Any]) -> dict[str, Fact]:
    """What each filter before the k-core took away; folders of older versions have none."""
    return {
        step[
            "rule"
        ]: f"{step['events']:,} interactions, {step['users']:,} users, {step['items']:,} items away"
        for step in data.get("filters", ())
    }


def _filter(data: Mapping[str, Any]) -> str:
    """The k-core and what it counts; in folders of older versions, everything."""
    if data["k_core"] <= 1:
        return "none"
    if data.get("k_core_on") == "training":
        return f"{data['k_core']}-core, counted on training interactions alone"
    counted = "counted on all interactions, the held-out ones included"
    return f"{data['k_core']}-core, {data['k_core_passes']} passes, {counted}"


def model_facts(index: StageRecord, write: StageRecord, train: StageRecord) -> dict[str, Fact]:
    """The language model, how items are named to it and what it was trained on."""
    facts = train.facts
    samples = [
        f"{count:,} {task.replace('_', ' ')}" for task, count in sorted(write.facts["samples"].items())
    ]
    return {
        "backbone": f"{backbone_name(train)}, {facts['family']}",
        "parameters": facts["parameters"],
        "vocabulary": facts["vocabulary"],
        "precision of products": "bf16" if facts["bf16"] else "fp32",
        **{f"index: {name}": value for name, value in index.facts.items() if name not in SHOWN_AT_TOP},
        "samples written": ", ".join(samples),
        "steps": facts["steps"],
        "tokens read": facts["tokens"],
        "tokens with loss": facts["targets"],
        "checkpoint kept": f"step {facts['best_step']:,}, by validation {best_by(train)}",
        "stopped early": facts["stopped_early"],
        **({"continued from step": facts["resumed_from"]} if facts["resumed_from"] else {}),
    }


def best_by(train: StageRecord) -> str:
    """What chose the checkpoint: "loss" or a metric of retrieval; not in folders of version 0.1.0."""
    chosen: str = train.inputs["training"].get("best_by", "loss")
    return chosen


def backbone_name(train: StageRecord) -> str:
    """The model that training started from."""
    start = train.facts["pretrained"]
    if not start["name"]:
        return "nano, from random weights"
    return f"{start['name']}, " + (
        "from random weights" if start["random_weights"] else f"revision {start['revision']}"
    )


def machine_facts(records: Sequence[StageRecord]) -> dict[str, Fact]:
    """The machine that writes the report, and the highest memory of any stage."""
    peaks = [record.peak_gigabytes for record in records if record.peak_gigabytes]
    peak: dict[str, Fact] = {"peak memory of the run": f"{max(peaks):.2f} GB"} if peaks else {}
    return {**machine.hardware_facts(), **peak, **machine.versions()}


def protocol(task: str, split: SplitSettings, items: int, divided: Protocol | None = None) -> str:
    """Split, candidates and convention of a task, in a sentence or two; without `divided`, leave-one-out."""
    divided = divided or Protocol()
    held_out = f"{divided.sentence} Models saw the training part alone."
    if task == "retrieval":
        candidates = f"all {items:,} items but those of the history; lists and MRR end at 20"
        return f"{held_out} Candidates are {candidates}."
    if task == "ranking":
        negatives = f"{split.ranking_negatives} that the user never took, drawn uniformly once and shuffled"
        return (
            f"{held_out} Candidates are the item taken and {negatives}; equal scores share their mean rank."
        )
    shown = ", drawn by seed" if divided.scheme == "random" else " earlier than the rated one"
    return (
        f"{_ratings_divided(split, divided)}; a prompt shows only training interactions{shown}; models saw "
        "the training part alone."
    )


def _ratings_divided(split: SplitSettings, divided: Protocol) -> str:
    """How rating values are divided, as a main clause."""
    if divided.cuts is not None:
        validation, test = map(moment, divided.cuts)
        return (
            f"Ratings are divided by time, for all users alike: those from {validation} on are validation "
            f"and those from {test} on the test"
        )
    shares = 1 - split.rating_validation - split.rating_test, split.rating_validation, split.rating_test
    parts = " / ".join(f"{share:.0%}" for share in shares)
    whose = " of the users who train" if divided.scheme == "by_user" else ""
    return (
        f"Ratings{whose} are divided at random, {parts}, and those of interactions held out for retrieval "
        "leave the training part"
    )


REFITTED = (
    "Rows that end in @refit were chosen on validation and then fitted again on training and validation, so "
    "they know more than the others, and are compared with none of them."
)


def caveats(
    data: Mapping[str, Any],
    tasks: Sequence[str],
    trained: bool,
    negatives: int,
    pretrained: bool = False,
    symbols: bool = False,
    divided: Protocol | None = None,
    refitted: bool = False,
) -> tuple[str, ...]:
    """What a reader must know about the numbers; `data` is a DataReport as a mapping, `symbols` whether
    symbols name items, `refitted` whether baselines were fitted again; without `divided`, leave-one-out."""
    divided = divided or Protocol()
    users, bundled = data["users"], data["source"].endswith("(bundled)")
    few_users = f"{users:,} users show little: differences smaller than the intervals may well be chance."
    two_scales = (
        f"Retrieval is over all items and ranking over {negatives + 1} candidates: their figures do not "
        "compare."
    )
    sentences = [
        (users < FEW_USERS, few_users),
        (not divided.is_usual, divided.note),
        ("retrieval" in tasks or "ranking" in tasks, _others_future(divided)),
        (data.get("k_core", 0) > 1 and data.get("k_core_on", "all") == "all", CORE_COUNTS_ALL),
        (not divided.by_time and divided.scheme != "random" and "rating" in tasks, RANDOM_RATINGS),
        ("retrieval" in tasks and "ranking" in tasks, two_scales),
        (trained, RECONSTRUCTION),
        (trained and not pretrained, NANO),
        (trained and not pretrained and symbols, START),
        (trained, f"{CHOSEN}." if refitted else f"{CHOSEN}; {NOTHING_REFITTED}."),
        (refitted, REFITTED),
        (bundled, ONE_SET),
        (bundled, TERMS),
    ]
    return tuple(sentence for holds, sentence in sentences if holds and sentence)


def _others_future(divided: Protocol) -> str:
    """What a split that is not by time lets a model see; "" for one that is by time or without order."""
    if divided.by_time or divided.scheme == "random":
        return ""
    return f"{NAMES[divided.scheme].capitalize()} {OTHERS_FUTURE}"


CORE_COUNTS_ALL = (
    "The k-core counts held-out interactions too, as is usual: an item or user may be in the data for an "
    "interaction of the test part. "
    'With data.k_core_on = "training" it counts training interactions alone.'
)
OTHERS_FUTURE = (
    "lets a model learn from what other users did after the moment of the test; a figure for real use would "
    'need a split by time (split.scheme = "global_time").'
)
RANDOM_RATINGS = (
    "Ratings are divided at random, not by time: the bias baselines know ratings that their user gave after "
    "the predicted one."
)
RECONSTRUCTION = (
    "Prompts, masking ratios and mixture weights are a reconstruction of the idea of arXiv 2404.00245, not "
    "its authors' own, which were not published with it."
)
NANO = (
    "The nano model is trained from random weights on this data alone; the paper's models are FLAN-T5 of 250 "
    "million to 3 billion."
)
START = (
    "The symbols that name items start from vectors of catalogue text and training co-occurrence: "
    "the language model has part of its knowledge before its first sample."
)
CHOSEN = "The weights of aligned+prior and the recipes of the baselines were chosen on the validation part"
NOTHING_REFITTED = "nothing was refitted on training and validation together"
ONE_SET = "The bundled MovieLens is one small set of people who like films; it shows little about a shop."
TERMS = "MovieLens' terms forbid commercial use without permission; its licence is beside the data."
