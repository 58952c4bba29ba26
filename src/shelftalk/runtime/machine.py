"""What this machine is, without loading anything heavy; `inspecting` adds what only torch knows."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import threading
import time
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
"""How often a waiting thread checks before it sleeps, where the machine has cores to spare: some ten
microseconds, about as long as the work between two operators that threads divide. OpenMP's own hundreds of
thousands take a core from other threads, the one that is waited for included, as soon as other work begins.
Measured on two cores (`benchmarks threads`): alone 1000 turns are about as fast as those, and threads that
sleep at once a third slower; beside two busy processes OpenMP's own is 1.5 to 9 times slower, by how the
system divides the cores, and 1000 turns are half as slow again as none at all."""
_LOOKS, _BETWEEN = 5, 0.005
"""How often, and after how many seconds, it is looked at whether others are waiting for a core."""


def set_thread_waiting() -> None:
    """Set how GNU OpenMP's threads, which torch computes with, wait for each other, by the load of this
    moment: SPINS turns where each has a core for itself, else not at all. It is read when torch is loaded.

    Nothing is changed where the user has set any of THREAD_SETTINGS, or a launcher such as torchrun has.
    """
    if any(name in os.environ for name in THREAD_SETTINGS):
        return
    if others_need_cores():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    else:
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)


def others_need_cores(statistics: Path = Path("/proc/stat")) -> bool:
    """Whether other threads of the machine run on the cores that this process may use, at most of a few looks
    within 20 ms; False where the system (other than Linux) does not tell."""
    busy = 0
    for look in range(_LOOKS):
        time.sleep(_BETWEEN if look else 0)
        try:
            lines = statistics.read_text().splitlines()
        except OSError:
            return False
        running = next((int(line.split()[1]) for line in lines if line.startswith("procs_running ")), 1)
        # this thread is one of them; the whole machine is counted, also inside of a container
        busy += (os.cpu_count() or 1) - (running - 1) < usable_cores()
    return busy > _LOOKS / 2


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hardware_facts() -> dict[str, str | int]:
    """System, processor, cores this process may use, memory and the free disk of the working folder."""
    memory = psutil.virtual_memory()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "processor model": processor_model(),
        "cores": usable_cores(),
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
