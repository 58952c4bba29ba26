"""What the benchmarks of using a model share: the bundled run, finished and published with its prior."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import shelftalk
from shelftalk.experiment import load_experiment
from shelftalk.pipeline.run import Run, open_run
from shelftalk.publishing.publish import publish

RUN = "SHELFTALK_BENCHMARK_RUN"
"""Environment variable: a finished run of the bundled experiment, in place of a training of its own."""


@contextmanager
def published() -> Iterator[tuple[Run, Path, Path]]:
    """A finished run of the bundled MovieLens, its published folder with the prior, and a scratch folder.
    Trained now, unless a run is named."""
    with tempfile.TemporaryDirectory() as scratch:
        given = os.environ.get(RUN)
        run = open_run(given) if given else shelftalk.run(load_experiment(None), out=Path(scratch) / "run")
        yield run, publish(run.folder.path, Path(scratch) / "model", with_prior=True), Path(scratch)
