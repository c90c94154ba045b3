"""What single features do to the language model: its logits, on all paths, with one feature taken out.

The reconstruction error stays in: y - fᵢ dᵢ stands for y, at every counted position on which the feature fires.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from sae_cli.dictionaries.base import Dictionary
from sae_cli.errors import RequestError
from sae_cli.evaluation.held_out import HeldOutText
from sae_cli.metrics.ablation import AblationSums, TakenOut
from sae_cli.metrics.logit_weights import SHOWN
from sae_cli.metrics.report import AblationReport
from sae_cli.models import LanguageModel, MappedTarget, Site, Wires
from sae_cli.models.hooks import recorder, stand_in
from sae_cli.tensor_types import Activations, Bool, Float, Int, Logits, Rows, SiteActivations, Tensor


class Ablation:
    """Takes features out, one at a time.

    Args:
        model: the language model.
        wires: where the dictionary reads and writes.
        dictionary: whose features they are.
        features: their numbers.
        text: on which they fire.

    Raises:
        RequestError: a feature that the dictionary does not have, a hook point that acts on the direct path only, or a
            model that does not predict the next token.
    """

    def __init__(
        self,
        model: LanguageModel,
        wires: Wires,
        dictionary: Dictionary,
        features: Sequence[int],
        text: HeldOutText,
    ) -> None:
        check_features(features, dictionary.n_features)
        model.check_predicts(f"ablate={list(features)}")
        source, target = map(model.target, wires)
        if target.replaced is None:
            raise RequestError(
                f"ablate={list(features)}: hook={wires.writes.hook.value} acts on the direct path only, where the "
                "logit weights in features.safetensors are the exact effect; leave ablate out"
            )
        self.model, self.dictionary, self.text = model, dictionary, text
        self.source, self.target, self.replaced = source, target, target.replaced
        direct = isinstance(target, MappedTarget)
        self.sums = {feature: AblationSums(model.n_logits, direct) for feature in features}

    def results(self) -> tuple[list[AblationReport], dict[str, Tensor]]:
        """Run the text; of each feature its figures, and what it adds to the logits of every token [A, V]."""
        at_once = self.text.rows_of_logits
        for rows in self.text.rows("ablation"):
            for part in zip(rows.tokens.split(at_once), rows.counted.split(at_once), strict=True):
                self.add(*part)
        return self.reports(), self.tensors()

    @torch.no_grad()
    def add(self, tokens: Rows, counted: Bool[Tensor, "B T"]) -> None:
        """Add rows of tokens, and at which positions features are taken out."""
        seen: dict[Site, SiteActivations] = {}
        taps = {*self.source.taps, *self.target.needed}
        outputs, replaced = self.model.branches(tokens, self.replaced, {tap: recorder(seen, tap) for tap in taps})
        clean = outputs.all()
        y = self.target.read(seen).float()
        x = y if self.source is self.target else self.source.read(seen).float()
        f = self.dictionary.encode(x)
        f[~counted.to(f.device)] = 0
        for feature, sums in self.sums.items():
            if (f[..., feature] > 0).any():
                without = y - self.dictionary.written_by(feature, f, x)
                put = self.target.put(without, seen).to(seen[self.replaced].dtype)
                self._compare(sums, f[..., feature], tokens, clean, replaced(stand_in(put)).all(), y, without, seen)

    def _compare(
        self,
        sums: AblationSums,
        f: Float[Tensor, "B T"],
        tokens: Rows,
        clean: Logits,
        ablated: Logits,
        y: Activations,
        without: Activations,
        seen: dict[Site, SiteActivations],
    ) -> None:
        fires, direct = f > 0, None
        if isinstance(self.target, MappedTarget):
            change = self.target.normalized(y, seen) - self.target.normalized(without, seen)
            direct = (change[fires] @ self.model.end.logit_space.W.T).cpu()
        higher = (clean - ablated)[fires].float()
        targets = tokens[:, 1:].to(clean.device)
        increase = _surprise(ablated, targets) - _surprise(clean, targets)
        sums.add(TakenOut(f[fires].cpu(), higher.cpu(), direct, fires[:, :-1].cpu(), increase.cpu()))

    def reports(self) -> list[AblationReport]:
        """The figures of each feature."""
        return [self._report(feature, sums) for feature, sums in self.sums.items()]

    def tensors(self) -> dict[str, Tensor]:
        """What each feature adds to the logits where it fires."""
        effects = [sums.mean_effects() for sums in self.sums.values()]
        found = {
            "feature": torch.tensor(list(self.sums)),
            "tokens": torch.tensor([sums.n for sums in self.sums.values()]),
            "logit_effect": torch.stack([all_paths for all_paths, _ in effects]),
        }
        if direct := [each for _, each in effects if each is not None]:
            found["logit_effect_direct"] = torch.stack(direct)
        return found

    def _report(self, feature: int, sums: AblationSums) -> AblationReport:
        all_paths, _ = sums.mean_effects()
        raises, lowers = (self._largest(each) if sums.n else [] for each in (all_paths, -all_paths))
        return {"feature": feature, **sums.results(), "raises": raises, "lowers": lowers}

    def _largest(self, effect: Float[Tensor, " V"]) -> list[str]:
        tokens = effect.topk(min(SHOWN, len(effect))).indices
        return self.model.tokenizer.batch_decode(tokens[:, None])


def check_features(features: Iterable[int], n_features: int) -> None:
    """A `RequestError` for a feature that there is not."""
    for feature in features:
        if not 0 <= feature < n_features:
            raise RequestError(f"ablate={feature}: expected features from 0 to {n_features - 1}, found {feature}")


def _surprise(logits: Float[Tensor, "B T V"], targets: Int[Tensor, "B S"]) -> Float[Tensor, "B S"]:
    return torch.nn.functional.cross_entropy(logits[:, :-1].float().transpose(1, 2), targets, reduction="none")
