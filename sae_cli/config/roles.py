"""What a setting is, said where it is declared: in the metadata of its field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, field, fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, TypedDict, TypeGuard, TypeVar, Unpack

from omegaconf import MISSING

from sae_cli.config.bounds import Bounds

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Value = TypeVar("Value")

_ROLE = "role"


class PathKind(Enum):
    """`here`: always a place on this machine; `run_or_name`: the same, but for `NAMES`; `named`: a folder if there is
    one, else a name on the hub."""

    here = "here"
    run_or_name = "run_or_name"
    named = "named"


class TextRole(Enum):
    """`source`: which text a source reads, as far as the keys of its documents depend on it; `part`: which part of it
    is read."""

    source = "source"
    part = "part"


@dataclass(frozen=True, kw_only=True)
class Role:
    """What a setting is.

    Attributes:
        execution: how a job runs, not what it produces: no part of a run's name, and two configurations that differ in
            these only are the same run. Of a group: all of it.
        bounds: the numbers that it may take.
        path: it names a place, of this kind.
        ordinal: it is the number of something, not how many.
        added: earlier runs do not have it, and are what they were at its default.
        text: it says which text is read, not how.
    """

    execution: bool = False
    bounds: Bounds | None = None
    path: PathKind | None = None
    ordinal: bool = False
    added: bool = False
    text: TextRole | None = None


class Setting(NamedTuple):
    """A setting of a configuration: its dotted key, its field and its value."""

    key: str
    field: Field[object]
    value: object

    @property
    def role(self) -> Role:
        return role_of(self.field)


class Roles(TypedDict, total=False):
    """What may be said of any field; see `Role`."""

    execution: bool
    ordinal: bool
    added: bool
    text: TextRole


def setting(
    default: Value = MISSING,
    *,
    bounds: Bounds | None = None,
    path: PathKind | None = None,
    **roles: Unpack[Roles],
) -> Value:
    """A field of a schema with this `Role`; without a default it must be given. To type checkers, as the functions
    below, it is the value that the field will have."""
    return field(default=default, metadata={_ROLE: Role(bounds=bounds, path=path, **roles)})


def settings(make: Callable[[], Value], **roles: Unpack[Roles]) -> Value:
    """A field that begins as `make()`: a list, or a group of settings."""
    return field(default_factory=make, metadata={_ROLE: Role(**roles)})


def number(
    default: Value = MISSING,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    **roles: Unpack[Roles],
) -> Value:
    """A field with these bounds; without a default it must be given."""
    given = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    bounds = Bounds(**{name: bound for name, bound in given.items() if bound is not None})
    return setting(default, bounds=bounds, **roles)


def place(kind: PathKind, default: Value = MISSING, **roles: Unpack[Roles]) -> Value:
    """A field that names a place; without a default it must be given."""
    return setting(default, path=kind, **roles)


def role_of(declared: Field[object]) -> Role:
    """What a field is; a field of which nothing is said is a setting like any other."""
    return declared.metadata.get(_ROLE, _PLAIN)


def is_group(value: object) -> TypeGuard[DataclassInstance]:
    """Whether it is no value but a group of settings."""
    return is_dataclass(value)


def settings_in(config: DataclassInstance, prefix: str = "") -> Iterator[Setting]:
    """The settings of a configuration, those of its groups in their place."""
    for each in fields(config):
        value = getattr(config, each.name)
        if is_group(value):
            yield from settings_in(value, f"{prefix}{each.name}.")
        else:
            yield Setting(f"{prefix}{each.name}", each, value)


_PLAIN = Role()
