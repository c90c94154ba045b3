"""Requests that stand for several runs: `layer=[0,1,2]`, all from the same forward passes, and a folder of many foreign
dictionaries."""

from __future__ import annotations

from dataclasses import fields, replace

from sae_cli.cli import overrides
from sae_cli.cli.request import Request
from sae_cli.config.commands import schema_of
from sae_cli.config.store import SHARED_LAUNCHER

_LAUNCHER = "hydra/launcher"


def one_run_a_layer(request: Request) -> Request:
    """The sweep that a list of layers stands for; any other request as it is."""
    listed = [text for text in request.overrides if text.replace(" ", "").startswith("layer=[")]
    has_layer = any(each.name == "layer" for each in fields(schema_of(request.command)))
    if not has_layer or len(listed) != 1:
        return request
    (given,) = overrides.parse(listed, request.multirun)
    layers = given.value()
    if given.is_sweep_override() or not isinstance(layers, list) or not layers:
        return request
    sweep = f"layer={','.join(map(str, layers))}"
    others = [text for text in request.overrides if text != listed[0]]
    if not any(text.startswith(f"{_LAUNCHER}=") for text in others):
        others.append(f"{_LAUNCHER}={SHARED_LAUNCHER}")
    return replace(request, overrides=[*others, sweep], multirun=True)


def one_run_a_dictionary(request: Request) -> Request:
    """The sweep over the dictionaries in a folder, or a repository, of many; any other request as it is."""
    schema, key = schema_of(request.command), "source"
    given = [text for text in request.overrides if text.startswith(f"{key}=")]
    if schema.command != "import" or request.multirun or len(given) != 1:
        return request
    from sae_cli.runs.formats.addresses import dictionaries_at
    from sae_cli.terminal import console

    console.configure(quiet=request.quiet)  # the hub may keep it waiting, which is said
    named = {each.key_or_group: each.value() for each in overrides.parse(request.overrides, request.multirun)}
    kind = named.get("format")
    found = dictionaries_at(str(named[key]), kind if isinstance(kind, str) else None)
    listed = f"{key}={','.join(map(overrides.quoted, found))}"
    others = [listed if text in given else text for text in request.overrides]
    return replace(request, overrides=others, multirun=len(found) > 1)
