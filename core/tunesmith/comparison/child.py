"""`python -m tunesmith.comparison.child JOB.json`: the process of one candidate, so that peak memory is its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tunesmith.children import follow_parent
from tunesmith.errors import TunesmithError


def main(path: Path) -> int:
    """Do a job, leave its outcome in the file that the job names, and return the exit code."""
    follow_parent()
    from tunesmith.comparison.job import Job, execute
    from tunesmith.console import wait_quietly
    from tunesmith.console.failure import guarded
    from tunesmith.console.progress import reporter
    from tunesmith.store import write_json

    wait_quietly()
    job = Job.read(path)

    def work() -> int:
        try:
            with reporter() as talk:
                run = execute(job, talk)
        except BaseException as error:
            write_json(Path(job.outcome), {"error": described(error)})
            raise
        write_json(Path(job.outcome), {"run": str(run) if run else None})
        return 0

    return guarded(work, debug=bool(os.environ.get("TUNESMITH_DEBUG")))


def described(error: BaseException) -> dict[str, Any]:
    """An error as plain data."""
    if isinstance(error, TunesmithError):
        parts = {"what": error.what, "where": error.where, "fix": error.fix, "details": list(error.details)}
        return {**parts, "exit_code": error.exit_code}
    return {"what": f"{type(error).__name__}: {error}", "where": None, "fix": None, "details": [], "exit_code": 1}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
