"""One shard answered: what every engine does, in whatever process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shelftalk.batch.request_files import from_json
from shelftalk.batch.shards import Job, Shards
from shelftalk.errors import ShelftalkError
from shelftalk.recommender import TaskName, answer
from shelftalk.records import Request


@dataclass(frozen=True)
class Work:
    """What a worker needs to know: plain values, which any process may be sent."""

    model: str
    """The folder of the model."""
    parts: str
    """The folder of the shards."""
    job: Job


class Answerer:
    """Opens the model once and answers shards.

    It computes with one thread: then a shard's answers are the same to the bit whatever the number of workers
    and the engine, and several workers do not wait for each other's threads.
    """

    def __init__(self, work: Work) -> None:
        import torch

        from shelftalk.publishing.opening import open_published

        torch.set_num_threads(1)
        self.shards = Shards(Path(work.parts), work.job)
        self.model, _ = open_published(work.model)

    def __call__(self, number: int) -> int:
        """Answer one shard and write its file. Returns its number. Raises as the model does, unless bad rows
        are kept."""
        job, lines = self.shards.job, self.shards.requests(number).read_text("utf-8").splitlines()
        errors = [json.loads(line).get("error") if line.startswith('{"error"') else None for line in lines]
        requests = [
            Request("", ()) if error is not None else from_json(line)
            for line, error in zip(lines, errors, strict=True)
        ]
        answers = self._answers(requests, errors)
        users = [
            json.loads(line)["user_id"] if error is not None else request.user
            for line, request, error in zip(lines, requests, errors, strict=True)
        ]
        columns: dict[str, Sequence[Any]] = {"user_id": users}
        if job.task == "rating":
            columns["rating"] = answers
        else:
            columns["items"] = [None if one is None else list(one.items) for one in answers]
            columns["scores"] = [None if one is None else list(one.scores) for one in answers]
        if job.keep_bad_rows:
            columns["error"] = errors
        self.shards.write_answers(number, columns)
        return number

    def _answers(self, requests: Sequence[Request], errors: list[str | None]) -> list[Any]:
        """One per request, None for one with an error; errors that come up are noted in `errors`."""
        good = [row for row, error in enumerate(errors) if error is None]
        answers: list[Any] = [None] * len(requests)
        try:
            given = self._asked([requests[row] for row in good])
        except ShelftalkError:
            if not self.shards.job.keep_bad_rows:
                raise
            given = []
            for row in good:
                try:
                    given += self._asked([requests[row]])
                except ShelftalkError as error:
                    errors[row] = str(error)
                    given.append(None)
        for row, one in zip(good, given, strict=True):
            answers[row] = one
        return answers

    def _asked(self, requests: Sequence[Request]) -> list[Any]:
        task: TaskName = self.shards.job.task  # type: ignore[assignment]
        return answer(self.model, task, requests, self.shards.job.k) if requests else []
