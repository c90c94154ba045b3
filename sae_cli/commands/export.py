"""`sae export`: a dictionary in another tool's format, in a run directory that the tool reads as it is."""

from __future__ import annotations

from pathlib import Path

from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.commands.export import ExportConfig
from sae_cli.evaluation.outgoing import outgoing
from sae_cli.jobs.once import Claim, once
from sae_cli.jobs.result import StageResult
from sae_cli.runs.dictionary_run import read_dictionary_run
from sae_cli.runs.formats import writable


def run(config: ExportConfig, directory: Path) -> StageResult:
    """Write the dictionary of `config.run`."""
    finished = once(Claim(config, directory, "exporting"), _export)
    facts = finished.manifest.facts
    folded = facts.get("folded", [])
    rows = [("format", str(facts["format"])), *(("folded", str(each)) for each in folded)]
    rows += [("file", name) for name in finished.manifest.files if name != "config.yaml"]
    return StageResult(
        directory=directory,
        title="export",
        document={"run": str(directory), "command": "export", "facts": facts, "figures": {}},
        table=[*rows, ("run", str(directory))],
    )


def _export(claim: Claim[ExportConfig]) -> FinishedRun:
    config = claim.config
    kind, source = writable(config.to), read_dictionary_run(config.run)
    written = kind.write(outgoing(source, config.verify))
    with claim.open(parents=[source.run]) as claimed:
        for name, document in written.documents.items():
            claimed.write_json(name, document)
        for name, tensors in written.tensors.items():
            claimed.write_tensors(name, tensors)
        for name, tensors in written.pickles.items():
            claimed.write_pickle(name, tensors)
        return claimed.finish(format=kind.name, folded=list(written.folded), seconds=claim.seconds())
