"""`sae harvest`: write activations to disk."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from sae_cli.config.command import StreamConfig
from sae_cli.config.data import NonFinite
from sae_cli.config.model import Dtype
from sae_cli.config.naming import RunName
from sae_cli.config.roles import number


@dataclass(kw_only=True)
class HarvestConfig(StreamConfig):
    """`sae harvest`: write activations to disk.

    Attributes:
        tokens: activations to write (positions outside the mask do not count).
        dtype: number format of the shards.
        shard_tokens: activations a shard.
        non_finite: what is done with activations that are NaN or infinite in the shards' format.
    """

    command: ClassVar[str] = "harvest"
    held_in_memory: ClassVar[tuple[str, ...]] = ("model_rows", "shard_tokens", "data.context")

    layer: int = number(at_least=-1, ordinal=True)
    tokens: int = number(at_least=1)
    dtype: Dtype = Dtype.float32
    shard_tokens: int = number(65_536, at_least=1)
    non_finite: NonFinite = NonFinite["raise"]

    def run_name(self) -> RunName:
        where, shown = self.stream_part(self.layer)
        return RunName(f"harvest/{where}", f"T{self.tokens}-{self.dtype.value}", shown | {"tokens", "dtype"})

    def contradictions(self) -> Iterator[str]:
        return self.data.contradictions(held_out=False)
