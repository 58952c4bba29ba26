"""Declarations: what a part is, and what it can do.

Every part is declared once, in a menu: that of backbone families beside their settings, those of file formats
and metrics beside their functions, all others in parts.py, where all menus can be had. What a declaration
names is imported when it is first used.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from shelftalk.recommender import TaskName
from shelftalk.settings import Settings


@dataclass(frozen=True)
class Part:
    """`target`: the function or class itself, or "package.module:attribute"."""

    target: Any

    def load(self) -> Any:
        """The function or class. Raises ImportError or AttributeError where there is none."""
        return attribute(self.target) if isinstance(self.target, str) else self.target


@dataclass(frozen=True)
class IndexScheme(Part):
    """A way of naming items: `build(split, settings, seed) -> ItemIndex`."""

    reads_text_vectors: bool = False
    """Takes the vectors of index.encoder as a fourth argument, `text_vectors` [items, dimensions]."""
    leaks: bool = False
    """Names tell of held-out events: in no list unless it is asked for by name."""


@dataclass(frozen=True)
class TaskKind(Part):
    """A kind of sample: a subclass of `tasks.task.Task`, which names its class of settings."""

    served: bool = False
    """A finished model is asked it, and the answers are evaluated."""


@dataclass(frozen=True)
class Model(Part):
    """What is evaluated: a function that returns a finished recommender.

    It is called as `fit(split, settings, seed)`, or, where it stands on "train", as `fit(run, settings,
    seed)`, so that it may ask the trained language model.
    """

    settings: type[Settings] = Settings
    """The class of its settings, which an experiment has in [baselines.NAME]."""
    section: str = ""
    """Where they are in an experiment, for what is more than
    a baseline; a model without one has [baselines.NAME]."""
    stands_on: Literal["prepare", "train"] = "prepare"
    """The last stage whose files its answers depend on."""
    tasks: tuple[TaskName, ...] = ("retrieval", "ranking")
    """The tasks that it answers; one that the data does not support is left out."""
    scores_items: bool = False
    """It has `scores(requests)` [requests, items], none below 0, as a prior needs."""
    by_default: bool = True
    """An experiment that names no models evaluates it."""


@dataclass(frozen=True)
class Metric(Part):
    """A measure of answers: a function of a column of the per-user table, [n] -> [n] of ranks with a cutoff
    `k`, or [n] -> a number of errors."""

    cutoffs: Mapping[TaskName, tuple[int, ...]] = field(default_factory=dict)
    """Task -> the cutoffs k in its tables, where it is called "NAME@k"; of errors none."""
    further: Mapping[TaskName, tuple[int, ...]] = field(default_factory=dict)
    """The same, of what metrics.json alone has."""
    column: str = "rank"
    """What it reads of the per-user table."""
    lower_is_better: bool = False


@dataclass(frozen=True)
class Family(Part):
    """A family of language models: a subclass of `models.backbone.Backbone`."""

    nano: str = ""
    """Its small model from scratch: "package.module:function", `build(settings, vocabulary)`."""
    encoder: bool = False
    """An encoder reads the prompt before a decoder answers: not every item of a history can be a target, a
    prompt's end token is added by the backbone, and samples cannot share a row."""
    why_no_fp16: str = ""
    """Why it cannot compute in fp16, as a sentence without its full stop; "" where it can."""


@dataclass(frozen=True)
class FileFormat(Part):
    """A format of data files: a function `read(path, wanted, form) -> Table`."""

    has_header: bool = False
    """The first line names the columns: without one its values are taken for names."""
    is_text: bool = False
    """It may be compressed (.gz, .zst), and has an encoding."""


def attribute(address: str) -> Any:
    """What "package.module:attribute" names. Raises ImportError or AttributeError where there is none."""
    module, _, name = address.partition(":")
    return getattr(importlib.import_module(module), name)
