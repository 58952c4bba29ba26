"""What every benchmark shares: claims, what it was measured on, and the file that keeps the result.

A benchmark is a module beside this one, named as on the command line with underscores for hyphens. It has
CLAIMS, one sentence each, and `main(quick) -> Result`, which measures both sides of every comparison in one
run. A claim that does not hold stays in the file with its true value.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from shelftalk.runtime.machine import processor, usable_cores, versions

RESULTS = Path(__file__).parent / "results"
REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Claim:
    """A sentence, the value measured for it, what was aimed at, and whether it holds. `value` is a figure or
    a short text."""

    claim: str
    value: float | str
    target: str
    holds: bool


@dataclass(frozen=True)
class Result:
    """The result of a benchmark: its claims, and in `runs` everything measured, one flat object per run."""

    seed: int
    claims: Sequence[Claim]
    runs: Sequence[dict[str, Any]] = ()
    data: dict[str, str] = field(default_factory=dict)
    """Data set -> its hash (see data_hash)."""


def machine() -> dict[str, Any]:
    """Cores this process may use, memory in GB, processor, and whether it multiplies bf16 in hardware."""
    from shelftalk.models.precision import has_bf16

    memory = round(psutil.virtual_memory().total / 1e9, 1)
    return {"cores": usable_cores(), "memory": memory, "processor": processor(), "bf16": has_bf16()}


def code(repository: Path = REPOSITORY) -> dict[str, Any]:
    """The commit that is checked out, and whether a file other than results differs from it; None for both
    without git."""
    try:
        commit = _git(repository, "rev-parse", "HEAD").strip()
        changed = _git(repository, "status", "--porcelain", "--", ".", ":!benchmarks/results")
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "changed": None}
    return {"commit": commit, "changed": bool(changed)}


def _git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def data_hash(paths: Iterable[Path]) -> str:
    """SHA-256 over names and contents of files, in the order of their names: the same data, the same hash."""
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.name):
        digest.update(path.name.encode() + b"\x00" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@contextmanager
def highest_memory() -> Iterator[list[float]]:
    """The highest memory of this process in MB, looked at every 5 ms."""
    process, done = psutil.Process(), threading.Event()
    highest = [process.memory_info().rss / 1e6]

    def watch() -> None:
        while not done.wait(0.005):
            highest[0] = max(highest[0], process.memory_info().rss / 1e6)

    thread = threading.Thread(target=watch)
    thread.start()
    yield highest
    done.set()
    thread.join()


def write_result(
    name: str,
    quick: bool,
    seed: int,
    claims: Sequence[Claim],
    runs: Sequence[dict[str, Any]],
    data: dict[str, str] | None = None,
    measured: dict[str, Any] | None = None,
    folder: Path = RESULTS,
) -> Path:
    """Write NAME.json, or NAME.quick.json, into `folder` and return its path. Written beside and renamed.

    `measured` is what `code` returned when the measurement began; None asks now.
    """
    content = {
        "name": name,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "quick": quick,
        "code": measured or code(),
        "machine": machine(),
        "versions": versions(),
        "seed": seed,
        "data": data or {},
        # numpy's bool is not JSON's
        "claims": [asdict(claim) | {"holds": bool(claim.holds)} for claim in claims],
        "runs": list(runs),
    }
    path = folder / (f"{name}.quick.json" if quick else f"{name}.json")
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(
        json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    os.replace(part, path)
    return path
