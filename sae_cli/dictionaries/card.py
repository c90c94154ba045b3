"""What a dictionary belongs to: the card in the header of its file, which every reader asks.

A card says which model, which places in it are read and written, and, where these are known, which text and how many
activations it was trained on. Nothing else is needed to evaluate, show, prune or compare a dictionary, so that one
from elsewhere is treated like one of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sae_cli.config.agreement import out_of_bounds
from sae_cli.config.data import DataConfig, TruthData
from sae_cli.config.hook import Basis, LogitUpdateHook, ModuleHook, SiteConfig
from sae_cli.config.model import ModelConfig
from sae_cli.config.paths import with_absolute_paths
from sae_cli.config.plain import INVALID, plain_group, typed_group
from sae_cli.documents import Document, Facts

CARD = "card"
_VERSION = 1


class Wiring(NamedTuple):
    """What a dictionary reads, and what it writes: for an autoencoder the same."""

    reads: tuple[SiteConfig, ...]
    writes: tuple[SiteConfig, ...]

    @classmethod
    def at(cls, site: SiteConfig) -> Wiring:
        """Of an autoencoder."""
        return cls((site,), (site,))


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a dictionary belongs to.

    Attributes:
        model: whose activations they are; None where they are of no model. Of a known truth it is a name only.
        wiring: the places in the model; likewise.
        data: the text that it was trained on, or the truth; of one from elsewhere the text that it was measured on when
            it was imported. None where none is known.
        scale: what activations were multiplied by in its training; None where that is not known.
        tokens: activations that it was trained on.
        source: where these came from: `live`, `harvest`, `synthetic`.
        provenance: where the dictionary comes from.
    """

    model: ModelConfig | None
    wiring: Wiring | None
    data: DataConfig | None = None
    scale: float | None = None
    tokens: int | None = None
    source: str | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)

    @property
    def truth(self) -> TruthData | None:
        """The known truth that it is of, if it is of one."""
        return self.data if isinstance(self.data, TruthData) else None

    @property
    def places(self) -> tuple[SiteConfig, SiteConfig]:
        """The one place that it reads, and the one that it writes; a ValueError where there are more, or none."""
        if self.wiring is None or len(self.wiring.reads) != 1 or len(self.wiring.writes) != 1:
            raise ValueError("expected a dictionary that reads one place in a language model and writes one")
        return self.wiring.reads[0], self.wiring.writes[0]

    @property
    def site(self) -> SiteConfig:
        """Where an autoencoder reads and writes; a ValueError for any other dictionary."""
        reads, writes = self.places
        if reads != writes:
            raise ValueError(
                f"expected an autoencoder, found a dictionary that reads {reads.label} and writes {writes.label}"
            )
        return reads

    @property
    def basis(self) -> str:
        """What the dimensions of its decoder rows are: equal for dictionaries whose rows can be compared as they are.

        Those of the residual stream all can, also of different models: there it is a question, not a mistake.
        """
        if self.truth:
            return f"{self.truth.place} activations of data.seed={self.truth.seed}"
        assert self.model and self.wiring
        return " and ".join(dict.fromkeys(_basis(site, self.model) for site in self.wiring.writes))

    @property
    def basis_of_writes(self) -> Basis | None:
        """The kind of what is written; None of what is of no model."""
        return self.wiring.writes[0].hook.point.basis if self.wiring else None

    def header(self) -> Document:
        """For the header of a dictionary's file: the card, and beside it its most telling entries by themselves."""
        telling: Document = {}
        if self.model and self.wiring:
            hook, layer = self.wiring.reads[0]
            telling = {"hook": hook.point.value, "model": with_absolute_paths(self.model).path}
            telling |= {} if layer is None else {"layer": layer}
            telling |= {"mode": hook.mode.value} if isinstance(hook, LogitUpdateHook) else {}
            telling |= {"path": hook.path, "side": hook.side.value} if isinstance(hook, ModuleHook) else {}
        return {**telling, "scale": self.scale, CARD: self._document()}

    def _document(self) -> Document:
        card = with_absolute_paths(self)
        return {
            "version": _VERSION,
            "model": card.model and plain_group("model", card.model),
            "wiring": card.wiring and {name: list(map(_plain_site, sites)) for name, sites in _named(card.wiring)},
            "data": card.data and plain_group("data", card.data),
            **{name: getattr(card, name) for name in ("scale", "tokens", "source")},
            "provenance": dict(card.provenance),
        }

    @classmethod
    def of_header(cls, header: Facts) -> Card | None:
        """The card in the header of a file; None where it has none.

        Raises:
            ValueError: it is none that this version reads, with what was expected and what was found.
        """
        if CARD not in header:
            return None
        found = header[CARD]
        if not isinstance(found, dict) or found.get("version") != _VERSION:
            shown = found.get("version") if isinstance(found, dict) and found else found
            raise ValueError(f"a card of version {_VERSION}, found {shown!r}")
        try:
            _check_types(found)
            card = cls(
                model=found["model"] and typed_group("model", found["model"]),
                wiring=found["wiring"] and Wiring(*(_typed_sites(found["wiring"][name]) for name in Wiring._fields)),
                data=found["data"] and typed_group("data", found["data"]),
                **{name: found[name] for name in ("scale", "tokens", "source")},
                provenance=dict(found["provenance"]),
            )
        except INVALID as error:
            raise ValueError(f"a card, found one that is none: {str(error).splitlines()[0]}") from error
        for each in (card.model, card.data):
            for complaint in out_of_bounds(each) if each else ():
                raise ValueError(f"a card, found {complaint}")
        return card


def _basis(site: SiteConfig, model: ModelConfig) -> str:
    match site.hook.point.basis:
        case Basis.neurons | Basis.module:
            return site.label
        case Basis.logits:
            revision = f"@{model.revision}" if model.revision else ""
            return f"the logits of {model.name or model.path}{revision}"
        case Basis.residual:
            return "the residual stream"


def _check_types(found: Facts) -> None:
    for name, kind in (("scale", float), ("tokens", int), ("source", str)):
        if found[name] is not None and type(found[name]) is not kind:
            raise TypeError(f"{name}={found[name]!r}")


def _named(wiring: Wiring) -> Sequence[tuple[str, tuple[SiteConfig, ...]]]:
    return [("reads", wiring.reads), ("writes", wiring.writes)]


def _plain_site(site: SiteConfig) -> Document:
    return {"hook": plain_group("hook", site.hook), "layer": site.layer}


def _typed_sites(sites: Sequence[dict[str, Any]]) -> tuple[SiteConfig, ...]:
    found = tuple(SiteConfig(typed_group("hook", each["hook"]), each["layer"]) for each in sites)
    if not found or not all(each.layer is None or isinstance(each.layer, int) for each in found):
        raise ValueError(f"places in a model: {sites}")
    return found
