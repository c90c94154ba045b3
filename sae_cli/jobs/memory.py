"""When memory runs out: one line with what was expected and what to lower, for every command."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from sae_cli.config.command import CommandConfig
from sae_cli.config.settings import flatten
from sae_cli.errors import JobError, is_out_of_memory
from sae_cli.jobs.estimate import expected_memory, size


@contextmanager
def memory_explained(*configs: CommandConfig) -> Generator[None, None, None]:
    """Within it, memory that cannot be had is a `JobError`.

    Args:
        configs: of the jobs that run in it.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise JobError(_line(configs, error)) from error


def _line(configs: tuple[CommandConfig, ...], error: BaseException) -> str:
    settings = flatten(configs[0])
    lower = ", ".join(f"{key}= (now {_shown(settings[key])})" for key in configs[0].held_in_memory if key in settings)
    expected = f"expected to need about {size(expected_memory())}, " if expected_memory() else ""
    several = f" ({len(configs)} jobs at once)" if len(configs) > 1 else ""
    found = " ".join(str(error).split()) or type(error).__name__
    return f"out of memory{several}: {expected}found {found.rstrip('.')}; lower {lower}, or use a larger machine"


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
