"""`sae harvest`."""

from __future__ import annotations

from sae_cli.cli.options import Cfg, ConfigDir, Info, Json, Multirun, Overrides, Quiet, Resolve
from sae_cli.cli.request import Request


def harvest(
    overrides: Overrides = None,
    multirun: Multirun = False,
    cfg: Cfg = None,
    resolve: Resolve = False,
    info: Info = False,
    config_dir: ConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write activations to disk: sae harvest model=demo layer=3 tokens=550_000"""
    from sae_cli.cli.execute import execute

    execute(
        Request(
            command="harvest",
            stage="sae_cli.stages.harvest",
            overrides=overrides or (),
            multirun=multirun,
            cfg=cfg,
            resolve=resolve,
            info=info,
            config_dir=config_dir,
            as_json=json,
            quiet=quiet,
        )
    )
