"""The probe of a finished run: what its model knows of co-purchases and preferences, before and after
alignment.

The questions are made of the validation part alone, so that the test part is not used: a user's validation
item among items that are as popular and that they took neither in training nor in validation.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from shelftalk import seeds
from shelftalk.data.splitting import Split
from shelftalk.errors import NothingLeft
from shelftalk.pipeline.fresh_backbone import new_backbone
from shelftalk.pipeline.model_folder import read_model_facts
from shelftalk.pipeline.run import Run
from shelftalk.recommender import ALIGNED
from shelftalk.runtime.progress import OnProgress, StageProgress, silent
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.studies.probing.option_scores import option_scores
from shelftalk.studies.probing.questions import OPTIONS, Question
from shelftalk.studies.probing.references import reference_answers
from shelftalk.studies.probing.scoring import answers_frame

RECENT = 3
"""Items of the history that a co-purchase question shows."""
FEWEST = 3
"""Training events that the answer must have: nothing can be known of an item that is never seen."""
RUN_KINDS = {
    "co-purchase": f"the last {RECENT} items of a history are shown: which of {OPTIONS} equally popular "
    "items did the user take next?",
    "preference": "the whole history is shown: which of 2 equally popular items did the user take next?",
}
"""Kind of knowledge -> the question, for real data."""
WITHOUT_ORDER = {
    "co-purchase": f"{RECENT} items of a history are shown: which of {OPTIONS} equally popular items did the "
    "user take too?",
    "preference": "the whole history is shown: which of 2 equally popular items did the user take too?",
}
"""The same for histories without an order."""
RUN_WAYS = ("retrieval", "masked_items", "masked_language", "pairwise_preference")


def probe_run(run: Run, number: int, seed: int, progress: OnProgress = silent) -> pl.DataFrame:
    """Answers of the references, of the untrained model and of the trained one to `number` questions of each
    kind."""
    run.folder.needed("train")
    ways = _ways(run)
    steps = StageProgress(progress, "probe", 1 + 2 * len(ways), "references")
    questions = run_questions(run.split, number, seed)
    frames = [reference_answers(run.split, questions, seed)]
    for name in ("before alignment", ALIGNED):
        backbone = run.backbone if name == ALIGNED else new_backbone(run)
        for way, held_out in ways:
            wording = "held out" if held_out else "seen"
            steps(f"{name}: {way}, {wording} templates")
            scores = option_scores(backbone, run.index, run.tasks, questions, way, held_out)
            frames.append(answers_frame(questions, scores, name, seed, way, wording))
    steps.finish()
    return pl.concat(frames)


def run_questions(split: Split, number: int, seed: int) -> list[Question]:
    """At most `number` questions of each kind, about users drawn by seed.

    The other options are neighbours of the answer in the order of popularity, a random number of them above
    it, so that a guess by popularity is at chance. Raises NothingLeft where no validation item has neighbours
    on both sides.
    """
    draw, (requests, truths) = seeds.generator(seed, "probe run"), split.retrieval_requests("validation")
    # [I] catalogue rows, least popular first
    order = np.lexsort((np.arange(len(split.popularity)), split.popularity))
    position = np.argsort(order)

    def of_kind(kind: str, options: int) -> Iterator[Question]:
        """Drawn one by one: no more than `number` are made."""
        for row in draw.permutation(len(requests)).tolist():
            history, truth = requests[row].history, truths[row]
            if not history or split.popularity[split.dataset.row_of[truth]] < FEWEST:
                continue
            if offered := _offered(split, order, position, history, truth, options, draw):
                shown = history[-RECENT:] if kind == "co-purchase" else history
                yield Question(kind, requests[row].user, 0, shown, len(shown), offered, truth)

    questions = [
        *itertools.islice(of_kind("co-purchase", OPTIONS), number),
        *itertools.islice(of_kind("preference", 2), number),
    ]
    if not questions:
        raise NothingLeft(
            "no validation item has equally popular neighbours that its user did not take; probe a run on "
            "more data."
        )
    return questions


def _offered(
    split: Split,
    order: np.ndarray,
    position: np.ndarray,
    history: Sequence[str],
    truth: str,
    options: int,
    draw: np.random.Generator,
) -> tuple[str, ...]:
    """The truth among its neighbours in popularity, shuffled; () where it is too close to either end of the
    order."""
    ids, taken = split.dataset.item_ids, set(history)
    own = int(position[split.dataset.row_of[truth]])
    below = _nearest(own, -1, options - 1, order, ids, taken)
    above = _nearest(own, 1, options - 1, order, ids, taken)
    if min(len(below), len(above)) < options - 1:  # at an end, popularity would give the answer away
        return ()
    higher = int(draw.integers(options))
    offered = [truth, *above[:higher], *below[: options - 1 - higher]]
    return tuple(offered[number] for number in draw.permutation(options).tolist())


def _nearest(
    own: int, step: int, number: int, order: np.ndarray, ids: Sequence[str], taken: set[str]
) -> list[str]:
    """The `number` items nearest to position `own` in one direction that the user did not take; fewer at the
    end."""
    items = (ids[order[other]] for other in range(own + step, len(order) if step > 0 else -1, step))
    return list(itertools.islice((item for item in items if item not in taken), number))


def _ways(run: Run) -> list[tuple[str, bool]]:
    """The retrieval prompt and the templates of each auxiliary task of the run: task, whether the templates
    are held out."""
    pairs = itertools.product((way for way in RUN_WAYS if way in run.tasks), (False, True))
    return [(way, held_out) for way, held_out in pairs if not held_out or run.tasks[way].held_out]


def open_trained(folder: RunFolder) -> Run:
    """A finished run, with the templates that its model was trained with. Raises MissingFile where there is
    no run, and StageMissing where there is no trained model in it."""
    from shelftalk.experiment import saved_experiment

    experiment = saved_experiment(folder)
    folder.needed("train")
    return Run(folder, experiment, templates=read_model_facts(folder.model).templates)
