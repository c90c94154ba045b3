"""Runs `sae` in children of a process that has imported torch: as it is typed, with an environment of its own, without
the seconds that this takes. What belongs to the hub, whose library reads the environment when it is imported, is
imported in the child.

A request is a line of JSON, `{"arguments": [...], "environment": {...}, "out": PATH, "err": PATH}`, answered with the
child's id; `{"wait": PID}` is answered with its exit code, minus the number of a signal.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

OF_THE_HUB = ("huggingface_hub", "transformers", "datasets")


class Ended(NamedTuple):
    """How a command ended: its exit code, and what it has said."""

    returncode: int
    stdout: str
    stderr: str


class Commands:
    """The process, and what is asked of it.

    Args:
        folder: for what the commands print.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._number = folder, 0
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def start(self, *arguments: object, **environment: str) -> int:
        """The id of a child that runs the command."""
        self._number += 1
        out, err = (str(self._folder / f"{self._number}.{name}") for name in ("out", "err"))
        texts = [str(each) for each in arguments]
        return self._ask({"arguments": texts, "environment": environment, "out": out, "err": err})

    def wait(self, child: int) -> Ended:
        """How the command ended that was started last."""
        code = self._ask({"wait": child})
        said = ((self._folder / f"{self._number}.{name}").read_text() for name in ("out", "err"))
        return Ended(code, *said)

    def __call__(self, *arguments: object, **environment: str) -> Ended:
        """Run a command to its end."""
        return self.wait(self.start(*arguments, **environment))

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, request: object) -> int:
        assert self._process.stdin and self._process.stdout
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


def _serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        answer = _wait(**request) if "wait" in request else _start(**request)
        print(json.dumps(answer), flush=True)


def _start(arguments: list[str], environment: dict[str, str], out: str, err: str) -> int:
    sys.stdout.flush()
    if child := os.fork():
        return child
    code = 99
    try:
        os.environ.update(environment)
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        from sae_cli.cli.main import run

        code = run(arguments)
        sys.stdout.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(code)


def _wait(wait: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(wait, 0)[1])


if __name__ == "__main__":
    from importlib import import_module

    for name in ("torch", "sae_cli.commands.pull", "sae_cli.commands.push"):
        import_module(name)
    for name in [each for each in sys.modules if each.partition(".")[0] in OF_THE_HUB]:
        del sys.modules[name]
    _serve()
