"""`sae train`."""

from __future__ import annotations

from sae_cli.cli.options import Cfg, ConfigDir, Info, Json, Multirun, Overrides, Quiet, Resolve
from sae_cli.cli.request import Request


def train(
    overrides: Overrides = None,
    multirun: Multirun = False,
    cfg: Cfg = None,
    resolve: Resolve = False,
    info: Info = False,
    config_dir: ConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a dictionary: sae train model=demo layer=3 l1=1.8 dict_size=2048"""
    from sae_cli.cli.execute import execute

    execute(
        Request(
            command="train",
            stage="sae_cli.stages.train",
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
