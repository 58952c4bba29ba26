"""What each model cost, from the manifests of its stages: costs.json.

Times differ from run to run, and with what else the machine does; so they are in a file of their own, on
which no stage depends.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shelftalk.experiment import Experiment
from shelftalk.runtime.run_folder import RunFolder, StageRecord

TRAINING_STAGES = ("index", "write", "train")


def costs_of(answered: Iterable[StageRecord], folder: RunFolder, experiment: Experiment) -> dict[str, Any]:
    """Model -> its costs, for the models of which they were measured: not of imported answers, nor of those
    of an earlier version.

    "fit_seconds" (of the language model, to open it), "training_seconds" (of index, samples and training,
    where a model stands on them), "seconds_per_1000" requests by task, "requests" by task, and
    "peak_memory_mb", the highest memory of the process while the model was fitted and answered.
    """
    costs: dict[str, Any] = {}
    for record in answered:
        name, measured = record.name.partition(".")[2], record.facts.get("costs")
        if not measured:
            continue
        per_request = {
            task: 1000 * seconds / max(1, measured["requests"][task])
            for task, seconds in measured["answer_seconds"].items()
        }
        costs[name] = {
            "fit_seconds": round(measured["fit_seconds"], 4),
            **_training(name, folder, experiment),
            "seconds_per_1000": {task: round(seconds, 4) for task, seconds in per_request.items()},
            "requests": measured["requests"],
            "peak_memory_mb": measured["peak_memory_mb"],
        }
    return costs


def _training(name: str, folder: RunFolder, experiment: Experiment) -> dict[str, float]:
    if experiment.declared(name).stands_on != "train":
        return {}
    return {"training_seconds": round(sum(folder.needed(stage).seconds for stage in TRAINING_STAGES), 1)}
