"""Questions of concurrent callers, answered in batches by one thread.

Callers put questions into a bounded queue; the thread takes what waits, of one model, task and k at most
`max_batch` at a time, in the order of arrival, and answers it together. Nothing waits for a batch to fill:
under little load a batch is one question, under much load it is full. What changed in the catalogue before a
question was put is in its answer.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from shelftalk.errors import ShelftalkError
from shelftalk.serving.answering import Asked, Task
from shelftalk.serving.store import StoredItem, StoreUnavailable


class Overloaded(ShelftalkError):
    """The queue is full, or the service is shutting down."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooLate(ShelftalkError):
    """A question waited longer than it may."""


class Answers(Protocol):
    """What the thread asks; see AnsweringModel."""

    name: str

    def refresh(self, changes: Sequence[StoredItem], now: float) -> list[str]: ...

    def answer(self, task: Task, questions: Sequence[Asked]) -> list[Any]: ...


class Watcher(Protocol):
    """What is told about the work, for metrics."""

    def batch(self, model: str, task: Task, size: int, seconds: float) -> None: ...

    def queued(self, length: int) -> None: ...

    def refused(self, sentences: Sequence[str]) -> None: ...


@dataclass(eq=False)
class Question:
    """One question and where its answer goes."""

    model: str
    task: Task
    asked: Asked
    deadline: float
    """Of time.monotonic()."""
    future: Future[Any] = field(default_factory=Future)

    @property
    def kind(self) -> tuple[str, Task, int]:
        """Questions of one kind are answered together."""
        return self.model, self.task, self.asked.k


@dataclass(eq=False)
class _Served:
    """A model and the changes that it has not seen yet."""

    answers: Answers
    changes: collections.deque[StoredItem] = field(default_factory=collections.deque)


class Engine:
    """The queue and its thread. `before_batch` is called by the thread before each batch: it brings in what
    other processes changed, and an error of it is the answer to the whole batch."""

    def __init__(
        self,
        models: Mapping[str, Answers],
        watcher: Watcher,
        before_batch: Callable[[], None] = lambda: None,
        max_batch: int = 32,
        queue_limit: int = 256,
    ) -> None:
        self._models = {name: _Served(answers) for name, answers in models.items()}
        self._watcher = watcher
        self._before_batch = before_batch
        self._max_batch = max_batch
        self._queue_limit = queue_limit
        self._waiting: collections.deque[Question] = collections.deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._batch_seconds = 0.0  # of the last batches, whatever their size
        self._thread = threading.Thread(target=self._work, name="answers", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    @property
    def is_working(self) -> bool:
        """Whether the thread is alive and takes questions."""
        return self._thread.is_alive() and not self._stopping

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models, the default one first."""
        return tuple(self._models)

    def answers_of(self, name: str) -> Answers:
        """The model of a name, for what may be read from any thread."""
        return self._models[name].answers

    def put(self, question: Question) -> Future[Any]:
        """Queue a question. Raises Overloaded where the queue is full, or so long that at the pace of the
        last batches its turn would come after its deadline."""
        with self._changed:
            if self._stopping:
                raise Overloaded("the service is shutting down; ask another process.", 1)
            if len(self._waiting) >= self._queue_limit:  # without those whose callers went away
                waiting = (one for one in self._waiting if not one.future.cancelled())
                self._waiting = collections.deque(waiting)
            if len(self._waiting) >= self._queue_limit:
                raise Overloaded(
                    f"{self._queue_limit} questions wait already; try again a little later, or let more "
                    "processes answer.",
                    1,
                )
            # the batch at work, those ahead, and the question's own
            batches = len(self._waiting) // self._max_batch + 2 if self._waiting else 0
            wait = batches * self._batch_seconds
            if wait > question.deadline - time.monotonic():
                raise Overloaded(
                    f"{len(self._waiting)} questions wait already, for about {wait:.0f} seconds; try again "
                    "later, or let more processes answer.",
                    max(1, round(wait)),
                )
            self._waiting.append(question)
            self._watcher.queued(len(self._waiting))
            self._changed.notify()
        return question.future

    def change(self, items: Sequence[StoredItem]) -> None:
        """Changes of the catalogue, in their order: in effect for every question put from now on."""
        with self._changed:
            for served in self._models.values():
                served.changes.extend(items)

    def swap(self, name: str, answers: Answers) -> None:
        """Another model under this name, from the next batch on; questions that wait are answered by it. It
        must have seen the changes until now, and those that come meanwhile are given to it too."""
        with self._changed:
            waiting = self._models[name].changes if name in self._models else collections.deque[StoredItem]()
            self._models[name] = _Served(answers, collections.deque(waiting))

    def stop(self, seconds: float) -> bool:
        """Take no more questions, and answer those that wait. Returns whether it came to an end in time; what
        still waits then is refused."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(seconds)
        with self._changed:
            left, self._waiting = list(self._waiting), collections.deque()
        for question in left:
            _refuse(question, Overloaded("the service is shutting down; ask another process.", 1))
        return not self._thread.is_alive()

    # --- the thread --------------------------------------------------------------------------------------

    def _work(self) -> None:
        while batch := self._next_batch():
            model, task, _ = batch[0].kind
            started = time.perf_counter()
            try:
                answers = self._answer(model, task, batch)
            except BaseException as error:  # the thread must go on
                alone = isinstance(error, ShelftalkError) and not isinstance(error, StoreUnavailable)
                if len(batch) > 1 and alone:
                    self._one_by_one(model, task, batch)
                else:
                    for question in batch:
                        _refuse(question, error)
            else:
                for question, answer in zip(batch, answers, strict=True):
                    question.future.set_result(answer)
            seconds = time.perf_counter() - started
            self._batch_seconds += 0.2 * (seconds - self._batch_seconds)
            self._watcher.batch(model, task, len(batch), seconds)

    def _next_batch(self) -> list[Question]:
        """The questions of the first one's kind; empty when there will be no more."""
        while True:
            with self._changed:
                while not self._waiting:
                    if self._stopping:
                        return []
                    self._changed.wait()
                kind = self._waiting[0].kind
                batch: list[Question] = []
                rest: collections.deque[Question] = collections.deque()
                for question in self._waiting:
                    fits = question.kind == kind and len(batch) < self._max_batch
                    (batch if fits else rest).append(question)
                self._waiting = rest
                self._watcher.queued(len(rest))
            now, kept = time.monotonic(), []
            for question in batch:
                if question.deadline <= now:
                    _refuse(question, TooLate("the question waited longer than its time limit; try again."))
                elif question.future.set_running_or_notify_cancel():  # else its caller went away
                    kept.append(question)
            if kept:
                return kept

    def _answer(self, model: str, task: Task, batch: Sequence[Question]) -> list[Any]:
        self._before_batch()
        with self._changed:
            served = self._models[model]
            changes = list(served.changes)
        refused = served.answers.refresh(changes, time.time())
        for _ in changes:  # only now: a change that failed must not be lost, an item might come back
            served.changes.popleft()
        if refused:
            self._watcher.refused(refused)
        return served.answers.answer(task, [question.asked for question in batch])

    def _one_by_one(self, model: str, task: Task, batch: Sequence[Question]) -> None:
        """After an error that one question of a batch caused: it alone gets it."""
        for question in batch:
            try:
                (answer,) = self._answer(model, task, [question])
            except BaseException as error:
                _refuse(question, error)
            else:
                question.future.set_result(answer)


def _refuse(question: Question, error: BaseException) -> None:
    if not question.future.done():
        question.future.set_exception(error)
