"""One verification in a process of its own: `python -m benchmarks._verifying RUN` prints its cost as JSON."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from shelftalk.certificate.verify import verify
from shelftalk.runtime.run_folder import RunFolder

GIGABYTES = 1e6
"""Of the kilobytes that the system reports."""


def peak_kilobytes() -> int:
    """The highest memory of this program. What `getrusage` says begins with that of the process that started
    it, so Linux is asked for the peak since this program was loaded."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return next(iter(peaks), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    result = verify(RunFolder(Path(sys.argv[1])))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    measured = {
        "verified": result.holds and not {"torch", "transformers"} & set(sys.modules),
        "gigabytes": round(peak_kilobytes() / GIGABYTES, 2),
        "processor seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "not checked": "; ".join(result.left_out),
        "problems": "; ".join(problem.sentence for problem in result.problems),
        **result.counted,
    }
    sys.stdout.write(json.dumps(measured) + "\n")
