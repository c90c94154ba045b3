"""Features that are alike in when they fire: correlations on the same tokens, whatever networks they are of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch

from sae_cli import build
from sae_cli.activations.blocks import ActivationBlock, take
from sae_cli.config.commands.compare import CompareConfig
from sae_cli.errors import RequestError
from sae_cli.evaluation.contestants import Contestant
from sae_cli.evaluation.encode import FEATURES_AT_ONCE
from sae_cli.evaluation.similar import Similar, all_of, is_assigned
from sae_cli.evaluation.subject import ModelSubject, Subject, make_subject
from sae_cli.jobs.estimate import expect_memory
from sae_cli.jobs.shortage import warn_if_short
from sae_cli.metrics.correlation import CorrelationSums, FiredTogether
from sae_cli.metrics.similarity import assigned, largest_both_ways
from sae_cli.tensor_types import Float, Int, Tensor
from sae_cli.terminal import console
from sae_cli.terminal.progress import progress


@dataclass(frozen=True)
class _Seen:
    """One block of tokens: the features of each contestant [n, A], which document each token is of, and how many tokens
    are of a row."""

    features: list[Float[Tensor, "N _"]]
    document: Int[Tensor, " N"]
    row: int

    def moved(self, before: _Seen | None) -> _Seen:
        """Its rows moved on by half of them; where it has one only, the row that was read before."""
        if half := len(self.document) // self.row // 2 * self.row:
            return replace(
                self,
                features=[each.roll(half, dims=0) for each in self.features],
                document=self.document.roll(half),
            )
        return before if before is not None and len(before.document) == len(self.document) else self


def subjects(compared: Sequence[Contestant], config: CompareConfig) -> list[Subject]:
    """What each contestant reads, on the text of the first; those of one model share it, and of one place all.

    Raises:
        RequestError: some are of known truths, and not all of the same one.
    """
    first, device = compared[0].source, build.device(config.device)
    if odd := [each for each in compared if each.source.card.truth != first.card.truth]:
        raise RequestError(
            f"by={config.by.value}: expected dictionaries that read the same tokens, or activations of the same known "
            f"truth; found {compared[0].name} and {odd[0].name}"
        )
    if any(each.source.card.data != first.card.data for each in compared):
        console.log(f"by={config.by.value}: on the text of {compared[0].name}; others were trained on other text")
    by_model: dict[str, Subject] = {}
    by_place: dict[str, Subject] = {}
    for each in compared:
        model, place = _place(each)
        if place not in by_place:
            same = by_model.get(model)
            own = make_subject(each.source, first.data(), config.model_rows, device) if same is None else same
            by_place[place] = own.at(*each.source.places()) if isinstance(own, ModelSubject) else own
            by_model[model] = own
    return [by_place[_place(each)[1]] for each in compared]


def _place(each: Contestant) -> tuple[str, str]:
    """Its model, and the place in it that it reads and writes."""
    card = each.source.card
    return repr(card.model), f"{card.model!r} {card.wiring!r}"


def similar_firing(
    compared: Sequence[Contestant], read: Sequence[Subject], config: CompareConfig
) -> dict[tuple[int, int], Similar]:
    """For each pair the features that correlate most, both ways.

    The floor is the same with the rows of one of the two moved on, where that is to another document: what features
    share because of their frequencies, and of the positions in a row.
    """
    sizes = [len(each.number) for each in compared]
    pairs = list(combinations(range(len(compared)), 2))
    expect_memory(sum(2 * 4 * sizes[i] * sizes[j] for i, j in pairs))
    sums = {pair: CorrelationSums(*(sizes[i] for i in pair)) for pair in pairs}
    moved = {pair: CorrelationSums(*(sizes[i] for i in pair)) for pair in pairs}
    before: _Seen | None = None
    for seen in _read(compared, read, config):
        elsewhere = seen.moved(before)
        other = seen.document != elsewhere.document
        for i, j in pairs:
            sums[i, j].add(FiredTogether(seen.features[i], seen.features[j]))
            moved[i, j].add(FiredTogether(seen.features[i][other], elsewhere.features[j][other]))
        before = seen
    warn_if_short(
        "features.tokens", config.features.tokens, sums[pairs[0]].n, f"the {config.features.split.value} text"
    )
    return {pair: _similar(sums[pair], moved[pair], config) for pair in pairs}


def _similar(sums: CorrelationSums, moved: CorrelationSums, config: CompareConfig) -> Similar:
    found = sums.results()
    forward, back = largest_both_ways(found)
    there, here = ({}, {})
    if moved.n:
        floor_there, floor_here = largest_both_ways(moved.results())
        there = {"floor_moved": float(floor_there.cosine.double().mean())}
        here = {"floor_moved": float(floor_here.cosine.double().mean())}
    asked = is_assigned(config.one_to_one, *found.shape)
    return Similar(all_of(forward, there), all_of(back, here), assigned(found) if asked else None)


@torch.no_grad()
def _read(compared: Sequence[Contestant], read: Sequence[Subject], config: CompareConfig) -> Iterator[_Seen]:
    """The features that are alive, on the tokens that features are counted on; whole rows of them at once."""
    of, wanted = config.features, config.features.tokens
    distinct = list({id(each): each for each in read}.values())
    streams = [take(each.blocks(of.split, of.rows_per_document), wanted) for each in distinct]
    most = FEATURES_AT_ONCE // max(len(each.number) for each in compared)
    with progress(wanted, "features that fire together") as advance:
        for blocks in zip(*streams, strict=False):
            _check_same(blocks, config)
            by_subject = {id(each): block for each, block in zip(distinct, blocks, strict=True)}
            document, row = _whose(read[0], blocks[0])
            step = row * max(1, most // row)
            for part in (slice(i, i + step) for i in range(0, blocks[0].n, step)):
                features = [
                    _features(each, subject, by_subject[id(subject)].select(part))
                    for each, subject in zip(compared, read, strict=True)
                ]
                yield _Seen(features, document[part], row)
            advance(blocks[0].n)


def _whose(read: Subject, block: ActivationBlock) -> tuple[Int[Tensor, " N"], int]:
    """The document of each token, and how many there are of a row; what is no text has one for each activation."""
    if isinstance(read, ModelSubject):
        return block.document, max(1, int(block.position.max()))
    return block.position, 1


def _features(each: Contestant, subject: Subject, block: ActivationBlock) -> Float[Tensor, "N A"]:
    x, _ = subject.columns.pair(block.activations.to(each.dictionary.W_enc.device))
    return each.dictionary.encode(x)[:, each.number]


def _check_same(blocks: Sequence[ActivationBlock], config: CompareConfig) -> None:
    if any(not torch.equal(each.tokens, blocks[0].tokens) for each in blocks[1:]):
        raise RequestError(
            f"by={config.by.value}: expected models that read the same tokens, found rows that differ: their "
            "tokenizers or their contexts are not the same"
        )
