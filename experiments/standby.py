"""A process that has loaded `sae` stands by, so that each command of a pipeline begins in a fraction of a second.

    standby.py serve SOCKET             load, then run what is asked for until standard input ends
    standby.py ask SOCKET ARGUMENT...   what `sae ARGUMENT...` does: its output, its exit code, its answer to signals

Each command runs in a fork, with the standard streams, the environment and the folder of whoever asks, and leaves
nothing behind for the next. Asking imports nothing heavy. For Linux: elsewhere a fork after loading is not safe.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys

_STREAMS = 3
_LENGTH_BYTES = 8
_STOPPING = (signal.SIGINT, signal.SIGTERM)


def ask(path, arguments):
    """Have a command run; returns its exit code."""
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(path)
        except OSError as error:
            sys.exit(f"{path}: the process that runs the commands of this pipeline has ended ({error.strerror})")
        for each in _STOPPING:
            signal.signal(each, lambda number, _: line.send(bytes([number])))
        request = json.dumps([arguments, os.getcwd(), dict(os.environ)]).encode()
        socket.send_fds(line, [len(request).to_bytes(_LENGTH_BYTES, "big")], range(_STREAMS))
        line.sendall(request)
        code = line.recv(1)
    return code[0] if code else 1


def serve(path):
    """Run commands; returns the arguments of each in a process of its own, and None when standard input has ended."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{path}.begun")
        listening.listen()
        os.rename(f"{path}.begun", path)  # from here on, who asks waits for an answer
        os.setsid()  # a Ctrl-C reaches who asked, and comes from there once
        given = set(os.environ)
        _load()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while listening in select.select([listening, sys.stdin], [], [])[0]:
            line, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return _begin(line, given)
            line.close()
    return None


def _load():
    from sae_cli import commands
    from sae_cli.activations.text_read import text_record
    from sae_cli.config.compose import Composer
    from sae_cli.config.data import StdlibData
    from sae_cli.models import load_language_model

    for each in ("train", "eval", "contrast", "compare", "prune-high-freq", "randomize-weights", "report"):
        commands.module_of(each)
    Composer().compose("train", [])
    text_record(StdlibData())  # so that no command has to hash the files that all of them read
    load_language_model("embedded:demo-xxs")


def _begin(line, given):
    """Read a request; returns its arguments in a process that is to run it, and sees that through in this one.

    The environment becomes that of who asks, but for what loading has added to `given`: libraries remember it.
    """
    length, streams, _, _ = socket.recv_fds(line, _LENGTH_BYTES, _STREAMS)
    request = b""
    while len(request) < int.from_bytes(length, "big"):
        request += line.recv(1 << 16)
    arguments, folder, environment = json.loads(request)
    running = os.fork()
    if running == 0:
        line.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        for name in given - set(environment):
            del os.environ[name]
        os.environ.update(environment)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return arguments
    for stream in (*streams, *range(_STREAMS)):
        os.close(stream)
    _see_through(line, running)
    os._exit(0)


def _see_through(line, running):
    """Hand signals on to a process until it ends, say how it did, and end."""
    ending = os.pidfd_open(running)
    watched = [line, ending]
    while ending not in select.select(watched, [], [])[0]:
        asked = _next(line)
        os.kill(running, asked[0] if asked else signal.SIGTERM)
        if not asked:  # whoever asked is gone
            watched.remove(line)
    code = os.waitstatus_to_exitcode(os.waitpid(running, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        line.send(bytes([code if code >= 0 else 128 - code]))


def _next(line):
    try:
        return line.recv(1)
    except ConnectionResetError:
        return b""


def main(what, path, *arguments):
    if what == "ask":
        sys.exit(ask(path, arguments))
    if (given := serve(path)) is None:
        return
    from sae_cli.cli.main import main as sae

    sys.argv = ["sae", *given]
    sae()


if __name__ == "__main__":
    main(*sys.argv[1:])
