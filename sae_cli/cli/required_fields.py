"""The fields that `--require` may name, known before a job has measured them."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from sae_cli.cli.requirements import Requirement
from sae_cli.config.command import CommandConfig
from sae_cli.config.commands.eval import EvalConfig
from sae_cli.errors import RequestError

_ON_A_PATH = (
    *(f"{kind}_{place}" for kind in ("ce", "kl") for place in ("sae", "zero", "mean")),
    *("bits_per_byte_sae", "ce_increase", "zero_ablation_effect", "mean_ablation_effect"),
    *("loss_recovered", "loss_recovered_mean"),
)
_LOSSES = tuple(
    f"{name}{error}"
    for name in ("ce_clean", "bits_per_byte_clean", *_ON_A_PATH, *(f"{name}_direct" for name in _ON_A_PATH))
    for error in ("", "_se")
)
_RECONSTRUCTION = (
    *("l0", "l1", "mse", "mse_per_dim", "fvu", "fvu_resid", "fvu_logit", "explained_variance", "cosine"),
    *("norm_ratio", "reconstruction_bias", "zero_norm_tokens", "final_norm_inverse_scale"),
    *("nullspace", "nullspace_floor", "nullspace_variance"),
)
_FEATURES = (
    *("features", "alive", "dead", "killed", "ultra_rare", "dense_1", "dense_10", "frequency_resolution"),
    *("mmcs_truth_to_dictionary", "truth_recovered_0.9"),
    *(
        f"{name}_median"
        for name in (
            *("de_projection", "de_cosine", "token_entropy", "top1_share", "top3_share"),
            *("decoder_kurtosis", "decoder_participation", "neuron_kurtosis", "neuron_participation"),
            *("logit_kurtosis", "logit_skew"),
        )
    ),
)
_COUNTS = ("tokens", "loss_tokens", "feature_tokens", "rows", "metrics_version")

EVALUATION = (*_RECONSTRUCTION, *_LOSSES, *_FEATURES, *_COUNTS)
"""Fields at the top of an `eval.json`; which of them a run has depends on what it is of."""
GROUPS = ("rare", "baselines", "before", "domains", "dictionaries", "equivalent_model")
"""Fields of an `eval.json` that have fields of their own."""
FIGURES = {
    "harvest": ("tokens", "tokens_per_second"),
    "train": ("l0", "fvu", "dead", "never_fired"),
    "compare": ("mmcs", "mmcs_back"),
    "features": ("sheets", "tokens_seen"),
    "randomize-weights": (),
}
"""The fields of the other commands, which have no `eval.json`."""


def check_fields(requirements: Sequence[Requirement], command: str, configs: Sequence[CommandConfig]) -> None:
    """Refuse conditions on what the jobs of a command do not measure.

    Raises:
        RequestError: there is one.
    """
    for each in requirements:
        names = FIGURES.get(command, EVALUATION)
        group, dot, rest = each.field.partition(".")
        if each.field in names:
            continue
        if not (dot and names is EVALUATION and group in GROUPS):
            raise RequestError(f"--require {each}: no field {each.field}{_meant(each.field, names, command)}")
        for config in configs:
            _check_asked_for(each, group, rest.partition(".")[0], config)


def _check_asked_for(requirement: Requirement, group: str, name: str, config: CommandConfig) -> None:
    """That a group of fields is one of those that were asked for."""
    if not isinstance(config, EvalConfig):
        return
    if group == "baselines" and name not in (known := [each.value for each in config.baselines]):
        raise RequestError(f"--require {requirement}: expected baselines=[{','.join([*known, name])}]; give it")
    if group == "equivalent_model" and not config.references:
        raise RequestError(f"--require {requirement}: expected references=[…], which it is made of; give them")


def _meant(field: str, names: Sequence[str], command: str) -> str:
    if names is EVALUATION and field in GROUPS:
        return f" that is a number: {field} has fields of its own, which --json shows; give one of them"
    last = field.rpartition(".")[2]
    close = get_close_matches(field, [*names, *GROUPS] if names is EVALUATION else names, n=1)
    close = close or get_close_matches(last, names, n=1)
    if close:
        return f": did you mean {close[0]}?"
    if names is EVALUATION:
        return "; the fields are those of an eval.json, as loss_recovered, fvu, l0 or dead"
    return f"; sae {command} has {', '.join(names) or 'no figures'}"
