"""Features that are alike in what they do: what taking each of them out changes in the logits, on all paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from sae_cli.config.commands.compare import CompareConfig
from sae_cli.errors import RequestError
from sae_cli.evaluation.ablation import Ablation
from sae_cli.evaluation.contestants import Contestant
from sae_cli.evaluation.held_out import HeldOutText
from sae_cli.evaluation.similar import OneWay, Similar
from sae_cli.evaluation.subject import ModelSubject, Subject
from sae_cli.metrics.similarity import NearestRows
from sae_cli.tensor_types import Float, Int, Tensor
from sae_cli.terminal import console

Pairs = Mapping[tuple[int, int], Similar]


def similar_effects(
    compared: Sequence[Contestant], read: Sequence[Subject], firing: Pairs, config: CompareConfig
) -> dict[tuple[int, int], Similar]:
    """For some features of each dictionary the cosine of its effect with that of the feature of another that fires most
    like it.

    The floor is the same with the match of the next of these features, which fires about as often.

    Args:
        compared: the dictionaries.
        read: what each of them reads.
        firing: which features fire alike.
        config: how many are looked at, and on how much text.

    Raises:
        RequestError: there is no model, or one that has other tokens.
    """
    models = [each for each in read if isinstance(each, ModelSubject)]
    if len(models) < len(read):
        raise RequestError("by=effects: features act on the logits of a language model; a known truth has none")
    chosen = [_spread(each.frequency, config.sample) for each in compared]
    ways = {
        (i, j): way for (a, b), found in firing.items() for i, j, way in ((a, b, found.forward), (b, a, found.back))
    }
    effects = []
    for number, each in enumerate(compared):
        partners = [way.nearest.index[chosen[i]] for (i, j), way in ways.items() if j == number]
        wanted = torch.cat([chosen[number], *partners]).unique()
        console.log(f"[{number}] {each.name}: effects of {len(wanted):,} features")
        effects.append(_Effects(each, models[number], wanted, config))
    found = {(i, j): _one_way(way, chosen[i], effects[i], effects[j]) for (i, j), way in ways.items()}
    return {(a, b): Similar(found[a, b], found[b, a]) for a, b in firing}


class _Effects:
    """What features do to the logits where they fire in held-out text; a row of zeros where they never do."""

    def __init__(
        self, each: Contestant, subject: ModelSubject, wanted: Int[Tensor, " K"], config: CompareConfig
    ) -> None:
        text = HeldOutText(subject.model, subject.data, config.model_rows, config.eval)
        features = each.number[wanted].tolist()
        ablation = Ablation(subject.model, subject.wires, each.dictionary, features, text)
        _, tensors = ablation.results()
        self._row = torch.full((len(each.number),), -1)
        self._row[wanted] = torch.arange(len(wanted))
        self._effects = tensors["logit_effect"]
        self._fires = tensors["tokens"] > 0

    def of(self, places: Int[Tensor, " K"]) -> Float[Tensor, "K V"]:
        return self._effects[self._row[places]]

    def known(self, places: Int[Tensor, " K"]) -> Tensor:
        return self._fires[self._row[places]]


def _one_way(way: OneWay, chosen: Int[Tensor, " K"], own: _Effects, other: _Effects) -> OneWay:
    partner = way.nearest.index[chosen]
    both = own.known(chosen) & other.known(partner)
    if not both.any():
        raise RequestError("by=effects: none of the features fires in the held-out text; give a larger eval.tokens")
    chosen, partner = chosen[both], partner[both]
    mine, theirs = own.of(chosen), other.of(partner)
    if mine.shape[1] != theirs.shape[1]:
        raise RequestError(
            f"by=effects: expected models of one vocabulary, found {mine.shape[1]} and {theirs.shape[1]} logits"
        )
    cosine = torch.cosine_similarity(mine, theirs, dim=1)
    if len(chosen) == 1:  # there is no other
        return OneWay(chosen, NearestRows(cosine, partner), {})
    floor = torch.cosine_similarity(mine, theirs.roll(1, dims=0), dim=1)
    return OneWay(chosen, NearestRows(cosine, partner), {"floor_next": float(floor.double().mean())})


def _spread(frequency: Float[Tensor, " A"], wanted: int) -> Int[Tensor, " K"]:
    """So many features, evenly over the order of their frequencies, the rarest first."""
    order = frequency.argsort(stable=True)
    places = torch.linspace(0, len(order) - 1, min(wanted, len(order)), dtype=torch.float64).round().long()
    return order[places.unique()]
