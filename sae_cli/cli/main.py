"""The command `sae`: its commands, and the outer edge where errors become lines and exit codes."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command

from sae_cli.cli import completion
from sae_cli.cli.classify import classify
from sae_cli.cli.command import configured_command
from sae_cli.cli.contrast import ContrastCommand, contrast
from sae_cli.cli.errors import expected, report, report_bug
from sae_cli.cli.features import features
from sae_cli.cli.help import ConfiguredCommand
from sae_cli.cli.list_runs import list_runs
from sae_cli.cli.plot import plot
from sae_cli.cli.probe import ProbeCommand, probe
from sae_cli.cli.process_end import PromptExit
from sae_cli.cli.pull import pull
from sae_cli.cli.push import push
from sae_cli.cli.report import report as report_runs
from sae_cli.cli.resume import resume
from sae_cli.cli.signals import stopping_signals
from sae_cli.cli.verify import verify
from sae_cli.errors import Interrupted

_CONFIGURED = {
    "harvest": "Write activations to disk: sae harvest model=demo layer=2 tokens=750_000",
    "train": "Train a dictionary: sae train model=demo layer=2 l1=1 dict_size=2048",
    "eval": "Evaluate a dictionary: sae eval runs/train/demo/mlp_out.2/relu-F2048-l1_1-seed0",
    "bench": "By SAEBench's core formulas, ours beside them: sae bench RUN suite=core",
    "prune-high-freq": "Kill the most frequent features: sae prune-high-freq RUN max_freq=0.038",
    "randomize-weights": "Write the model with random weights: sae randomize-weights keep=[embed] seed=0",
    "import": "Take a dictionary of another tool: sae import hf:org/repo/path, or a folder",
    "export": "Write a dictionary, or what its features do, for another tool: sae export RUN to=saelens",
    "compare": "Compare the directions of dictionaries: sae compare a=RUN b=[RUN,RUN]",
}
"""Commands that have a schema and no options of their own: the line that `--help` shows of each."""

app = typer.Typer(rich_markup_mode=None)
for _name, _summary in _CONFIGURED.items():
    app.command(_name, cls=ConfiguredCommand)(configured_command(_name, _summary))
app.command("contrast", cls=ContrastCommand)(contrast)
app.command("features", cls=ConfiguredCommand)(features)
app.command("probe", cls=ProbeCommand)(probe)
app.command("classify")(classify)
app.command("plot")(plot)
app.command("push")(push)
app.command("pull")(pull)
app.command("list")(list_runs)
app.command("verify")(verify)
app.command("resume")(resume)
app.command("report")(report_runs)


def _print_version(asked: bool) -> bool:
    if asked:
        from importlib.metadata import version

        typer.echo(f"sae {version('sae-cli')}")
        raise typer.Exit
    return asked


@app.callback()
def sae(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Experiments with sparse autoencoders on language models.

    Settings are KEY=VALUE. On success the only line on stdout is the run directory. A command that was stopped goes on
    when it is given again.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code. Errors that are not expected pass through."""
    try:
        with stopping_signals():
            code = get_command(app).main(list(arguments) or ["--help"], prog_name="sae", standalone_mode=False)
    except (Exception, Interrupted) as error:
        told = expected(error)
        if told is None:
            raise
        return report(told)
    return code or 0


def main() -> None:
    """Entry point of the console script."""
    gc.disable()  # nothing that start-up allocates is garbage; a job turns collection on again
    ending = PromptExit()
    sys.excepthook = report_bug
    completion.step_past_equals_sign()
    ending.code = run(sys.argv[1:])
    sys.exit(ending.code)
