"""Runs commands in children of a process that has imported everything: what takes seconds is done once.

Requests come in as JSON lines and are answered with one each:
    {"start": [ARGUMENT...], "folder": PATH, "log": PATH, "fault": [N, ERRNO, LASTING] or null}  ->  PID
    {"wait": PID, "seconds": S or null}  ->  exit code, minus the signal's number for a killed one, null if it goes on
"""

import ctypes
import json
import os
import sys
import time
from pathlib import Path


def serve():
    for line in sys.stdin:
        request = json.loads(line)
        answer = _start(**request) if "start" in request else _wait(**request)
        print(json.dumps(answer), flush=True)


def _start(start, folder, log, fault):
    if pid := os.fork():
        return pid
    code = 99
    try:
        os.chdir(folder)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        shim = ctypes.CDLL(os.environ["LD_PRELOAD"]) if fault else None
        if shim:
            shim.fault_arm(os.fsencode(folder), *fault)
        code = run(start)
        if shim:
            shim.fault_seen.restype = ctypes.c_char_p
            Path(f"{log}.faults").write_text(json.dumps([shim.fault_calls(), shim.fault_seen().decode()]))
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(code)


def _wait(wait, seconds):
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        pid, status = os.waitpid(wait, 0 if deadline is None else os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if deadline is not None and time.monotonic() >= deadline:
            return None
        time.sleep(0.001)


if __name__ == "__main__":
    import gc
    import importlib
    import pkgutil

    import sae_cli
    from sae_cli.cli.main import run

    for module in pkgutil.walk_packages(sae_cli.__path__, "sae_cli."):
        if not module.name.endswith(("__main__", "triton_loops", "triton_kernel")):
            importlib.import_module(module.name)
    importlib.import_module("transformers.models.gpt_neox.modeling_gpt_neox")
    gc.collect()
    gc.freeze()  # or every child would copy what is imported, by looking at it
    print(json.dumps("ready"), flush=True)
    serve()
