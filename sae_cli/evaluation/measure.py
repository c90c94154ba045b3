"""Measuring a dictionary: reconstruction and losses on held-out text, features on more, baselines beside it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch

from sae_cli import build
from sae_cli.activations.blocks import FIRST_POSITION, take
from sae_cli.activations.columns import AUTOENCODER
from sae_cli.config.evaluation import Baseline
from sae_cli.config.split import Split
from sae_cli.dictionaries.base import Dictionary
from sae_cli.documents import Document, Facts
from sae_cli.errors import JobError, RequestError
from sae_cli.evaluation.ablation import Ablation
from sae_cli.evaluation.against_truth import against_truth, directions_found
from sae_cli.evaluation.baselines import SAMPLE, Bases, check_baselines
from sae_cli.evaluation.code_step import TriedSteps, neutral_step_of_variance
from sae_cli.evaluation.direct_effects import weights_on_logits
from sae_cli.evaluation.encode import encoded, measure
from sae_cli.evaluation.held_out import HeldOutRows, HeldOutText, check_losses
from sae_cli.evaluation.read_in_step import Reader, ReadInStep, counted_activations
from sae_cli.evaluation.references import References
from sae_cli.evaluation.splice import Splicer
from sae_cli.evaluation.subject import ModelSubject, SyntheticSubject
from sae_cli.evaluation.token_means import TokenMeans
from sae_cli.jobs.shortage import warn_if_short
from sae_cli.jobs.side_by_side import Step
from sae_cli.metrics.code_length import CodeBook, LevelCounts
from sae_cli.metrics.directions import kurtosis, participation_ratio
from sae_cli.metrics.features import FeatureSums
from sae_cli.metrics.language_loss import recovered_above
from sae_cli.metrics.row_sums import RowSums
from sae_cli.metrics.token_counts import TokenCounts
from sae_cli.tensor_types import Float, Rows, SiteActivations, Tensor
from sae_cli.terminal import console
from sae_cli.terminal.progress import progress
from sae_cli.text.provenance import TokensHash

_OF_BASELINES = (
    "l0",
    "bits",
    "bits_se",
    "fvu",
    "loss_recovered",
    "loss_recovered_se",
    "ce_increase",
    "ce_increase_se",
    "token_entropy_median",
    "recovered_above",
    "recovered_above_se",
    "recovered_above_low",
    "recovered_above_high",
)
_OF_BASELINES_OF_TRUTH = (
    "l0",
    "bits",
    "fvu",
    *("mcc", "uniqueness"),
    *(f"{key}{part}" for key in ("precision", "recall", "f1") for part in ("", "_se")),
    *(f"{key}{part}" for key in ("truth_recall", "truth_recall_weighted") for part in ("", "_se")),
)


class _Whole(NamedTuple):
    """Reconstruction and losses; of them the tokens, the L0 and the bits a token, and of a language model the scale of
    its final norm and the sums of each row of text."""

    figures: Facts
    tokens: int
    l0: float
    bits: float = 0.0
    inverse_scale: float = 1.0
    rows: RowSums | None = None


class Measured(NamedTuple):
    """What a measurement has found out.

    Attributes:
        figures: by their names.
        tensors: of per-feature statistics.
        rows: the sums of each row of text that losses were measured on: of the dictionary under `dictionary`, of each
            baseline and each reference under `baselines.<name>` and `references.<name>`.
    """

    figures: Document
    tensors: dict[str, Tensor]
    rows: dict[str, RowSums]


Found = TypeVar("Found")
Steps = Generator[Step, None, Found]
"""Work that can be left between any two steps, and what it finds out."""


class Measurement:
    """How much is measured, on what.

    Args:
        read: what the dictionary reads, and which of it.
        baselines: what is measured beside it.
        baseline_tokens: training text that means by token are taken over.
        references: models that the one with the dictionary in it is placed among.

    Attributes:
        subject: what the dictionary reads.
    """

    def __init__(
        self,
        read: ReadInStep,
        baselines: Sequence[Baseline] = (),
        baseline_tokens: int = 0,
        references: References | None = None,
    ) -> None:
        self._read, self.subject, self._reader = read, read.subject, read.reader()
        self.baselines, self._baseline_tokens, self._references = tuple(baselines), baseline_tokens, references
        check_baselines(self.subject, self.baselines)

    @property
    def tokens(self) -> int:
        """That the steps will add up to."""
        coded = [1 + name.at_bits for name in self.baselines if not name.tokens]
        means = [name for name in self.baselines if name.tokens]
        of_means = self._read.text.positions_asked * len(means) if self._read.text else 0
        tried = (sum(coded) - len(coded)) * self._read.tried_on
        return self._read.tokens * (1 + len(coded)) + tried + of_means

    def seconds(self, dictionary: Dictionary) -> float:
        """How long it will take, about; 0 where that is not known."""
        return self._read.seconds(dictionary) * self.tokens / self._read.tokens

    def of(self, dictionary: Dictionary) -> Steps[Measured]:
        """Everything that is measured of a dictionary, step by step."""
        self.subject.check(dictionary)
        whole, counted, tensors = yield from self._coded(self._reader, dictionary, self._references)
        self._warn_if_short(whole, int(tensors["tokens"]))
        figures: Document = {**whole.figures, **counted}
        match self.subject:
            case ModelSubject():
                shape, weights = weights_on_logits(self.subject, dictionary, whole.inverse_scale)
                tensors |= weights
                figures |= {name: _median(values[tensors["count"] > 0]) for name, values in shape.items()}
            case SyntheticSubject():
                truth = self.subject.truth.directions()
                figures |= directions_found(truth, dictionary.W_dec.cpu(), tensors["count"])
        figures |= {
            "features": dictionary.n_features,
            "split": Split.held_out.value,
            "feature_split": self._read.features.split.value,
        }
        rows = {} if whole.rows is None else {"dictionary": whole.rows}
        if self._references:
            rows |= {f"references.{name}": sums for name, sums in self._references.read.items()}
        if self.baselines:
            figures["baselines"], beside = yield from self._beside(dictionary, whole)
            rows |= {f"baselines.{name}": sums for name, sums in beside.items()}
        return Measured(figures, tensors, rows)

    def _warn_if_short(self, whole: _Whole, feature_tokens: int) -> None:
        features = self._read.features
        if whole.rows and self._read.text:
            self._read.text.say_if_short(whole.tokens, whole.rows.documents)
        warn_if_short("features.tokens", features.tokens, feature_tokens, f"the {features.split.value} text")

    def ablation(self, dictionary: Dictionary, features: Sequence[int]) -> Ablation:
        """What takes these features out, on the held-out text; a `RequestError` where it cannot be done."""
        if not isinstance(self.subject, ModelSubject):
            raise RequestError(f"ablate: features are taken out of a language model; {self.subject.called} has none")
        return Ablation(self.subject.model, self.subject.wires, dictionary, features, self._text)

    @property
    def _text(self) -> HeldOutText:
        assert self._read.text is not None, "of a language model"
        return self._read.text

    def _coded(
        self, reader: Reader, dictionary: Dictionary, references: References | None = None
    ) -> Steps[tuple[_Whole, dict[str, float | int | None], dict[str, Tensor]]]:
        """Reconstruction and, where there is a language model, losses, among those of references; then what is said of
        features, on which the code is fitted that bits are counted in."""
        step = yield from self._code_step(reader, dictionary)
        levels = LevelCounts(dictionary.n_features, step)
        counted, tensors = yield from self._features(reader, dictionary, levels)
        match self.subject:
            case ModelSubject():
                whole = yield from self._splice(reader, self.subject, dictionary, references, levels.results())
            case SyntheticSubject():
                whole = self._reconstruct(self.subject, dictionary, levels.results())
        return whole, {**counted, "bits_step": levels.step}, tensors

    def _code_step(self, reader: Reader, dictionary: Dictionary) -> Steps[float]:
        """To which activations are rounded before their code is counted."""
        match self.subject:
            case ModelSubject(model=model) if model.predicts:
                splicer = Splicer(model, self.subject.wires, dictionary, clean=reader.clean)
                tried = TriedSteps(splicer, dictionary)
                for rows in reader.beginning:
                    tried.add(rows)
                    yield _step("code", rows)
                return tried.neutral()
            case _:
                x = [each.activations for each in take(self.subject.blocks(Split.held_out), self._read.tried_on)]
                return neutral_step_of_variance(dictionary, torch.cat(x).to(dictionary.W_dec.device))

    def _splice(
        self,
        reader: Reader,
        subject: ModelSubject,
        dictionary: Dictionary | TokenMeans,
        references: References | None = None,
        book: CodeBook | None = None,
    ) -> Steps[_Whole]:
        text = self._text
        splicer = Splicer(subject.model, subject.wires, dictionary, subject.null_space, book, reader.clean)
        read = TokensHash()
        for rows in reader.rows:
            splicer.add(rows)
            read.add(rows.tokens.numpy())
            yield _step("losses", rows)
        check_losses(splicer.losses, "the model and the dictionary in it")
        of_all, by_row, direct = splicer.reconstruction, splicer.rows(), splicer.direct
        figures = {
            **splicer.results(),
            **text.domain_results(splicer.losses),
            **(references.place(text, splicer.losses) if references else {}),
            "tokens": of_all.n,
            "rows": by_row.rows,
            "documents": by_row.documents,
            "positions": text.positions(),
            "tokens_sha256": read.hexdigest(),
        }
        if subject.model.predicts:
            figures["loss_tokens"] = int(splicer.losses.total[0])
        inverse_scale = float(direct.inverse_scale.results()) if direct else 1.0
        return _Whole(figures, of_all.n, of_all.l0, figures.get("bits", 0.0), inverse_scale, by_row)

    def _reconstruct(self, subject: SyntheticSubject, dictionary: Dictionary, book: CodeBook) -> _Whole:
        reconstruction, of_truth = against_truth(dictionary, subject, self._read.evaluation.tokens, book)
        figures = {**reconstruction.results(), **of_truth, "tokens": reconstruction.n}
        return _Whole(figures, reconstruction.n, reconstruction.l0, of_truth["bits"] or 0.0)

    def _features(
        self, reader: Reader, dictionary: Dictionary, levels: LevelCounts
    ) -> Steps[tuple[dict[str, float | int | None], dict[str, Tensor]]]:
        """Summaries, over features that fired (neurons: over all), and the statistics that they are of."""
        sums = FeatureSums.empty(dictionary.n_features)
        vocabulary = self.subject.model.vocab_size if isinstance(self.subject, ModelSubject) else None
        tokens = TokenCounts(dictionary.n_features, vocabulary) if vocabulary else None
        for block in reader.activations:
            measure(encoded(dictionary, [block], self.subject.columns), sums, levels, *([tokens] if tokens else []))
            yield Step(tokens=block.n, shown={"now": "features"})
        if not sums.n:
            raise self._no_rows()
        return self._summarized(dictionary, sums, tokens.results() if tokens else {})

    @torch.no_grad()
    def _summarized(
        self, dictionary: Dictionary, sums: FeatureSums, by_feature: dict[str, Tensor]
    ) -> tuple[dict[str, float | int | None], dict[str, Tensor]]:
        W_dec, alive = dictionary.W_dec.cpu(), sums.count > 0
        if self.subject.columns == AUTOENCODER:
            both_ends = {"de_projection": dictionary.de_projection().cpu(), "de_cosine": dictionary.de_cosine().cpu()}
            by_feature = both_ends | by_feature
        by_feature["bias_distance"] = (dictionary.encoder_bias / dictionary.W_enc.norm(dim=1).clamp_min(1e-12)).cpu()
        by_neuron = {}
        figures = sums.results()
        if isinstance(self.subject, ModelSubject) and (null_space := self.subject.null_space):
            by_feature |= {"decoder_kurtosis": kurtosis(W_dec), "decoder_participation": participation_ratio(W_dec)}
            by_neuron = {"neuron_kurtosis": kurtosis(W_dec.T), "neuron_participation": participation_ratio(W_dec.T)}
            by_feature["nullspace"] = null_space.share(W_dec)
            figures["nullspace"] = float(by_feature["nullspace"][alive].mean()) if alive.any() else None
            figures["nullspace_floor"] = null_space.floor
        medians = {name: _median(values[alive]) for name, values in by_feature.items() if name != "nullspace"}
        medians |= {name: _median(values) for name, values in by_neuron.items()}
        figures |= {f"{name}_median": value for name, value in medians.items()}
        return figures, {**sums.tensors(), "b_enc": dictionary.encoder_bias, **by_feature, **by_neuron}

    def _no_rows(self) -> JobError:
        assert isinstance(self.subject, ModelSubject), "synthetic activations are without end"
        return build.row_stream(self.subject.data, self.subject.model, self._read.features.split).too_little()

    def _beside(self, dictionary: Dictionary, whole: _Whole) -> Steps[tuple[dict[str, Facts], dict[str, RowSums]]]:
        """The figures of each baseline by its name, and its sums by row."""
        subject = self.subject.of_what_is_written()
        mean = dictionary.activation_mean.cpu()
        bases = [name for name in self.baselines if not name.tokens]
        sampled = bases or dictionary.normalization  # whose mean activation is in none of its tensors
        counted = counted_activations(subject, self._read.features)
        x = torch.cat([block.activations for block in take(counted, SAMPLE)]) if sampled else None
        if x is not None and dictionary.normalization:
            mean = x.mean(dim=0)
        means = self._token_means(mean, depth) if (depth := max(each.tokens for each in self.baselines)) else None
        fitted = None if x is None else Bases(x, mean, whole.l0)
        found: dict[str, Facts] = {}
        rows: dict[str, RowSums] = {}
        for name in self.baselines:
            console.log(f"baseline: {name.value}")
            beside = Measurement(self._read.again(subject))
            if means and name.tokens:
                assert isinstance(subject, ModelSubject)
                of_name = yield from beside._splice(beside._reader, subject, means.of_depth(name.tokens))
                figures = {**of_name.figures}
            else:
                assert fitted is not None
                of_name, of_features = yield from beside._of_basis(fitted, name, whole, dictionary.W_dec.device)
                figures = {**of_name.figures, **of_features}
            if whole.rows and of_name.rows:
                rows[name.value] = of_name.rows
                figures |= recovered_above(whole.rows, of_name.rows) if "ce_clean" in whole.rows.columns else {}
            of_subject = _OF_BASELINES if isinstance(subject, ModelSubject) else _OF_BASELINES_OF_TRUTH
            found[name.value] = {key: figures.get(key) for key in of_subject}
        return found, rows

    def _of_basis(
        self, fitted: Bases, name: Baseline, whole: _Whole, device: torch.device
    ) -> Steps[tuple[_Whole, dict[str, float | int | None]]]:
        basis = fitted.at_l0(name.basis).to(device)
        if name.at_bits:
            step = yield from self._code_step(self._read.again(self.subject).reader(), basis)
            basis = fitted.at_bits(name.basis, whole.bits, step).to(device)
        of_name, of_features, _ = yield from self._coded(self._reader, basis)
        return of_name, of_features

    def _token_means(self, mean: Float[Tensor, " E"], depth: int) -> TokenMeans:
        """The mean activations of the last tokens, over the training text."""
        subject = self.subject.of_what_is_written()
        assert isinstance(subject, ModelSubject)
        asked = (rows.tokens for rows in self._text.blocks())
        return TokenMeans(depth, asked, self._training_text(subject), mean)

    def _training_text(self, subject: ModelSubject) -> Iterator[tuple[Rows, SiteActivations]]:
        """The beginning of the training text with its activations, with a progress bar."""
        with progress(self._baseline_tokens, "means by token") as advance:
            for rows, block in subject.activations_of(subject.training_rows(self._baseline_tokens), Split.train):
                yield torch.from_numpy(rows.tokens), block.activations.unflatten(0, (len(rows.tokens), -1))
                advance(block.n)


def _step(now: str, rows: HeldOutRows) -> Step:
    return Step(tokens=len(rows.tokens) * (rows.tokens.shape[1] - FIRST_POSITION), shown={"now": now})


def _median(values: Float[Tensor, " N"]) -> float | None:
    return float(values.float().median()) if len(values) else None
