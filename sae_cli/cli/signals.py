"""Ctrl-C and SIGTERM as one exception, so that a stage can save its state before the process ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sae_cli.terminal import interruption

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping_signals() -> Iterator[None]:
    """Within it, the first signal raises `Interrupted`, at once or when a step has ended
    (`sae_cli.terminal.interruption`); a second one ends the process at once."""
    before = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    interruption.ask_to_stop(number)
