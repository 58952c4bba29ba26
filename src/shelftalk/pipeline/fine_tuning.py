"""Fine-tuning: a fresh backbone trained on the samples of a run, validated on its validation part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from shelftalk import seeds
from shelftalk.evaluation.evaluator import evaluate_retrieval, summarise
from shelftalk.evaluation.metrics import LIST_LENGTH
from shelftalk.pipeline.fresh_backbone import new_backbone
from shelftalk.pipeline.run import Run
from shelftalk.runtime.distributed import world
from shelftalk.runtime.run_folder import scratch_in
from shelftalk.tasks.samples import Samples, read_samples, row_groups

if TYPE_CHECKING:  # torch is loaded only where a language model is
    from shelftalk.models.backbone import Backbone
    from shelftalk.models.text_encoder import Encoded

TRACKING_FOLDER = "tensorboard"
"""In a run's folder: what TensorBoard draws of its training."""


def train_backbone(run: Run, on_step: Callable[[int, int, str], None]) -> tuple[Backbone, dict[str, Any]]:
    """Train a new backbone on the run's sample files;
    continues after the last whole checkpoint in checkpoints/.

    A served task that is neither trained nor judged by is not
    validated: its prompts can cost more than the training's own.
    """
    from shelftalk.training.trainer import train

    experiment, backbone = run.experiment, new_backbone(run)
    encode = encoder(run, backbone, taught=False)
    validation = {
        name: encode(read_samples(run.folder.samples / f"validation.{name}.parquet"))
        for name in validated(run)
    }
    with encoded_epochs(run, backbone) as epochs:
        result = train(
            backbone,
            epochs,
            validation,
            run.folder.checkpoints,
            experiment.training,
            experiment.seed,
            on_step,
            quality=validation_quality(run, backbone),
            tracking=run.folder.path / TRACKING_FOLDER,
        )
    sizes = {"parameters": backbone.parameters, "vocabulary": len(backbone.tokenizer), "bf16": backbone.bf16}
    start = experiment.pretrained.model_dump(mode="json")
    return backbone, {"family": backbone.family, "pretrained": start, **sizes, **asdict(result)}


@contextmanager
def encoded_epochs(run: Run, backbone: Backbone) -> Iterator[Sequence[Sequence[Encoded]]]:
    """The epochs of the run's sample files, encoded a row group at a time into files that are gone after the
    block. With a teacher, whose soft targets are many times as large as the samples, an epoch is encoded into
    memory whenever it is needed."""
    from shelftalk.training.batching import Epochs
    from shelftalk.training.encoded_files import EncodedFiles, write_encoded

    number, encode = run.experiment.training.epochs, encoder(run, backbone)
    if run.teacher is not None:
        yield Epochs(lambda epoch: encode(read_samples(run.folder.epoch(epoch))), number)
        return
    with scratch_in(run.folder.path) as scratch:
        written: dict[int, EncodedFiles] = {}

        def read(epoch: int) -> EncodedFiles:
            if epoch not in written:
                parts = map(encode, row_groups(run.folder.epoch(epoch)))
                written[epoch] = write_encoded(parts, scratch / str(epoch))
            return written[epoch]

        yield Epochs(read, number)


def encoder(run: Run, backbone: Backbone, taught: bool = True) -> Callable[[Samples], list[Encoded]]:
    """What encodes samples as they are trained: the backbone; with a teacher, and where samples are `taught`,
    its soft targets for retrieval; with a softmax over the trie what a name can go on with, of which the
    backbone is told."""
    encode = _with_teacher(run, backbone) if taught else backbone.encode_samples
    softmax = run.experiment.decoding.of_names
    if softmax.over == "vocabulary":
        return encode
    from shelftalk.decoding.item_trie import trie_of
    from shelftalk.models.allowed_tokens import AllowedTokens
    from shelftalk.training.named_targets import TrieTargets

    trie = trie_of(backbone, run.index)
    backbone.allowed_tokens = AllowedTokens(trie.next_tokens(), softmax.temperature)
    row_of = {item: row for row, item in enumerate(run.index.item_ids)}
    rows = np.arange(trie.items)
    targets = TrieTargets(trie.names(rows), trie.nodes_before(rows), row_of, "retrieval")
    return lambda samples: targets.add(samples, encode(samples))


def _with_teacher(run: Run, backbone: Backbone) -> Callable[[Samples], list[Encoded]]:
    settings, scores = run.experiment.teacher, run.teacher
    if scores is None:
        return backbone.encode_samples
    from shelftalk.training.distillation import Distillation, TeacherScores

    data, index = run.split.dataset, run.index
    names = backbone.encode_names([index.segments(item) for item in data.item_ids])
    users = {user: number for number, user in enumerate(data.user_ids)}
    teacher = TeacherScores(users, data.row_of, **scores)
    distillation = Distillation(teacher, names, "retrieval", settings.weight, settings.temperature)
    return lambda samples: distillation.add(samples, backbone.encode_samples(samples))


def validated(run: Run) -> list[str]:
    """Served tasks whose loss is measured at every validation: those that are trained, or those that the
    training is judged by where none of these is trained. A loss that no training lowers, added to one that is
    trained, would only blur which weights are best."""
    tasks, judged_by = run.experiment.tasks, run.experiment.training.judged_by
    trained = [name for name in run.served if tasks[name].weight > 0]
    if set(trained) & set(judged_by):
        return trained
    return [name for name in run.served if name in {*trained, *judged_by}]


def validation_quality(run: Run, backbone: Backbone) -> Callable[[], dict[str, float]] | None:
    """A function that measures the backbone's lists for `training.validation_users` users of the validation
    part, drawn by seed; None for 0 users."""
    users, seed = run.experiment.training.validation_users, run.experiment.seed
    if not users:
        return None
    from shelftalk.decoding.language_model import LanguageModelRecommender

    number = len(run.split.held_out_events("validation"))
    drawn = seeds.generator(seed, "validation users").permutation(number)[:users].tolist()
    requests, truths = run.split.retrieval_requests("validation", drawn)
    # the trie is built once
    model = LanguageModelRecommender(
        backbone, run.index, run.served, run.experiment.decoding, processes=world()
    )

    def quality() -> dict[str, float]:
        lists = model.recommend(requests, LIST_LENGTH)
        return summarise(evaluate_retrieval(lists, requests, truths, run.split.dataset.item_ids), "retrieval")

    return quality
