"""Features that are alike in what they write or what they read: cosines of rows, with the floors that they stand on."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sae_cli import build
from sae_cli.config.commands.compare import CompareConfig
from sae_cli.config.evaluation import By, Space
from sae_cli.config.hook import Basis
from sae_cli.errors import RequestError
from sae_cli.evaluation.contestants import AnyContestant, Contestant
from sae_cli.evaluation.similar import Similar, all_of, is_assigned
from sae_cli.metrics.similarity import nearest_both_ways, one_to_one, random_floor, subspace_floor
from sae_cli.models import MappedTarget
from sae_cli.runs.dictionary_run import DictionaryRun
from sae_cli.seeds import generator
from sae_cli.tensor_types import Float, Tensor


def floor_generator(seed: int) -> torch.Generator:
    """Of the random directions; others than those that the dictionary of this seed began with."""
    return generator("floors of similarity", seed)


def checked_space(config: CompareConfig, sources: Sequence[DictionaryRun]) -> Space:
    """The space of the comparison; refused where there is no map to it."""
    sites = sorted({source.card.basis for source in sources})
    synthetic = all(source.card.truth for source in sources)
    space = config.space
    if config.by is By.encoder:
        if space not in (Space.auto, Space.activations) or (len(sites) > 1 and not synthetic):
            found = f"space={space.value}" if space not in (Space.auto, Space.activations) else " and ".join(sites)
            raise RequestError(
                "by=encoder: what features read is compared as it is, among dictionaries of one hook (space="
                f"activations), found {found}; by=activations compares any two that read the same tokens"
            )
        return Space.activations
    if space is Space.auto:
        space = Space.activations if len(sites) == 1 else Space.resid
    if space is Space.activations:
        if len(sites) > 1 and not synthetic:
            raise RequestError(
                f"space=activations: the dictionaries are of {' and '.join(sites)}, whose dimensions differ; "
                "use space=resid or space=logits, or by=activations"
            )
        return space
    if modules := [source.card.site.label for source in sources if source.card.basis_of_writes is Basis.module]:
        raise RequestError(
            f"space={space.value}: what {modules[0]} adds to it is not known of a module; compare dictionaries of one "
            "module with space=activations, or any that read the same tokens with by=activations"
        )
    if truths := [source.card.truth for source in sources if source.card.truth]:
        raise RequestError(
            f"space={config.space.value}: {truths[0].called} has no residual stream and no logits in which "
            f"{' and '.join(sites)} could meet; space=activations compares directions as they are"
        )
    models = sorted({f"{each.path}@{each.revision or 'main'}" for each in (source.model() for source in sources)})
    if len(models) > 1:
        raise RequestError(
            f"space={space.value}: hooks of one model are mapped to one {space.value} space, found the models "
            f"{' and '.join(models)}; compare dictionaries of one hook with space=activations, or any that read the "
            "same tokens with by=activations"
        )
    return space


def rows_of(compared: Sequence[AnyContestant], space: Space, by: By) -> list[Float[Tensor, "A D"]]:
    """The rows of each contestant in the space of the comparison.

    Raises:
        RequestError: their widths differ there.
    """
    rows = [each.readers if by is By.encoder and isinstance(each, Contestant) else each.directions for each in compared]
    if space is not Space.activations:
        rows = _mapped(compared, rows, space)
    widths = {each.name: part.shape[1] for each, part in zip(compared, rows, strict=True)}
    if len(set(widths.values())) > 1:
        found = ", ".join(f"{width} ({name})" for name, width in widths.items())
        raise RequestError(f"expected dictionaries of one width, found {found}")
    return rows


def _mapped(compared: Sequence[AnyContestant], rows: Sequence[Tensor], space: Space) -> list[Tensor]:
    own = [each.source for each in compared if isinstance(each, Contestant)]
    model = build.language_model(own[0].model(), own[0].data(), torch.device("cpu"))
    found = (model.target(build.site(each.site(), model)) for each in own)
    targets = [each for each in found if isinstance(each, MappedTarget)]
    assert len(targets) == len(own), "modules have been refused"
    maps = [each.rows_to_resid if space is Space.resid else each.rows_to_logits for each in targets]
    return [to_space(part) for to_space, part in zip(maps, rows, strict=True)]


def similar_rows(
    a: Float[Tensor, "A D"], b: Float[Tensor, "B D"], config: CompareConfig, floors: torch.Generator
) -> Similar:
    """The nearest rows both ways."""
    forward, back = nearest_both_ways(a, b)
    there, here = _floors(a, b, floors), _floors(b, a, floors)
    asked = is_assigned(config.one_to_one, len(a), len(b))
    return Similar(all_of(forward, there), all_of(back, here), one_to_one(a, b) if asked else None)


def _floors(a: Float[Tensor, "A D"], b: Float[Tensor, "B D"], floors: torch.Generator) -> dict[str, float]:
    isotropic, isotropic_sd = random_floor(a, len(b), floors)
    subspace, subspace_sd = subspace_floor(a, b, floors)
    return {
        "floor_random": isotropic,
        "floor_random_sd": isotropic_sd,
        "floor_subspace": subspace,
        "floor_subspace_sd": subspace_sd,
    }
