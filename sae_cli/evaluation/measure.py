"""Measuring a dictionary: reconstruction and losses on held-out text, features on more, baselines beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch

from sae_cli import build
from sae_cli.activations.blocks import ActivationBlock, take
from sae_cli.activations.columns import AUTOENCODER
from sae_cli.config.evaluation import Baseline, EvaluationConfig, FeaturePassConfig
from sae_cli.config.hook import Basis
from sae_cli.config.split import Split
from sae_cli.dictionaries.base import Dictionary
from sae_cli.documents import Document, Facts
from sae_cli.errors import JobError, RequestError
from sae_cli.evaluation.ablation import Ablation
from sae_cli.evaluation.against_truth import against_truth, directions_found
from sae_cli.evaluation.baselines import SAMPLE, Bases, check_ica
from sae_cli.evaluation.code_step import TOKENS as TRIED_ON
from sae_cli.evaluation.code_step import neutral_step, neutral_step_of_truth
from sae_cli.evaluation.encode import encoded, measure
from sae_cli.evaluation.held_out import HeldOutText, check_losses
from sae_cli.evaluation.references import References
from sae_cli.evaluation.splice import Splicer
from sae_cli.evaluation.subject import ModelSubject, Subject, SyntheticSubject
from sae_cli.evaluation.token_means import TokenMeans
from sae_cli.jobs.shortage import warn_if_short
from sae_cli.metrics.code_length import CodeBook, LevelCounts
from sae_cli.metrics.directions import kurtosis, participation_ratio
from sae_cli.metrics.features import FeatureSums
from sae_cli.metrics.language_loss import recovered_above
from sae_cli.metrics.logit_weights import logit_weights
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


@dataclass(frozen=True)
class Measurement:
    """How much is measured, on what.

    Attributes:
        subject: what the dictionary reads.
        evaluation: held-out text for reconstruction and losses.
        features: text for the statistics of features.
        baselines: what is measured beside it.
        baseline_tokens: training text that means by token are taken over.
        references: models that the one with the dictionary in it is placed among.
    """

    subject: Subject
    evaluation: EvaluationConfig
    features: FeaturePassConfig
    baselines: tuple[Baseline, ...] = ()
    baseline_tokens: int = 0
    references: References | None = None

    def of(self, dictionary: Dictionary) -> Measured:
        """Everything that is measured of a dictionary."""
        self.subject.check(dictionary)
        self._check_baselines()
        whole, counted, tensors = self._coded(dictionary, self.references)
        self._warn_if_short(whole, int(tensors["tokens"]))
        figures: Document = {**whole.figures, **counted}
        match self.subject:
            case ModelSubject():
                shape, weights = _logit_weights(self.subject, dictionary, whole.inverse_scale)
                tensors |= weights
                figures |= {name: _median(values[tensors["count"] > 0]) for name, values in shape.items()}
            case SyntheticSubject():
                truth = self.subject.truth.directions()
                figures |= directions_found(truth, dictionary.W_dec.cpu(), tensors["count"])
        figures |= {
            "features": dictionary.n_features,
            "split": Split.held_out.value,
            "feature_split": self.features.split.value,
        }
        rows = {} if whole.rows is None else {"dictionary": whole.rows}
        if self.references:
            rows |= {f"references.{name}": sums for name, sums in self.references.read.items()}
        if self.baselines:
            figures["baselines"], beside = self._baselines(dictionary, whole)
            rows |= {f"baselines.{name}": sums for name, sums in beside.items()}
        return Measured(figures, tensors, rows)

    def _warn_if_short(self, whole: _Whole, feature_tokens: int) -> None:
        if whole.rows:
            self._text.say_if_short(whole.tokens, whole.rows.documents)
        warn_if_short("features.tokens", self.features.tokens, feature_tokens, f"the {self.features.split.value} text")

    def ablation(self, dictionary: Dictionary, features: Sequence[int]) -> Ablation:
        """What takes these features out, on the held-out text; a `RequestError` where it cannot be done."""
        if not isinstance(self.subject, ModelSubject):
            raise RequestError(f"ablate: features are taken out of a language model; {self.subject.called} has none")
        return Ablation(self.subject.model, self.subject.wires, dictionary, features, self._text)

    @cached_property
    def _text(self) -> HeldOutText:
        assert isinstance(self.subject, ModelSubject)
        return HeldOutText(self.subject.model, self.subject.data, self.subject.model_rows, self.evaluation)

    def _coded(
        self, dictionary: Dictionary, references: References | None = None
    ) -> tuple[_Whole, dict[str, float | int | None], dict[str, Tensor]]:
        """Reconstruction and, where there is a language model, losses, among those of references; then what is said of
        features, on which the code is fitted that bits are counted in."""
        levels = LevelCounts(dictionary.n_features, self._step(dictionary))
        counted, tensors = self._features(dictionary, levels)
        match self.subject:
            case ModelSubject():
                whole = self._splice(self.subject, dictionary, references, levels.results())
            case SyntheticSubject():
                whole = self._reconstruct(self.subject, dictionary, levels.results())
        return whole, {**counted, "bits_step": levels.step}, tensors

    def _step(self, dictionary: Dictionary) -> float:
        """To which activations are rounded before their code is counted; an eighth of the text says it well enough."""
        tried_on = min(TRIED_ON, self.evaluation.tokens // 8 + 1)
        match self.subject:
            case ModelSubject():
                splicer = Splicer(self.subject.model, self.subject.wires, dictionary)
                return neutral_step(splicer, dictionary, self._text.beginning(tried_on))
            case SyntheticSubject():
                x = torch.cat([each.activations for each in take(self.subject.blocks(Split.held_out), tried_on)])
                return neutral_step_of_truth(dictionary, x.to(dictionary.W_dec.device))

    def _splice(
        self,
        subject: ModelSubject,
        dictionary: Dictionary | TokenMeans,
        references: References | None = None,
        book: CodeBook | None = None,
    ) -> _Whole:
        text = self._text
        splicer = Splicer(subject.model, subject.wires, dictionary, subject.null_space, book)
        read = TokensHash()
        for rows in text.rows("losses"):
            splicer.add(rows)
            read.add(rows.tokens.numpy())
        check_losses(splicer.losses, "the model and the dictionary in it")
        figures = {
            **splicer.results(),
            **text.domain_results(splicer.losses),
            **(references.place(text, splicer.losses) if references else {}),
            "tokens": splicer.reconstruction.n,
            "loss_tokens": int(splicer.losses.total[0]),
            "rows": splicer.losses.rows,
            "documents": splicer.losses.pooled.documents,
            "positions": text.positions(),
            "tokens_sha256": read.hexdigest(),
        }
        of_all, inverse_scale = splicer.reconstruction, float(splicer.inverse_scale.results())
        return _Whole(figures, of_all.n, of_all.l0, figures.get("bits", 0.0), inverse_scale, splicer.rows())

    def _reconstruct(self, subject: SyntheticSubject, dictionary: Dictionary, book: CodeBook) -> _Whole:
        reconstruction, of_truth = against_truth(dictionary, subject, self.evaluation.tokens, book)
        figures = {**reconstruction.results(), **of_truth, "tokens": reconstruction.n}
        return _Whole(figures, reconstruction.n, reconstruction.l0, of_truth["bits"] or 0.0)

    @torch.no_grad()
    def _features(
        self, dictionary: Dictionary, levels: LevelCounts
    ) -> tuple[dict[str, float | int | None], dict[str, Tensor]]:
        """Summaries, over features that fired (neurons: over all), and the statistics that they are of."""
        sums, tokens = self._count(dictionary, levels)
        W_dec, alive = dictionary.W_dec.cpu(), sums.count > 0
        by_feature = tokens.results() if tokens else {}
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

    def _count(self, dictionary: Dictionary, levels: LevelCounts) -> tuple[FeatureSums, TokenCounts | None]:
        """Counts and sums of every feature over a stream of activations, in bounded memory."""
        wanted, sums = self.features, FeatureSums.empty(dictionary.n_features)
        vocabulary = self.subject.model.vocab_size if isinstance(self.subject, ModelSubject) else None
        tokens = TokenCounts(dictionary.n_features, vocabulary) if vocabulary else None
        with progress(wanted.tokens, "features") as advance:
            seen = encoded(dictionary, self.training_blocks(), self.subject.columns, advance)
            measure(seen, sums, levels, *([tokens] if tokens else []))
        if not sums.n:
            raise self._no_rows()
        return sums, tokens

    def _no_rows(self) -> JobError:
        assert isinstance(self.subject, ModelSubject), "synthetic activations are without end"
        return build.row_stream(self.subject.data, self.subject.model, self.features.split).too_little()

    def training_blocks(self) -> Iterator[ActivationBlock]:
        """The activations that features are counted on."""
        blocks = self.subject.blocks(self.features.split, self.features.rows_per_document)
        return take(blocks, self.features.tokens)

    def _check_baselines(self) -> None:
        """Refuse what cannot be measured before anything is."""
        of_tokens = [each.value for each in self.baselines if each.tokens]
        if of_tokens and isinstance(self.subject, SyntheticSubject):
            raise RequestError(
                f"baselines={of_tokens[0]}: {self.subject.called} has no tokens that means could be taken over; "
                "expected some of neurons, random, pca, ica"
            )
        bases = {each.basis for each in self.baselines}
        if Baseline.ica.basis in bases:
            check_ica()
        if (
            Baseline.neurons.basis in bases
            and isinstance(self.subject, ModelSubject)
            and self.subject.site.hook.basis is not Basis.neurons
        ):
            raise RequestError(
                f"baselines=neurons: expected hook=mlp_act, whose dimensions are neurons, found "
                f"{self.subject.site.hook.value}; leave neurons out, or use random"
            )

    def _baselines(self, dictionary: Dictionary, whole: _Whole) -> tuple[dict[str, Facts], dict[str, RowSums]]:
        """The figures of each baseline by its name, and its sums by row."""
        beside = replace(self, subject=self.subject.of_what_is_written())
        mean = dictionary.activation_mean.cpu()
        bases = [name for name in self.baselines if not name.tokens]
        sampled = bases or dictionary.normalization  # whose mean activation is in none of its tensors
        x = torch.cat([block.activations for block in take(beside.training_blocks(), SAMPLE)]) if sampled else None
        if x is not None and dictionary.normalization:
            mean = x.mean(dim=0)
        means = beside._token_means(mean, depth) if (depth := max(each.tokens for each in self.baselines)) else None
        fitted = None if x is None else Bases(x, mean, whole.l0)
        found: dict[str, Facts] = {}
        rows: dict[str, RowSums] = {}
        for name in self.baselines:
            console.log(f"baseline: {name.value}")
            if means and name.tokens:
                assert isinstance(self.subject, ModelSubject)
                of_name = self._splice(self.subject, means.of_depth(name.tokens))
                figures = {**of_name.figures}
            else:
                assert fitted is not None
                basis = fitted.at_l0(name.basis).to(dictionary.W_dec.device)
                if name.at_bits:
                    basis = fitted.at_bits(name.basis, whole.bits, beside._step(basis)).to(dictionary.W_dec.device)
                of_name, of_features, _ = beside._coded(basis)
                figures = {**of_name.figures, **of_features}
            if whole.rows and of_name.rows:
                rows[name.value] = of_name.rows
                figures |= recovered_above(whole.rows, of_name.rows)
            of_subject = _OF_BASELINES if isinstance(self.subject, ModelSubject) else _OF_BASELINES_OF_TRUTH
            found[name.value] = {key: figures.get(key) for key in of_subject}
        return found, rows

    def _token_means(self, mean: Float[Tensor, " E"], depth: int) -> TokenMeans:
        """The mean activations of the last tokens, over the training text."""
        assert isinstance(self.subject, ModelSubject)
        asked = (rows.tokens for rows in self._text.rows("tokens"))
        return TokenMeans(depth, asked, self._training_text(self.subject), mean)

    def _training_text(self, subject: ModelSubject) -> Iterator[tuple[Rows, SiteActivations]]:
        """The beginning of the training text with its activations, with a progress bar."""
        with progress(self.baseline_tokens, "means by token") as advance:
            for rows, block in subject.activations_of(subject.training_rows(self.baseline_tokens), Split.train):
                yield torch.from_numpy(rows.tokens), block.activations.unflatten(0, (len(rows.tokens), -1))
                advance(block.n)


def _logit_weights(
    subject: ModelSubject, dictionary: Dictionary, inverse_scale: float
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The shapes of the features' logit weights [F], and all that is kept of them."""
    rows = subject.rows_at_logits(dictionary.W_dec, inverse_scale)
    weights = logit_weights(rows, subject.model.end.logit_space.W)
    shape = {"logit_kurtosis_median": weights.kurtosis.cpu(), "logit_skew_median": weights.skew.cpu()}
    return shape, weights.tensors()


def _median(values: Float[Tensor, " N"]) -> float | None:
    return float(values.float().median()) if len(values) else None
