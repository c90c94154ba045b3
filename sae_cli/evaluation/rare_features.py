"""Rare features of a dictionary: what they look like, and how they became rare."""

from __future__ import annotations

from collections.abc import Mapping

from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.files import load_dictionary, saved_steps, snapshot_file
from sae_cli.metrics.rare import DensityHistory, Trajectory, encoder_alignment, exempt_and_resampled, trajectory
from sae_cli.metrics.report import GroupReport, RareReport, SnapshotReport, TrajectoriesReport, TrajectoryReport
from sae_cli.metrics.similarity import quantiles
from sae_cli.runs.dictionary_run import read_density
from sae_cli.runs.file_names import DENSITY_FILE
from sae_cli.tensor_types import Bool, Float, Tensor

_EARLY = (0.1, 0.3)
"""The part of training in which features that are followed were rare already, in shares of its tokens."""


def rare_report(run: FinishedRun, dictionary: Dictionary, features: Mapping[str, Tensor], below: float) -> RareReport:
    """Of the features that fire, but on a smaller share of tokens than `below`, beside all others that fire.

    Args:
        run: the dictionary's.
        dictionary: as it was trained.
        features: its statistics, as in `features.safetensors`.
        below: a frequency.
    """
    alive, frequency = features["count"] > 0, features["frequency"]
    rare = alive & (frequency < below)
    groups, both_ends = {"rare": rare, "others": alive & ~rare}, "de_projection" in features
    report: RareReport = {
        "below": below,
        "rare": _group_report(dictionary, groups["rare"], frequency, both_ends),
        "others": _group_report(dictionary, groups["others"], frequency, both_ends),
    }
    if DENSITY_FILE in run.manifest.files:
        history = read_density(run)
        report["trajectories"] = _trajectories(history, rare, below)
        report["snapshots"] = _snapshots(run, groups, both_ends)
    return report


def _group_report(
    dictionary: Dictionary, chosen: Bool[Tensor, " F"], frequency: Float[Tensor, " F"] | None, both_ends: bool
) -> GroupReport:
    """How many they are, the mean cosine of two of their encoder rows, and quantiles over them; D/E projections where
    `both_ends` are in one place."""
    if not chosen.any():
        return {"features": 0}
    found: GroupReport = {
        "features": int(chosen.sum()),
        "encoder_alignment": encoder_alignment(dictionary.W_enc.cpu()[chosen]),
    }
    if frequency is not None:
        found["frequency"] = quantiles(frequency[chosen].float())
    found["b_enc"] = quantiles(dictionary.encoder_bias.cpu()[chosen].float())
    if both_ends:
        found["de_projection"] = quantiles(dictionary.de_projection().cpu()[chosen].float())
    return found


def _trajectories(history: DensityHistory, rare: Bool[Tensor, " F"], below: float) -> TrajectoriesReport:
    """Of the features that are rare now, and of those that were rare early: exempt from resampling or not."""
    early = exempt_and_resampled(history, _EARLY, below)
    return {
        "early": list(_EARLY),
        "rare_now": _plain(trajectory(history, rare)),
        "exempt": _plain(early["exempt"]),
        "not_exempt": _plain(early["not_exempt"]),
        "resampled": _plain(early["resampled"]),
    }


def _plain(each: Trajectory) -> TrajectoryReport:
    return {
        "features": each.features,
        "late_slope": each.late.slope,
        "firing": each.firing.tolist(),
        "step": each.whole.step.tolist(),
        "tokens_seen": each.whole.tokens_seen.tolist(),
        "density": each.whole.density.tolist(),
    }


def _snapshots(run: FinishedRun, groups: Mapping[str, Bool[Tensor, " F"]], both_ends: bool) -> list[SnapshotReport]:
    """What the same features looked like at the steps that `train.save_at` has kept."""
    found: list[SnapshotReport] = []
    for step in saved_steps(run):
        then = load_dictionary(run, name=snapshot_file(step))
        rare, others = (_group_report(then, groups[name], None, both_ends) for name in ("rare", "others"))
        found.append({"step": step, "rare": rare, "others": others})
    return found
