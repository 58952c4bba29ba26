"""Any model of Cornac as a recommender: our training part in, scores of our catalogue out.

A model of next items (GRU4Rec, BERT4Rec, SASRec, TIGER ...) scores the items after the history of the
request, whoever has it. Any other (MF, BPR, EASE, LightGCN ...) has scores per user: it answers the users of
the interactions, of whom it has seen the training part alone, whatever history the request has, and refuses
others. Names and settings: cornac_models.py.

Legend: R requests, I items.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np

from shelftalk import seeds
from shelftalk.baselines.cornac_data import CornacData, learnt_events
from shelftalk.baselines.cornac_models import (
    ITEM_FEATURE_MODELS,
    PARALLEL_SESSIONS,
    PREFIX,
    CornacSettings,
    check_installed,
    cornac_model,
)
from shelftalk.baselines.scored_catalogue import ScoredCatalogue, scored_catalogue
from shelftalk.data.splitting import Split
from shelftalk.errors import BadRequest, SettingsError, ShelftalkError, UnknownPart
from shelftalk.recommender import check_items
from shelftalk.records import Ranking, Request


@dataclass(frozen=True, eq=False)
class CornacRecommender:
    """A fitted model of Cornac. Equal scores are in the order of popularity, see ScoredCatalogue.

    `user_number`: Cornac's number of each user; those from `known_users` on have nothing that it learnt from.
    `item_number` [I]: Cornac's number of each catalogue row.
    """

    name: str
    model: Any
    sequential: bool
    catalogue: ScoredCatalogue
    user_number: Mapping[str, int]
    known_users: int
    item_number: np.ndarray

    def selection(self) -> list[str]:
        """What the answers are made of, a sentence each."""
        if self.sequential:
            return [f"{self.name}: answers from the history of a request."]
        sentences = [
            f"{self.name}: answers from what the training part has of a user, and not from the history of a "
            "request; in the test part it has not seen the validation item, which histories show."
        ]
        if others := len(self.user_number) - self.known_users:
            sentences.append(
                f"{self.name}: {others:,} of {len(self.user_number):,} users have nothing in the training "
                "part that it learns from, and get what Cornac answers to a user whom it does not know."
            )
        return sentences

    def item_scores(self, requests: Sequence[Request]) -> np.ndarray:
        """[R, I] float32 in catalogue order. An item that Cornac does not know has the lowest score of those
        that it knows, as in Cornac itself.

        Raises BadRequest for a user whom the model cannot know, and SettingsError for scores that are no
        numbers.
        """
        return np.stack([self._scores(request) for request in requests])

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranking]:
        """The k best eligible items. Raises as every recommender does, and as `item_scores`."""
        return self.catalogue.recommend(self.item_scores, requests, k)

    def rank(self, requests: Sequence[Request]) -> list[Ranking]:
        """The candidates by score. Raises as every ranker does, and as `item_scores`."""
        return self.catalogue.rank(self.item_scores, requests)

    def _scores(self, request: Request) -> np.ndarray:
        """[I] float32 in catalogue order."""
        known = self._of_history(request) if self.sequential else self._of_user(request)
        known = np.asarray(known, np.float32).ravel()
        _check_numbers(self.name, known)
        scores = np.full(len(self.item_number), known.min(), np.float32)
        scores[: len(known)] = known
        result: np.ndarray = scores[self.item_number]
        return result

    def _of_history(self, request: Request) -> Any:
        history = self.item_number[self.catalogue.rows(request.history, request.user)].tolist()
        # FPMC looks at the user too; a number beyond all of them is one that it does not know
        user = self.user_number.get(request.user, len(self.user_number))
        return self.model.score(user, history)

    def _of_user(self, request: Request) -> Any:
        from cornac.exception import ScoreException

        user = self._known_user(request)
        try:
            return self.model.score(user)
        except ScoreException:  # nothing was learnt from the user: `selection` counts them
            return [self.model.default_score()]

    def _known_user(self, request: Request) -> int:
        try:
            return self.user_number[request.user]
        except KeyError:
            raise BadRequest(
                f'"{self.name}" answers the users of the interactions alone, and "{request.user}" is none of '
                f'them; ask a model that answers from the history, such as "{PREFIX}GRU4Rec" or "item_knn", '
                "or add the user's interactions and run again."
            ) from None


@dataclass(frozen=True, eq=False)
class CornacRater(CornacRecommender):
    """One that has learnt ratings, and predicts them."""

    def rate(self, requests: Sequence[Request]) -> list[float]:
        """Cornac's estimates, between the lowest and the highest rating learnt. Raises as every rater does,
        and as `item_scores`."""
        check_items(requests, self.catalogue.row_of, "rating")
        estimates = []
        for request in requests:
            item = int(self.item_number[self.catalogue.row_of[request.item]])
            estimates.append(float(self.model.rate(self._known_user(request), item)))
        _check_numbers(self.name, estimates)
        return estimates


def fit_cornac(name: str, split: Split, settings: CornacSettings, seed: int) -> CornacRecommender:
    """Fit the model "cornac:CLASS" to the training part. Everything random in it follows the seed.

    Raises UnknownPart where a package is missing, NothingLeft where ratings are to be learnt and there are
    none, and SettingsError, with Cornac's own reason, where the model cannot be fitted.
    """
    check_installed(name)
    declared, ratings = cornac_model(name), settings.feedback == "ratings"
    if declared.sequential and ratings:
        raise SettingsError(
            f'"{name}" learns what comes next, not ratings; set feedback = "events" in [baselines."{name}"].'
        )
    number = seeds.number(seed, name) % 2**31  # as large as Cornac's generators take
    data = CornacData(split, learnt_events(name, split, ratings), ratings, number)
    train = data.sessions(data.learnt) if declared.sequential else data.matrix(data.learnt)
    if declared.kind.__name__ in ITEM_FEATURE_MODELS:
        train.item_feature = data.item_features()
    if declared.kind.__name__ in PARALLEL_SESSIONS:
        _check_batch(name, data, settings.parameters()["batch_size"])
    validation = data.validation(declared.sequential) if settings.validates else None
    given: dict[str, Any] = {"seed": number} if declared.seeded else {}
    with _reasons(name), _generators(number), redirect_stdout(StringIO()):
        model = declared.kind(name=name, **settings.parameters(), **declared.quiet, **given)
        model.fit(train, validation)
    recommender = CornacRater if ratings else CornacRecommender
    numbers = zip(split.dataset.user_ids, data.user_number.tolist(), strict=True)
    known = (dict(numbers), len(data.known_users), data.item_number)
    return recommender(name, model, declared.sequential, scored_catalogue(split), *known)


def _check_batch(name: str, data: CornacData, batch_size: int) -> None:
    """Raises SettingsError where a model that reads `batch_size` users side by side has not as many."""
    events = np.bincount(data.split.event_user[data.learnt])
    users = int((events > 1).sum())
    if users < batch_size:
        remedy = f"set batch_size = {users} or less" if users else "leave the model out"
        raise SettingsError(
            f'"{name}" reads batch_size = {batch_size} users side by side, and {users} have two training '
            f'events; {remedy} in [baselines."{name}"].'
        )


def _check_numbers(name: str, values: Any) -> None:
    """Raises SettingsError for a value that is no number, which a training that diverged leaves."""
    if not np.isfinite(values).all():
        raise SettingsError(
            f'"{name}" gives scores that are no numbers; set a lower learning rate, or other settings, in '
            f'[baselines."{name}"].'
        )


@contextmanager
def _reasons(name: str) -> Iterator[None]:
    """A block of Cornac's code, whose errors become UnknownPart or SettingsError."""
    try:
        yield
    except ShelftalkError:
        raise
    except ModuleNotFoundError as error:
        raise UnknownPart(
            f'"{name}" needs the Python package "{error.name}"; install it, or leave the model out.'
        ) from error
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        raise SettingsError(
            f'"{name}" cannot be fitted ({type(error).__name__}: {reason}); correct its settings in '
            f'[baselines."{name}"], or leave it out: a model may need images, reviews or a social graph, '
            "which are not here."
        ) from error


@contextmanager
def _generators(number: int) -> Iterator[None]:
    """The generators of Python, numpy and torch, which some models draw from, with a seed of their own
    inside the block and as before after it."""
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(number)
        np.random.seed(number)
        torch.manual_seed(number)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
