"""The probe of a finished run: what its model knows of co-purchases and preferences, before and after
alignment.

The questions are made of the validation part alone, so that no look at the test part is spent: a user's
validation item among items that are as popular and that they did not take, as far as training and validation
tell.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from shelftalk import seeds
from shelftalk.data.splitting import Split
from shelftalk.errors import NothingLeft
from shelftalk.fresh_backbone import new_backbone
from shelftalk.model_folder import read_model_facts
from shelftalk.recommender import ALIGNED
from shelftalk.runs import Run
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.studies.probing.option_scores import ask
from shelftalk.studies.probing.questions import OPTIONS, Question
from shelftalk.studies.probing.references import reference_answers
from shelftalk.studies.probing.scoring import answers_frame

if TYPE_CHECKING:
    from shelftalk.models.backbone import Backbone

RECENT = 3
"""Items of the history that a co-purchase question shows."""
FEWEST = 3
"""Training events that the answer must have: nobody can know what goes with an item that is never seen."""
RUN_KINDS = {
    "co-purchase": f"the last {RECENT} items of a history are shown: which of {OPTIONS} equally popular items did the user take next?",
    "preference": "the whole history is shown: which of 2 equally popular items did the user take next?",
}
"""Kind of knowledge -> what is asked, for real data."""
WITHOUT_ORDER = {
    "co-purchase": f"{RECENT} items of a history are shown: which of {OPTIONS} equally popular items did the user take too?",
    "preference": "the whole history is shown: which of 2 equally popular items did the user take too?",
}
"""The same for histories without an order."""
RUN_WAYS = ("retrieval", "masked_items", "masked_language", "pairwise_preference")


def probe_run(run: Run, number: int, seed: int) -> pl.DataFrame:
    """Answers of the references, of the untrained model and of the trained one to `number` questions of each
    kind."""
    run.folder.needed("train")
    questions = run_questions(run.split, number, seed)
    frames = [reference_answers(run.split, questions, seed)]
    for name, backbone in (("before alignment", new_backbone(run)), (ALIGNED, run.backbone)):
        frames.append(_asked(run, backbone, name, questions, seed))
    return pl.concat(frames)


def run_questions(split: Split, number: int, seed: int) -> list[Question]:
    """At most `number` questions of each kind, about users drawn by seed.

    The other options stand beside the answer in the order of popularity, as many above it as chance has it,
    so that a guess by popularity is right as often as any. Raises NothingLeft where no validation item has
    neighbours on both sides.
    """
    draw, (requests, truths) = seeds.generator(seed, "probe run"), split.retrieval_requests("validation")
    order = np.lexsort(
        (np.arange(len(split.popularity)), split.popularity)
    )  # [I] catalogue rows, least popular first
    position = np.argsort(order)
    found: list[Question] = []
    for kind, options in (("co-purchase", OPTIONS), ("preference", 2)):
        usable = (
            Question(kind, request.user, 0, shown, len(shown), offered, truth)
            for request, truth in (
                (requests[row], truths[row]) for row in draw.permutation(len(requests)).tolist()
            )
            if request.history and split.popularity[split.dataset.row_of[truth]] >= FEWEST
            for shown in [request.history[-RECENT:] if kind == "co-purchase" else request.history]
            if (offered := _offered(split, order, position, request.history, truth, options, draw))
        )
        found += itertools.islice(usable, number)
    if not found:
        raise NothingLeft(
            "no validation item has equally popular neighbours that its user did not take; probe a run on more data."
        )
    return found


def _offered(
    split: Split,
    order: np.ndarray,
    position: np.ndarray,
    history: Sequence[str],
    truth: str,
    options: int,
    draw: np.random.Generator,
) -> tuple[str, ...]:
    """The truth among its neighbours in popularity, shuffled; () where it stands too close to either end of
    the order."""
    ids, taken = split.dataset.item_ids, set(history)
    own = int(position[split.dataset.row_of[truth]])
    below = _nearest(own, -1, options - 1, order, ids, taken)
    above = _nearest(own, 1, options - 1, order, ids, taken)
    if min(len(below), len(above)) < options - 1:  # an answer at the end would be known by its place
        return ()
    higher = int(draw.integers(options))
    offered = [truth, *above[:higher], *below[: options - 1 - higher]]
    return tuple(offered[at] for at in draw.permutation(options).tolist())


def _nearest(
    own: int, step: int, number: int, order: np.ndarray, ids: Sequence[str], taken: set[str]
) -> list[str]:
    """The `number` items nearest to a place in one direction that the user did not take; fewer at the end."""
    rows = (ids[order[at]] for at in range(own + step, len(order) if step > 0 else -1, step))
    return list(itertools.islice((item for item in rows if item not in taken), number))


def _asked(run: Run, backbone: Backbone, name: str, questions: Sequence[Question], seed: int) -> pl.DataFrame:
    """Behind the retrieval prompt, and in the own wording of each auxiliary task of the run, seen and held
    out."""
    frames = []
    for way, held_out in itertools.product((way for way in RUN_WAYS if way in run.tasks), (False, True)):
        if held_out and not run.tasks[way].held_out:
            continue
        scores = ask(backbone, run.index, run.tasks, questions, way, held_out)
        frames.append(answers_frame(questions, scores, name, seed, way, "held out" if held_out else "seen"))
    return pl.concat(frames)


def parts_of(folder: RunFolder) -> Run:
    """The parts of a finished run. Raises StageMissing where there is no trained model in it."""
    from shelftalk.experiment import saved_experiment

    folder.needed("train")
    return Run(folder, saved_experiment(folder), templates=read_model_facts(folder.model).templates)
