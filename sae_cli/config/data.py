"""The group `data`: which text, and how it becomes rows of tokens. One schema a source."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import ClassVar

from sae_cli.config.idle import Idle
from sae_cli.config.paths import absolute, is_absolute
from sae_cli.config.roles import PathKind, TextRole, number, place, setting, settings

NonFinite = Enum("NonFinite", {"raise": "raise", "drop": "drop"})
"""Activations that are NaN or infinite: `raise` stops the job and names them, `drop` leaves them out and counts."""


@dataclass(kw_only=True)
class DataConfig:
    """What all sources of text share.

    Attributes:
        context: tokens a row, the BOS included; 0 means the model's own maximum, at most 1024.
        held_out_fraction: share of documents, by hash of their key, that is never trained on.
        seed: the order of documents and of the shuffle buffer; apart from the run's `seed`.
        bos: begin every row with the tokenizer's BOS token, where it has one.
        separator: what stands after every document: `eos` (where the tokenizer has one), `bos`, `none`, or a text, in
            which \\n and \\t are a new line and a tab.
        gaussian_embeddings: the model is given fresh Gaussian vectors in place of token embeddings, with the mean and
            standard deviation of each dimension of the embedding matrix: a control without any text.
        domains: only documents of these domains are read (stdlib, installed: packages); empty for all.
    """

    context: int = number(0, at_least=0)
    held_out_fraction: float = number(0.05, at_least=0, below=1)
    seed: int = number(0, at_least=0, ordinal=True)
    bos: bool = True
    separator: str = "eos"
    gaussian_embeddings: bool = False
    domains: list[str] = settings(list, text=TextRole.part)

    def idle(self) -> Iterator[Idle]:
        """Its settings without effect."""
        return iter(())

    def contradictions(self, held_out: bool) -> Iterator[str]:
        """What speaks against it, where figures are measured on `held_out` documents or not."""
        if self.context == 1:
            yield "data.context=1: expected at least 2 tokens a row, or 0 for the model's own context"
        if not self.held_out_fraction and held_out:
            yield (
                "data.held_out_fraction=0: expected above 0, because figures are measured on held-out documents; give "
                "a small share, as 0.01"
            )


@dataclass(kw_only=True)
class StdlibData(DataConfig):
    """The sources of the running Python's standard library.

    Attributes:
        tests: include the library's own tests, where the installation has them.
        exclude: glob patterns of relative paths to leave out.
    """

    tests: bool = True
    exclude: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class InstalledData(DataConfig):
    """The sources of the Python packages that are installed beside this one; a package is a domain.

    Attributes:
        prose: only what their docstrings say that have more than one line: English, for the most part.
        exclude: glob patterns of relative paths to leave out.
    """

    prose: bool = False
    exclude: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class RecordData(DataConfig):
    """What sources of records share.

    Attributes:
        column: the field of a record that holds the text; `a.b` looks inside a nested one.
        domain: a field that names a record's domain; empty means the file's folder, or none with data=hf.
        tokens: the field holds lists of ids of the model's tokens, which are read as they are.
        chat: the field holds lists of messages (`role`, `content`), which become text by the tokenizer's chat template.
    """

    column: str = "text"
    domain: str = ""
    tokens: bool = setting(False, added=True)
    chat: bool = setting(False, added=True)

    def idle(self) -> Iterator[Idle]:
        if self.tokens:
            yield Idle("data.chat", "with data.tokens=true, which is no text", "give one of the two")


@dataclass(kw_only=True)
class TextData(RecordData):
    """Local files: plain text or records (json, jsonl, csv, tsv, parquet, arrow), also compressed.

    Attributes:
        path: a file, a folder or a glob.
    """

    path: str = place(PathKind.here, text=TextRole.source)


@dataclass(kw_only=True)
class HfData(RecordData):
    """A Hugging Face data set, streamed, or a local one.

    Attributes:
        path: hub id, or a local folder or file, as `datasets.load_dataset` takes it or `save_to_disk` leaves it.
        subset: the data set's configuration name; empty for the default one.
        split: the data set's split to read (both our train and held-out documents come from it).
        revision: branch, tag or commit on the hub.
        shuffle_documents: size of the streaming shuffle buffer, in documents.
    """

    path: str = place(PathKind.named, text=TextRole.source)
    subset: str = setting("", text=TextRole.source)
    split: str = setting("train", text=TextRole.source)
    revision: str | None = None
    shuffle_documents: int = number(1000, at_least=1)

    def idle(self) -> Iterator[Idle]:
        yield from super().idle()
        if is_absolute(absolute(self.path)):
            yield Idle("data.revision", f"on {self.path}, which has no revisions", "leave it out, or give a hub id")


@dataclass(kw_only=True)
class TruthData(DataConfig):
    """What sources share whose activations are made, of features that are known.

    No language model is involved; `model`, `hook` and `layer` stay at their defaults.

    Attributes:
        d: width of the activations.
    """

    called: ClassVar[str]
    """What the source is called in messages."""

    place: ClassVar[str]
    """The folder of its runs."""

    d: int = number(128, at_least=1)

    def run_part(self) -> tuple[str, set[str]]:
        """The part of a run's name that says which activations, and the settings that it shows."""
        return f"{self.place}/d{self.d}", {"data.d"}

    def idle(self) -> Iterator[Idle]:
        for each in fields(DataConfig):
            if each.name != "seed":
                yield Idle(f"data.{each.name}", f"with {self.called}, which has no text", "leave it out")
        yield Idle("activations", f"with {self.called}, which is made while it is read", "leave it out")

    def contradictions(self, held_out: bool) -> Iterator[str]:
        return iter(())


@dataclass(kw_only=True)
class SyntheticData(TruthData):
    """Activations with a known ground truth: sparse non-negative sums of known directions.

    No language model is involved; `model`, `hook` and `layer` stay at their defaults.

    Attributes:
        n_features: number of true directions.
        mean_active: expected number of active features a token.
        frequency_exponent: feature i fires in proportion to (i + 1)^-exponent; 0 is uniform.
        correlation: 0 for independent features; towards 1, features fire in groups.
        noise: standard deviation of the Gaussian noise added in each dimension.
    """

    called: ClassVar[str] = "data=synthetic"
    place: ClassVar[str] = "synthetic"

    n_features: int = number(256, at_least=1)
    mean_active: float = number(5.0, above=0)
    frequency_exponent: float = number(0.5, at_least=0)
    correlation: float = number(0.0, at_least=0, below=1)
    noise: float = number(0.0, at_least=0)


@dataclass(kw_only=True)
class BenchData(TruthData):
    """The activations of SynthSAEBench (arXiv 2602.14687); the defaults are its 16,384 features in 768 dimensions.

    Attributes:
        n_features: number of true directions.
        roots: features at the top of a tree each; the trees come first, breadth first, the rest belongs to none.
        branching: children of every parent.
        depth: levels of children below the roots.
        most_frequent, least_frequent: the frequency of the first and of the last feature, before siblings exclude each
            other.
        frequency_exponent: between these, frequencies fall as rank^-exponent does.
        correlation_rank: common factors of the latents that features fire by.
        correlation_scale: standard deviation of the loadings on each of them; 0 for independent features.
        bias_norm: length of the vector that is added to all activations.
    """

    called: ClassVar[str] = "SynthSAEBench data"
    place: ClassVar[str] = "synthsaebench"

    d: int = number(768, at_least=1)
    n_features: int = number(16_384, at_least=2)
    roots: int = number(128, at_least=0)
    branching: int = number(4, at_least=1)
    depth: int = number(3, at_least=0)
    most_frequent: float = number(0.4, above=0, below=1)
    least_frequent: float = number(5e-4, above=0, below=1)
    frequency_exponent: float = number(0.5, above=0)
    correlation_rank: int = number(25, at_least=1)
    correlation_scale: float = number(0.1, at_least=0)
    bias_norm: float = number(0.5, at_least=0)

    def run_part(self) -> tuple[str, set[str]]:
        return f"{self.place}/{self.n_features}-d{self.d}", {"data.d", "data.n_features"}

    def idle(self) -> Iterator[Idle]:
        yield from super().idle()
        if not self.roots:
            yield Idle("data.branching", "with data.roots=0", "leave it out")
            yield Idle("data.depth", "with data.roots=0", "leave it out")
        elif not self.depth:
            yield Idle("data.branching", "with data.depth=0", "leave it out")

    def contradictions(self, held_out: bool) -> Iterator[str]:
        in_trees = self.roots * sum(self.branching**level for level in range(self.depth + 1))
        if in_trees > self.n_features:
            yield (
                f"data.n_features={self.n_features}: expected at least {in_trees}, the features of data.roots="
                f"{self.roots} trees with data.branching={self.branching} and data.depth={self.depth}"
            )
        if self.least_frequent > self.most_frequent:
            yield (
                f"data.least_frequent={self.least_frequent:g}: expected at most data.most_frequent="
                f"{self.most_frequent:g}"
            )


MOST_COMBINATIONS = 2**22
"""Of attributes, from which objects are drawn."""


@dataclass(kw_only=True)
class CompositionalData(TruthData):
    """Objects that are made of attributes, the known truth; one object a token.

    Attributes:
        n_objects: how many there are.
        slots: attributes of an object.
        values: attributes that can stand in a slot.
        frequency_exponent: object i is shown in proportion to (i + 1)^-exponent; 0 is uniform.
        noise: standard deviation of the Gaussian noise added in each dimension.
    """

    called: ClassVar[str] = "data=compositional"
    place: ClassVar[str] = "compositional"

    n_objects: int = number(256, at_least=1)
    slots: int = number(4, at_least=1)
    values: int = number(16, at_least=1)
    frequency_exponent: float = number(0.5, at_least=0)
    noise: float = number(0.0, at_least=0)

    def contradictions(self, held_out: bool) -> Iterator[str]:
        made = f"data.slots={self.slots} and data.values={self.values}"
        if (combinations := self.values**self.slots) > MOST_COMBINATIONS:
            yield f"{made}: expected at most {MOST_COMBINATIONS:,} combinations, found {combinations:,}"
        elif self.n_objects > combinations:
            yield f"data.n_objects={self.n_objects}: expected at most {combinations:,}, all that {made} can make"
