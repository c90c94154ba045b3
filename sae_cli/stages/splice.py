"""Splicing a dictionary into its language model: the clean pass, and passes with something else at the hook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from sae_cli.config.hook import HookPoint
from sae_cli.data.activations import FIRST_POSITION
from sae_cli.data.token_bytes import token_byte_lengths
from sae_cli.dictionaries.base import Dictionary
from sae_cli.metrics.directions import NullSpace
from sae_cli.metrics.language_loss import ALL_PATHS, DIRECT_PATH, LossSums
from sae_cli.metrics.mapped_error import MappedErrorSums
from sae_cli.metrics.reconstruction import ReconstructionSums
from sae_cli.models import DirectPath, FinalState, LanguageModel, Site, Visitor


class Splicer:
    """Runs rows of tokens clean and with stand-ins at one site, and adds what comes out to the sums.

    Positions outside the mask keep their own activations in every condition.

    Attributes:
        reconstruction: of the activations at the site.
        losses: with x̂, 0 and x̄_train at the site, on all paths and, where it exists, the direct path alone.
        resid_error, logit_error: the reconstruction error mapped to the residual update and to centred logits.
        unseen: the activations' part in the null space, where there is one.
    """

    def __init__(
        self, model: LanguageModel, site: Site, dictionary: Dictionary, null_space: NullSpace | None = None
    ) -> None:
        self.model, self.site, self.dictionary = model, site, dictionary
        self.token_bytes = token_byte_lengths(model.tokenizer, model.vocab_size)
        self.reconstruction = ReconstructionSums(origin=dictionary.activation_mean)
        self.path = DirectPath(model, site) if DirectPath.exists(model, site) else None
        self.losses = LossSums(ALL_PATHS + (DIRECT_PATH if self.path else ()))
        self.resid_error = MappedErrorSums()
        self.logit_error = MappedErrorSums(self.path.centred_gram() if self.path else None)

        self.unseen = MappedErrorSums(null_space.projector()) if null_space else None

    @torch.no_grad()
    def add(self, tokens: Tensor, domains: Tensor | None = None) -> None:
        """Add rows of tokens [B, T], each with the number of its domain [B, T]."""
        captured: dict[Site, Tensor] = {}
        last = Site(HookPoint.resid, self.model.n_layers - 1)
        watched = {site: partial(_record, captured, site) for site in (self.site, last)}
        clean, replaced = self.model.branches(tokens, self.site, watched)
        x = captured[self.site]
        masked = x[:, FIRST_POSITION:].float()
        f = self.dictionary.encode(masked.flatten(0, 1))
        reconstructed = self.dictionary.decode(f)
        self.reconstruction.add(masked.flatten(0, 1), reconstructed, f, self.dictionary.decoder_norms())
        stand_ins = {
            "sae": reconstructed.view_as(masked),
            "zero": torch.zeros_like(masked),
            "mean": self.dictionary.activation_mean.expand_as(masked),
        }
        conditions = self._all_paths(replaced, x, stand_ins)
        if self.unseen:
            self.unseen.add(stand_ins["sae"] - masked, masked)
        if self.path:
            state = self.path.final_state(captured[last], clean)
            self._add_mapped_errors(self.path, state, masked, stand_ins["sae"])
            conditions = chain(conditions, self._direct_path(self.path, state, masked, stand_ins))
        self.losses.add(tokens, self.token_bytes, clean.cpu(), conditions, FIRST_POSITION, domains)

    def _all_paths(
        self, replaced: Callable[[Visitor], Tensor], x: Tensor, stand_ins: dict[str, Tensor]
    ) -> Iterator[tuple[str, Tensor]]:
        for name, values in stand_ins.items():
            stand_in = torch.cat([x[:, :FIRST_POSITION], values.to(x.dtype)], dim=1)
            yield name, replaced(partial(_put, stand_in)).cpu()

    def _direct_path(
        self, path: DirectPath, state: FinalState, masked: Tensor, stand_ins: dict[str, Tensor]
    ) -> Iterator[tuple[str, Tensor]]:
        for name, values in stand_ins.items():
            change = _with_first_position(path.to_resid(values - masked))
            yield f"{name}_direct", path.logits(path.normalised(change, state), state).cpu()

    def _add_mapped_errors(self, path: DirectPath, state: FinalState, masked: Tensor, reconstructed: Tensor) -> None:
        error, values = path.to_resid(reconstructed - masked), path.to_resid(masked)
        self.resid_error.add(error, values)
        after_mask = FinalState(state.scale[:, FIRST_POSITION:], state.uncapped)
        self.logit_error.add(path.normalised(error, after_mask), path.normalised(values, after_mask))

    def results(self) -> dict[str, float | None]:
        """Every figure by its name."""
        mapped = {"fvu_resid": self.resid_error.fvu(), "fvu_logit": self.logit_error.fvu()} if self.path else {}
        unseen = self.unseen.variance_sum() / self.reconstruction.variance_sum if self.unseen else None
        null_space = {} if unseen is None else {"nullspace_variance": unseen}
        return {**self.reconstruction.results(), **mapped, **null_space, **self.losses.results()}


def _record(captured: dict[Site, Tensor], site: Site, activations: Tensor) -> Tensor:
    captured[site] = activations
    return activations


def _put(replaced: Tensor, _: Tensor) -> Tensor:
    return replaced


def _with_first_position(change: Tensor) -> Tensor:
    """The change [B, T', D] with no change at the positions before the mask."""
    return torch.nn.functional.pad(change, (0, 0, FIRST_POSITION, 0))
