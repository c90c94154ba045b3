"""One process a run; a dead one does not count."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from sae_cli.artifacts import lock
from sae_cli.artifacts.lock import LOCK, Owner, RunLock, check_free, owner_of
from sae_cli.errors import JobError

HOLDER = """
import sys, time
from pathlib import Path
from sae_cli.artifacts.lock import RunLock
held = RunLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "r")], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_until_the_first_is_dead(holder, tmp_path):
    owner = owner_of(tmp_path / "r")
    assert owner.pid == holder.pid
    says = rf"r: process {holder.pid} on {owner.host} since {owner.since} UTC works on this run; wait"
    for claim in (RunLock, check_free):
        with pytest.raises(JobError, match=says.replace("+", r"\+")):
            claim(tmp_path / "r")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert owner_of(tmp_path / "r") is None
    taken = RunLock(tmp_path / "r")
    assert owner_of(tmp_path / "r").pid == os.getpid()
    taken.release()
    taken.release()
    assert not (tmp_path / "r" / LOCK).exists()


def test_a_lock_is_no_one_elses_within_the_process_either(tmp_path):
    held = RunLock(tmp_path)
    with pytest.raises(JobError, match="works on this run"):
        RunLock(tmp_path)
    check_free(tmp_path)  # this process may look
    held.release()


def test_a_lock_of_another_machine_counts_while_it_shows_signs_of_life(tmp_path):
    path = tmp_path / LOCK
    path.write_text(json.dumps(Owner("elsewhere", 1, "2026-01-01T00:00:00")._asdict()))
    with pytest.raises(JobError, match="process 1 on elsewhere"):
        RunLock(tmp_path)
    assert owner_of(tmp_path).host == "elsewhere"
    os.utime(path, (time.time() - 91, time.time() - 91))
    assert owner_of(tmp_path) is None
    RunLock(tmp_path).release()


def test_the_owner_shows_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_SIGN_OF_LIFE", 0.01)
    held = RunLock(tmp_path)
    os.utime(tmp_path / LOCK, (0, 0))
    deadline = time.monotonic() + 5
    while (tmp_path / LOCK).stat().st_mtime == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (tmp_path / LOCK).stat().st_mtime > 0
    held.release()


def test_a_file_that_is_not_a_lock_of_ours_does_not_block(tmp_path):
    (tmp_path / LOCK).write_text("{")
    assert owner_of(tmp_path) is None
    RunLock(tmp_path).release()
