"""Stopping at a signal: at once, or where work that must not be cut in two has come to an end."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from sae_cli.errors import Interrupted


@dataclass
class _StopRequest:
    postponed: bool = False
    number: int | None = None


_stop = _StopRequest()


def ask_to_stop(signal_number: int) -> None:
    """To be called when a signal comes.

    Raises:
        Interrupted: unless it is `postponed`.
    """
    _stop.number = signal_number
    if not _stop.postponed:
        stop_if_asked()


@contextmanager
def postponed() -> Generator[None, None, None]:
    """Within it, the work goes on after a signal, up to the next `stop_if_asked`, or its end."""
    _stop.postponed = True
    try:
        yield
    finally:
        _stop.postponed = False
    stop_if_asked()


def is_asked_to_stop() -> bool:
    """Whether a signal has come."""
    return _stop.number is not None


def stop_if_asked() -> None:
    """Stop here if a signal has come.

    Raises:
        Interrupted: one has.
    """
    number, _stop.number = _stop.number, None
    if number is not None:
        raise Interrupted(f"interrupted by {signal.Signals(number).name}", number)
