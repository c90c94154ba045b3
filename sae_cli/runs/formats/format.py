"""What a format of another tool is to this one: how it is recognised, read, and written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from sae_cli.artifacts.foreign_files import ForeignFiles
from sae_cli.dictionaries.base import Dictionary
from sae_cli.documents import Document


class Claim(NamedTuple):
    """What a source says of itself, in a figure that can be measured.

    Attributes:
        figure: `k` (active features of every token), or `l0`, `fvu`, `loss_recovered` of an evaluation.
        value: that it states.
        where: in which file, or where else.
    """

    figure: str
    value: float
    where: str


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A dictionary of another tool, in our convention.

    Attributes:
        dictionary: in the units of the model's activations.
        model: as the source calls it; None where it does not say.
        hook: where in it, as the source calls that; likewise.
        claims: what it says of itself.
        folded: what was changed so that the dictionary means the same here; and what is not known of it.
        bos: whether its rows of text began with a BOS token; None where that is not known.
    """

    dictionary: Dictionary
    model: str | None = None
    hook: str | None = None
    claims: tuple[Claim, ...] = ()
    folded: tuple[str, ...] = ()
    bos: bool | None = None


class Outgoing(NamedTuple):
    """A dictionary that is to be written, and what is known of it.

    Attributes:
        dictionary: in the units of the model's activations.
        model: a hub id, or a folder.
        hook: one of ours, by its name, or `places.HEADS`.
        layer: of the hook.
        k: active features a token, of architectures that have it as an aim; None where that is not known.
        frequency: of each feature [F], where it was measured.
        figures: `l0`, `fvu`, `loss_recovered`, where they were measured.
        context, bos: of the rows of text that it was trained on.
    """

    dictionary: Dictionary
    model: str
    hook: str
    layer: int
    k: int | None
    frequency: Tensor | None
    figures: Mapping[str, float]
    context: int | None = None
    bos: bool = True


@dataclass(frozen=True, kw_only=True)
class Written:
    """What is to be written: documents and tensors by the names of their files, and what was folded."""

    documents: Mapping[str, Document] = field(default_factory=dict[str, Document])
    tensors: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict[str, Mapping[str, Tensor]])
    pickles: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict[str, Mapping[str, Tensor]])
    folded: tuple[str, ...] = ()


class Format(Protocol):
    """A format that can be read.

    Attributes:
        name: as `format=` and `to=` have it.
        marks: patterns of the files that a dictionary of it is recognised by in a listing, `*` within a name; the first
            part of a pattern may be a folder.
        alone: whether such a file is a dictionary by itself, not its folder.
    """

    @property
    def name(self) -> str: ...

    @property
    def marks(self) -> tuple[str, ...]: ...

    @property
    def alone(self) -> bool: ...

    def recognise(self, files: ForeignFiles) -> bool:
        """Whether the files are of this format, by their names and, where these do not say, by a look into them."""
        ...

    def read(self, files: ForeignFiles) -> Imported:
        """The dictionary; a `JobError` where a file is damaged or what it says cannot be represented exactly."""
        ...


@runtime_checkable
class WritableFormat(Format, Protocol):
    """A format that can be written too."""

    def write(self, outgoing: Outgoing) -> Written:
        """The files; a `RequestError` where the format has no such dictionaries."""
        ...
