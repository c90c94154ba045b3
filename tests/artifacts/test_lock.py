"""One process a run; a dead one does not count."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from threading import Timer

import pytest

from sae_cli.artifacts import lock
from sae_cli.artifacts.lock import LOCK, Owner, RunLock, check_free, owner_of
from sae_cli.errors import BusyError, JobError
from tests.known import present

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
    assert present(process.stdout).readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_until_the_first_is_dead(holder, tmp_path):
    owner = present(owner_of(tmp_path / "r"))
    assert owner.pid == holder.pid
    says = rf"r: process {holder.pid} on {owner.host} since {owner.since} UTC works on this run; wait"
    for claim in (RunLock, check_free):
        with pytest.raises(JobError, match=says.replace("+", r"\+")):
            claim(tmp_path / "r")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert owner_of(tmp_path / "r") is None
    taken = RunLock(tmp_path / "r")
    assert present(owner_of(tmp_path / "r")).pid == os.getpid()
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
    assert present(owner_of(tmp_path)).host == "elsewhere"
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


def _of_this_machine(pid):
    return json.dumps(Owner(socket.gethostname(), pid, "2026-01-01T00:00:00")._asdict())


def test_a_process_that_has_the_id_of_a_dead_owner_is_not_the_owner(tmp_path):
    (tmp_path / LOCK).write_text(_of_this_machine(os.getppid()))
    assert owner_of(tmp_path) is None
    RunLock(tmp_path).release()


def test_where_files_cannot_be_locked_the_process_id_decides(tmp_path, monkeypatch):
    def refuse(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / LOCK).write_text(_of_this_machine(os.getppid()))
    with pytest.raises(BusyError, match=f"process {os.getppid()} on"):
        RunLock(tmp_path)
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / LOCK).write_text(_of_this_machine(ended.pid))
    RunLock(tmp_path).release()


def test_a_lock_that_cannot_be_written_is_one_line_and_held_by_nobody(tmp_path, monkeypatch):
    def full(file, content, at):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched, pytest.raises(JobError, match=r"\.lock: cannot be written: No space left"):
        patched.setattr(os, "pwrite", full)
        RunLock(tmp_path)
    RunLock(tmp_path).release()


def test_waiting_ends_when_the_owner_does(holder, tmp_path):
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(BusyError):
        RunLock(tmp_path / "r")
    holder.send_signal(signal.SIGKILL)
    lock.wait_until_free(tmp_path / "r")
    RunLock(tmp_path / "r").release()


def test_who_looks_whether_a_lock_is_held_keeps_nobody_from_it(tmp_path):
    (tmp_path / LOCK).write_text("")
    with open(tmp_path / LOCK, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        looked = Timer(0.5, fcntl.flock, (file, fcntl.LOCK_UN))
        looked.start()
        held = RunLock(tmp_path)
        looked.join()
    assert present(owner_of(tmp_path)).pid == os.getpid()
    held.release()


def test_a_lock_that_was_removed_while_it_was_waited_for_is_made_again(tmp_path, monkeypatch):
    locked = fcntl.flock
    calls = []

    def removed(file, how):
        if not calls:
            (tmp_path / LOCK).unlink()
        calls.append(how)
        locked(file, how)

    monkeypatch.setattr(fcntl, "flock", removed)
    held = RunLock(tmp_path)
    assert len(calls) == 2 and present(owner_of(tmp_path)).pid == os.getpid()
    held.release()
