"""How a process ends: as `sys.exit` ends it, without taking apart what was imported, which takes a second."""

from __future__ import annotations

import atexit
import os
import sys


class PromptExit:
    """Leaves at once when everything else that wants to hear of the end (threads, loggers, trackers) has.

    Made before a command imports what it needs: what is registered first is called last.

    Attributes:
        code: the exit code; while it is None the interpreter ends in its own way.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        atexit.register(self._leave)

    def _leave(self) -> None:
        if self.code is None:
            return
        try:
            for stream in filter(None, (sys.stdout, sys.stderr)):  # None: it was closed from the beginning
                stream.flush()
        except OSError:
            return  # the interpreter says so, and exits with 120
        os._exit(self.code)
