"""A backbone before training: what its tokenizer must hold, where its new symbols start, and whether it can
be trained here at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from shelftalk.errors import SettingsError
from shelftalk.experiment import Experiment
from shelftalk.indexing.item_index import split_symbols
from shelftalk.pipeline.run import Run
from shelftalk.tasks.sentinels import all_sentinels

if TYPE_CHECKING:  # torch is loaded only where a language model is
    from shelftalk.models.backbone import Backbone


def new_backbone(run: Run) -> Backbone:
    """The backbone before training: a pretrained model with the index's symbols
    added, or the nano model, whose tokenizer comes from the catalogue and whose
    symbols start where their vectors put them. Raises as `family` does."""
    experiment, index = run.experiment, run.index
    precision = experiment.training.precision
    family(experiment)
    if experiment.pretrained.name:
        from shelftalk.models.pretrained import start_from_pretrained

        return start_from_pretrained(
            experiment.pretrained, symbols(run), symbol_texts(run), precision, experiment.seed
        )
    import torch

    from shelftalk.models.nano import build_nano
    from shelftalk.models.precision import product_type

    products = product_type(precision, experiment.nano.family)
    halves = (products == torch.bfloat16, products == torch.float16)
    backbone = build_nano(tokenizer_texts(run), symbols(run), experiment.nano, experiment.seed, *halves)
    if index.symbol_vectors is not None:
        backbone.start_symbols_from(index.vocabulary, index.symbol_vectors, experiment.nano.symbol_spread)
    return backbone


def family(experiment: Experiment) -> str:
    """The backbone's family; that of a pretrained model is in its config alone.

    Raises MissingFile where that cannot be read, and SettingsError where the samples do not suit the family.
    """
    if not experiment.pretrained.name:
        return experiment.nano.family
    from shelftalk.models.pretrained import family_of, read_config

    kind = family_of(read_config(experiment.pretrained))
    if refusal := experiment.why_no_targets(kind):
        raise SettingsError(f'"{experiment.pretrained.name}" is an encoder-decoder: {refusal}.')
    return kind


def check_backbone(experiment: Experiment) -> None:
    """What can be known of a backbone that this machine is
    to train before a weight is read and a stage has run.

    Raises as `family` does, and SettingsError for a precision that this machine or the family does not have
    and for adapters that the model does not take.
    """
    from shelftalk.models.precision import product_type

    product_type(experiment.training.precision, family(experiment))
    if experiment.pretrained.adaptation == "lora":
        from shelftalk.models.pretrained import meta_model

        meta_model(experiment.pretrained, ())


def symbols(run: Run) -> list[str]:
    """Everything that is one token of its own: sentinels, symbols of item names, users if they are shown."""
    return [*all_sentinels(), *run.index.vocabulary, *run.context.user_symbols]


def symbol_texts(run: Run) -> dict[str, list[str]]:
    """Symbol -> the texts of the items whose names hold it,
    as the experiment shows them in or beside those names."""
    texts: dict[str, list[str]] = {}
    for item in run.index.item_ids if run.index.symbols else ():
        text = f"{run.index.free_text(item)} {run.context.text.details(item)}".strip()
        for symbol in split_symbols(run.index.name(item)):
            texts.setdefault(symbol, []).append(text)
    return texts


def tokenizer_texts(run: Run) -> Iterator[str]:
    """What the nano tokenizer is trained on: catalogue texts, names that are text, templates and ratings."""
    for item in run.split.dataset.item_ids:
        yield run.context.text.details(item)
        if name := run.index.free_text(item):
            yield name
    templates = [t.source + t.question + t.target for task in run.tasks.values() for t in task.seen]
    ratings = list(run.context.rating_texts.values())
    # a template's own words are in every sample, so they deserve whole pieces
    yield from (templates + ratings) * 50
