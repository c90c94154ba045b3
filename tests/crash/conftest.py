"""What every crash test needs: commands started from a fork server, and a comparison of what two of them left.

    test_kills.py    a run that is killed or asked to stop at any moment ends as one that was left alone
    test_faults.py   a call that fails and a disk that is full are one line, and damage nothing
    test_pairs.py    of two processes on one run one works; an evaluation that both need is made once

How much is done is up to the environment:
    CRASH_KILLS=100    kills of each kind of run, and half as many of the other signals
    CRASH_FAULTS=all   faults for each command, spread over all that can be injected
    CRASH_PAIRS=50     pairs of processes
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from sae_cli.artifacts.manifest import CHECKPOINTS, MANIFEST, read_manifest
from sae_cli.config.stored import CONFIG_FILE

HERE = Path(__file__).parent
WORDS = [f"{a}{b}" for a in ("ba", "ke", "lo", "mi", "nu") for b in ("ta", "re", "si", "po")]
TIMING = {"seconds", "tokens_per_second", "forward_tokens_per_second"}
FIGURES = "figures"


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.getreports("passed"):
        for name, line in report.user_properties:
            if name == FIGURES:
                terminalreporter.write_line(f"{report.nodeid.split('::')[-1]}: {line}")


class Child(NamedTuple):
    """A command that runs: its process and where its output goes."""

    pid: int
    log: Path


class Ended(NamedTuple):
    """How it ended: the exit code (minus the signal's number where a signal killed it) and what it printed."""

    code: int
    output: str


class Bench:
    """Starts commands in folders of its own and compares what they leave."""

    def __init__(self, root, server, shim):
        self.root, self.shim = root, shim
        self._server = server
        self._logs = 0
        self.text = root / "text"
        _write_text(self.text)

    def start(self, folder, line, fault=None):
        """Start `sae LINE` in a folder; `fault` is (number, errno, whether it lasts)."""
        self._logs += 1
        log = self.root / f"{self._logs}.log"
        arguments = line.replace("TEXT", f"data=text data.path={self.text} data.context=64").split()
        return Child(self._ask(start=arguments, folder=str(folder), log=str(log), fault=fault), log)

    def wait(self, child, seconds=None):
        """How it ended, or None where it goes on after so many seconds."""
        code = self._ask(wait=child.pid, seconds=seconds)
        return None if code is None else Ended(code, child.log.read_text() if child.log.exists() else "")

    def run(self, folder, line, fault=None):
        return self.wait(self.start(folder, line, fault))

    def complete(self, folder, line):
        """Run it to its end; returns the seconds that this took."""
        started = time.monotonic()
        ended = self.run(folder, line)
        assert ended is not None
        assert ended.code == 0, ended.output
        return time.monotonic() - started

    def folder(self, name, like=None):
        """A new folder, with the content of another one where it is given."""
        folder = self.root / name
        shutil.rmtree(folder, ignore_errors=True)
        if like is None:
            folder.mkdir(parents=True)
        else:
            shutil.copytree(like, folder)
        return folder

    def _ask(self, **request):
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    root = tmp_path_factory.mktemp("crash").resolve()
    shim = _compiled_shim(root)
    environment = {key: value for key, value in os.environ.items() if key not in ("SAE_RUNS", "TRITON_INTERPRET")}
    environment |= {"OMP_NUM_THREADS": "1"} | ({"LD_PRELOAD": str(shim)} if shim else {})
    command = [sys.executable, str(HERE / "server.py")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=root) as server:
        assert server.stdin is not None and server.stdout is not None
        assert json.loads(server.stdout.readline()) == "ready"
        yield Bench(root, server, shim)
        server.stdin.close()


@pytest.fixture
def tell(record_property):
    """Adds a line to what is shown at the end."""
    return lambda line: record_property(FIGURES, line)


@pytest.fixture
def how_many():
    """The number that a variable of the environment gives, or the default."""

    def how_many(variable, default):
        value = os.environ.get(variable)
        return default if value is None else sys.maxsize if value == "all" else int(value)

    return how_many


@pytest.fixture(scope="session")
def assert_same():
    return _assert_same


@pytest.fixture(scope="session")
def runs_in():
    return _runs_in


@pytest.fixture(scope="session")
def interrupted(bench):
    return Interruptions(bench)


class Interruptions:
    """Stops commands at random moments until they are complete."""

    def __init__(self, bench):
        self.bench = bench

    def until_complete(self, folder, line, rng, span, number=signal.SIGKILL, again=None, look=None):
        """Start the command, stop it at a random moment within `span` seconds, and so on until it ends by itself.

        Args:
            number: the signal to stop it with.
            again: seconds after which a second one follows, or None.
            look: called with the folder and how the process ended, after each time.

        Returns:
            Where it was each time, and how the process ended.
        """
        stops = []
        while True:
            child = self.bench.start(folder, line)
            if number != signal.SIGKILL:
                _wait_for_handler(child.pid, number)
            ended = self.bench.wait(child, rng.uniform(0, span))
            if stopped := ended is None:
                os.kill(child.pid, number)
                if again is not None:
                    time.sleep(again)
                    os.kill(child.pid, number)
                ended = self.bench.wait(child)
            if ended.code == 0:
                return stops
            assert stopped, ended.output
            stops.append((_where(folder), ended))
            if look:
                look(folder, ended)


def _where(folder):
    """How far the runs in a folder had come, in words."""
    runs = [run for run in _runs_in(folder) if run.is_relative_to(folder)]
    unfinished = [run for run in runs if read_manifest(run).status != "complete"]
    if not runs:
        return "before the run"
    if not unfinished:
        return "at the end of the run"
    writing = any(name.name.startswith(".") and name.suffix == ".tmp" for name in folder.rglob("*"))
    files = [name for run in unfinished for name in read_manifest(run).files]
    begun = any(name.startswith((CHECKPOINTS, "activations-")) for name in files)
    return f"{'after' if begun else 'before'} the first checkpoint{', within a write' if writing else ''}"


def _wait_for_handler(pid, number):
    """Before it, the process is not yet the program's."""
    status = Path(f"/proc/{pid}/status")
    while not int(status.read_text().split("SigCgt:")[1].split()[0], 16) >> (number - 1) & 1:
        time.sleep(0.001)


def _runs_in(folder):
    return sorted(path.parent for path in folder.rglob(MANIFEST))


def _assert_same(one, other):
    """Two folders hold the same runs: the same files, and but for times and places the same content."""
    files = _files(one)
    assert _files(other) == files
    for name in files:
        assert _comparable(one, one / name) == _comparable(other, other / name), f"{other / name} differs"


def _files(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def _comparable(folder, path):
    if path.name == MANIFEST:
        manifest = json.loads(path.read_text().replace(f"{folder}/", ""))
        manifest["facts"] = {key: value for key, value in manifest["facts"].items() if key not in TIMING}
        manifest["parents"] = [parent["path"] for parent in manifest["parents"]]
        del manifest["settings_hash"], manifest["sha256"]
        for name in ("metrics.jsonl", CONFIG_FILE):  # what they hold is compared: of folders, paths have other lengths
            manifest["files"].pop(name, None)
        return manifest
    if path.name == CONFIG_FILE:
        return path.read_text().replace(f"{folder}/", "")
    if path.name == "metrics.jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [{key: value for key, value in line.items() if key not in TIMING} for line in lines]
    return path.read_bytes()


def _write_text(folder):
    folder.mkdir()
    rng = random.Random(0)
    for i in range(40):
        (folder / f"{i}.txt").write_text(" ".join(rng.choices(WORDS, k=400)))


def _compiled_shim(root):
    """`faults.c` as a library to preload, or None where it cannot be made."""
    compiler = shutil.which("cc")
    if not (compiler and sysconfig.get_platform().startswith("linux")):
        return None
    shim = root / "faults.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", shim, HERE / "faults.c", "-ldl"], check=True)
    return shim
