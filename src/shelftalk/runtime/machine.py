"""What this machine is, without loading anything heavy; `inspecting` adds what only torch knows."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from shelftalk import __version__

LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "polars",
    "pyarrow",
    "numpy",
    "scikit-learn",
    "scipy",
    "pydantic",
)

THREAD_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")
"""Environment variables by which a user sets how threads work and wait."""
SPINS = 1000
"""How often a waiting thread checks before it sleeps: some ten microseconds, about as long as the work
between two operators that threads divide. OpenMP's own hundreds of thousands take a core from other threads,
the one that is waited for included. Measured on two cores (`benchmarks threads`): alone 1000 turns are about
as fast as those and 300 a third slower; beside two busy processes OpenMP's own is many times slower, 1000
turns half as slow again as none at all, and 3000 use half as much of the processor again."""


def spin_briefly() -> None:
    """Let GNU OpenMP's threads, which torch computes with, wait for
    SPINS turns; only before torch is loaded does it take effect.

    Nothing is changed where the user has set any of THREAD_SETTINGS, or a launcher such as torchrun has.
    """
    if not any(name in os.environ for name in THREAD_SETTINGS):
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)


def hardware_facts() -> dict[str, str | int]:
    """System, processor, cores this process may use, memory and the free disk of the working folder."""
    memory = psutil.virtual_memory()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "processor model": processor_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory": f"{memory.total / 1e9:.1f} GB, {memory.available / 1e9:.1f} GB available",
        "free disk here": f"{shutil.disk_usage('.').free / 1e9:.1f} GB",
    }


def versions() -> dict[str, str]:
    """Versions of shelftalk, Python and the libraries whose numbers a result may depend on."""
    known = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"shelftalk": __version__, "python": platform.python_version(), **known}


@contextmanager
def memory_sampled() -> Iterator[list[float]]:
    """The highest memory of this process within the block, in GB, sampled ten times a second; the system's
    own record never falls from one run to the next."""
    process, over = psutil.Process(), threading.Event()
    peak = [process.memory_info().rss / 1e9]

    def sample() -> None:
        while not over.wait(0.1):
            peak[0] = max(peak[0], process.memory_info().rss / 1e9)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
        peak[0] = max(peak[0], process.memory_info().rss / 1e9)


def processor() -> str:
    """The processor's name, or its architecture where the system keeps the name to itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


def processor_model() -> str:
    """Family, model and stepping, such as "25/17/1", which tell processors of one name apart; "" where the
    system does not tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().split("\n\n")[0].splitlines() if info.exists() else []
    known = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    names = ("cpu family", "model", "stepping")
    return "/".join(known[name] for name in names) if known.keys() >= set(names) else ""
