"""One report in a process of its own: `python -m benchmarks._reporting RUN` prints its cost as JSON."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from benchmarks._verifying import GIGABYTES
from shelftalk.pipeline import stages
from shelftalk.pipeline.run import open_run

if __name__ == "__main__":
    run = open_run(Path(sys.argv[1]))
    record = stages.report(run.folder, run.experiment)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    measured = {
        "written": not record.skipped and not {"torch", "transformers"} & set(sys.modules),
        "gigabytes": round(usage.ru_maxrss / GIGABYTES, 2),
        "processor seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "page MB": round(run.report_path.stat().st_size / 1e6, 2),
    }
    sys.stdout.write(json.dumps(measured) + "\n")
