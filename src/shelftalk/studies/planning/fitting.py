"""Whether a training fits a GPU, and if not, which settings would make it fit."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedModel

from shelftalk.models.lora import has_adapters
from shelftalk.studies.planning.gpus import GPUS, Gpu
from shelftalk.studies.planning.memory import Memory, Optimizer, replicated, sharded, smaller, training_memory
from shelftalk.studies.planning.tracing import Trace
from shelftalk.training.settings import TrainingSettings, refused_where_spread

USABLE = 0.95
"""Share of a GPU's memory that may be planned for."""
BATCH_PARTS = (1, 4, 16)
"""Batches are considered whole and divided into so many."""


@dataclass(frozen=True)
class Fit:
    """A training's memory under other settings: `plain` and `checkpointed` trace its largest batch."""

    model: PreTrainedModel
    settings: TrainingSettings
    plain: Trace
    checkpointed: Trace
    base: int

    def memory(
        self, checkpointing: bool | None = None, optimizer: Optimizer | None = None, parts: int = 1
    ) -> Memory:
        """With the settings' own checkpointing and optimiser where none is given, and each batch divided
        into `parts`."""
        batch = smaller(self._batch(checkpointing), parts)
        chosen = optimizer or self.settings.optimizer
        return training_memory(
            self.model, batch, self.base, chosen, self.settings.gradient_accumulation * parts
        )

    @property
    def shardable(self) -> bool:
        """Whether weights, gradients and optimiser can be divided among GPUs (launch/fsdp.yaml), or only the
        rows of a batch."""
        return not refused_where_spread(self.settings, has_adapters(self.model))

    def each_of(self, gpus: int) -> Memory:
        """What each of so many GPUs needs: all is divided among them where it is `shardable`, else every
        batch by its rows (launch/ddp.yaml)."""
        share = smaller(self._batch(None), gpus)
        return (
            sharded(self.memory(), share, self.model, gpus)
            if self.shardable
            else replicated(self.memory(), share)
        )

    def _batch(self, checkpointing: bool | None) -> Trace:
        if checkpointing is None:
            checkpointing = self.settings.gradient_checkpointing
        return self.checkpointed if checkpointing else self.plain


def what_fits(fit: Fit, gpu: Gpu, gpus: int = 1, adapters: Fit | None = None) -> str:
    """ "" where the training fits the GPU, or so many of them together, else a sentence that names the first
    change of settings that would make it fit. `adapters` is the same training with adapters, where it has
    none."""
    need = fit.memory().peak
    if fits(need, gpu) or (gpus > 1 and fits(fit.each_of(gpus).peak, gpu)):
        return ""
    refusal = f"Training needs about {need / 1e9:.0f} GB, and {gpu.name} has {gpu.memory:g} GB; "
    for changes, changed in _changes(fit):
        if fits(changed.peak, gpu):
            return f"{refusal}set {changes} (about {changed.peak / 1e9:.0f} GB)."
    if adapters is not None and fits(adapters.memory().peak, gpu):
        return f'{refusal}set pretrained.adaptation = "lora" (about {adapters.memory().peak / 1e9:.0f} GB).'
    larger = [other.name for other in GPUS.values() if fits(need, other)]
    if larger:
        return f"{refusal}no setting makes it fit: choose --gpu {larger[0]}."
    return f"{refusal}no setting or GPU of the table makes it fit; divide it among several with --gpus."


def fits(need: int, gpu: Gpu) -> bool:
    """Whether so many bytes may be planned for on the GPU."""
    return need <= USABLE * gpu.memory * 1e9


def _changes(fit: Fit) -> list[tuple[str, Memory]]:
    """Changes of settings in words, the cheapest first, and the memory with them."""
    changes = []
    optimizers: dict[Optimizer, None] = dict.fromkeys((fit.settings.optimizer, "adafactor"))
    for optimizer in optimizers:
        for parts in BATCH_PARTS:
            for checkpointing in sorted({fit.settings.gradient_checkpointing, True}):
                if words := _settings_changed(fit.settings, checkpointing, parts, optimizer):
                    changes.append((_listed(words), fit.memory(checkpointing, optimizer, parts)))
    return changes


def _settings_changed(
    settings: TrainingSettings, checkpointing: bool, parts: int, optimizer: Optimizer
) -> list[str]:
    """The settings that differ from the training's own, as in an experiment file."""
    words = []
    if checkpointing and not settings.gradient_checkpointing:
        words.append("training.gradient_checkpointing = true")
    if parts > 1:
        words.append(f"training.batch_tokens = {max(64, settings.batch_tokens // parts)}")
        words.append(f"training.gradient_accumulation = {settings.gradient_accumulation * parts}")
    if optimizer != settings.optimizer:
        words.append(f'training.optimizer = "{optimizer}"')
    return words


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
