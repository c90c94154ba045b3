"""Several processes begin, fill and finish one run within milliseconds: `crowd.py FOLDER NUMBER` does that in NUMBER
runs and prints how each process ended, as JSON."""

import json
import os
import random
import sys
import time
from pathlib import Path

from sae_cli.artifacts.run_directory import finished_run, open_run, unfinished_run
from sae_cli.errors import BusyError

ENDS = ("worked", "found", "refused", "failed")
MEMBERS = 6


def work(directory: Path) -> str:
    if finished_run(directory, {}, overwrite=False):
        return "found"
    attempt = unfinished_run(directory, overwrite=False)
    with open_run(directory, "train", {}, attempt=attempt) as run:
        run.write_text("config.yaml", "a")
        run.save_progress()
        run.write_text("figures", "b")
        run.finish()
    return "worked"


def member(directory: Path, delay: float) -> str:
    time.sleep(delay)
    try:
        return work(directory)
    except BusyError:
        return "refused"
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return "failed"


def crowd(directory: Path, delays: list[float]) -> list[str]:
    """How each of the processes ended that worked on a run at the same time."""
    pids = []
    for delay in delays:
        if (pid := os.fork()) == 0:
            os._exit(ENDS.index(member(directory, delay)))
        pids.append(pid)
    ends = [ENDS[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])] for pid in pids]
    finished = finished_run(directory, {}, overwrite=False)
    assert finished is not None
    finished.check_files(verify=True)
    return ends


if __name__ == "__main__":
    folder, number, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(0)
    spans = [rng.choice([0.0, 0.02, 0.1]) for _ in range(number)]
    delays = [[rng.uniform(0, span) for _ in range(MEMBERS)] for span in spans]
    print(json.dumps([crowd(folder / str(i), delays[i]) for i in range(number)]))
