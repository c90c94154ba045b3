"""Every metric: a merge of two parts is one pass over the whole, to the bit for counts and to rounding for sums."""

import copy
import inspect
import pkgutil
from collections.abc import Mapping
from importlib import import_module

import numpy as np
import pytest
import torch

import sae_cli.metrics
from sae_cli.kernels.codes import Codes
from sae_cli.metrics.ablation import AblationSums, TakenOut
from sae_cli.metrics.code_length import LevelCounts
from sae_cli.metrics.contexts import CodedRows, ContextCollector, ContextShape
from sae_cli.metrics.correlation import CorrelationSums, FiredTogether
from sae_cli.metrics.encoded import Encoded
from sae_cli.metrics.features import FeatureSums
from sae_cli.metrics.language_loss import ALL_PATHS, LossSums, Predictions
from sae_cli.metrics.mapped_error import MappedErrorSums, Replaced
from sae_cli.metrics.mean import Mean
from sae_cli.metrics.reconstruction import MeanError, ReconstructionSums
from sae_cli.metrics.reconstruction_rows import EncodedRows, ReconstructionRows
from sae_cli.metrics.row_sums import RowPlaces, RowSums, SumsOfRows
from sae_cli.metrics.saebench import (
    BenchBatch,
    BenchSums,
    DensitySums,
    EncodedText,
    LastPositions,
    LastPositionSums,
)
from sae_cli.metrics.similarity import Cosines, NearestOf
from sae_cli.metrics.token_counts import TokenCounts
from sae_cli.metrics.truth import EncodedTruth, FiringCounts, Matches
from sae_cli.models.outputs import LogitsOutputs

BATCHES, N, D, F, V, T = 5, 40, 6, 9, 13, 8
EXACT, ROUNDED = 0.0, 1e-12


def draws(seed):
    return torch.Generator().manual_seed(seed)


class Linear:
    """A dictionary without training."""

    def __init__(self, n_outputs=D):
        self.W_enc, self.W_dec = torch.randn(F, D, generator=draws(1)), torch.randn(F, n_outputs, generator=draws(2))

    def encode(self, x):
        return torch.relu(x @ self.W_enc.T - 1)

    def decode(self, f, x):
        return f @ self.W_dec

    def decoder_norms(self):
        return self.W_dec.norm(dim=1)


def encoded(i):
    x = torch.randn(N, D, generator=draws(i)) + 1
    return Encoded(Linear(), x, tokens=torch.randint(V, (N,), generator=draws(i)))


def read_and_written(i):
    """What a dictionary with another space to write to sees."""
    x, target = torch.randn(N, D, generator=draws(i)), torch.randn(N, D + 3, generator=draws(i + 50))
    return Encoded(Linear(D + 3), x, target)


def places(i, n=4):
    return RowPlaces(torch.arange(n) // 2 + 10 * i, torch.arange(n * i, n * (i + 1)))


def sums_of_rows(i):
    return SumsOfRows(torch.rand(4, 3, generator=draws(i)).double(), places(i))


def encoded_rows(i, seen=None):
    """Rows of unequally many positions."""
    row = torch.randint(N // 5, (N,), generator=draws(i + 70)).sort().values
    return EncodedRows((seen or encoded)(i), row, places(i, N // 5))


def bench_batch(i):
    return BenchBatch.of(*encoded_rows(i))


def encoded_text(i):
    seen = encoded_rows(i)
    return EncodedText(seen.encoded, seen.row, N // 5)


def last_positions(i):
    clean, sae = torch.randn(2, 4, V, generator=draws(i))
    return LastPositions(clean, {"sae": sae}, torch.rand(4, generator=draws(i + 80)) < 0.8, places(i))


def book():
    counts = LevelCounts(F, 0.3)
    counts.add(encoded(90))
    return counts.results()


def predictions(i):
    tokens, domains = torch.randint(V, (4, T), generator=draws(i)), torch.randint(i + 1, (4, T), generator=draws(i))
    logits = {name: torch.randn(4, T, V, generator=draws(i + 10 * k)) for k, name in enumerate(("clean", *ALL_PATHS))}
    clean = logits.pop("clean")
    counted = torch.rand(4, T, generator=draws(i + 80)) < 0.8
    replaced = [(name, LogitsOutputs(each)) for name, each in logits.items()]
    return Predictions(tokens, torch.ones_like(tokens), LogitsOutputs(clean), replaced, counted, places(i), domains)


def taken_out(i):
    fires = torch.rand(4, T, generator=draws(i)) < 0.4
    n = int(fires.sum())
    f, higher = torch.rand(n, generator=draws(i)), torch.randn(2, n, V, generator=draws(i))
    return TakenOut(f, higher[0], higher[1], fires[:, :-1], torch.randn(4, T - 1, generator=draws(i)))


def replaced(i):
    there, error = torch.randn(2, 4, T, D, generator=draws(i))
    return Replaced(there + 2, there + 2 + error)


def coded_rows(i):
    rng = np.random.default_rng(i)
    # Largest at the end: bins and borders move; of few values, so that some are equal, in different parts too.
    f = (np.ceil(rng.exponential(size=(4, T - 1, F)) * 4) * 10.0 ** min(i, 2)).astype(np.float32)
    f[rng.random(f.shape) > 0.5] = 0
    tokens, document = (torch.from_numpy(rng.integers(0, V, (4, T))) for _ in range(2))
    return CodedRows(Codes.of_dense(torch.from_numpy(f).flatten(0, 1)), tokens, document)


def contexts(first):
    shape = ContextShape(top=3, bands=3, per_band=2, window=2)
    return ContextCollector(torch.tensor([0, 2, 5, 8]), F, T, 1, shape, seed=0, first_row=4 * first)


def cosines(i):
    # Of few values, so that some are equal.
    return Cosines(torch.randint(-3, 4, (N, F), generator=draws(i)) / 3, first=i * N)


def encoded_truth(i):
    """Tokens whose true features are known."""
    codes = torch.relu(torch.randn(N, F + 2, generator=draws(i)) - 0.5)
    return EncodedTruth(encoded(i), Codes.of_dense(codes), i * N)


def firing_counts(first):
    return FiringCounts.of(Matches.between(Linear().W_dec, torch.randn(F + 2, D, generator=draws(3))))


def fired_together(i):
    f = torch.relu(torch.randn(N, F + 2, generator=draws(i)))
    return FiredTogether(f[:, :F], f[:, 1:])


CASES = {
    ReconstructionSums: [
        (lambda first: ReconstructionSums(torch.ones(D)), encoded, ROUNDED),
        (lambda first: ReconstructionSums(torch.zeros(D + 3)), read_and_written, ROUNDED),
    ],
    MeanError: [(lambda first: MeanError(), encoded, ROUNDED)],
    Mean: [(lambda first: Mean(), lambda i: torch.randn(N, generator=draws(i)), ROUNDED)],
    FeatureSums: [(lambda first: FeatureSums.empty(F), encoded, EXACT)],
    TokenCounts: [(lambda first: TokenCounts(F, V), encoded, EXACT)],
    LossSums: [(lambda first: LossSums(), predictions, ROUNDED)],
    RowSums: [(lambda first: RowSums("abc"), sums_of_rows, ROUNDED)],
    LevelCounts: [(lambda first: LevelCounts(F, 0.3), encoded, EXACT)],
    ReconstructionRows: [
        (lambda first: ReconstructionRows(torch.ones(D)), encoded_rows, ROUNDED),
        (lambda first: ReconstructionRows(torch.ones(D), book()), encoded_rows, ROUNDED),
        (lambda first: ReconstructionRows(torch.zeros(D + 3)), lambda i: encoded_rows(i, read_and_written), ROUNDED),
    ],
    BenchSums: [(lambda first: BenchSums(D), bench_batch, ROUNDED)],
    DensitySums: [(lambda first: DensitySums(F), encoded_text, EXACT)],
    LastPositionSums: [(lambda first: LastPositionSums(("sae",)), last_positions, ROUNDED)],
    MappedErrorSums: [
        (lambda first: MappedErrorSums(), replaced, ROUNDED),
        (lambda first: MappedErrorSums(torch.eye(D).double() * 3), replaced, ROUNDED),
    ],
    AblationSums: [(lambda first: AblationSums(V), taken_out, 1e-6)],  # float32 at the end
    ContextCollector: [(contexts, coded_rows, EXACT)],
    FiringCounts: [(firing_counts, encoded_truth, ROUNDED)],
    NearestOf: [(lambda first: NearestOf(F), cosines, EXACT)],
    CorrelationSums: [(lambda first: CorrelationSums(F, F + 1), fired_together, 1e-4)],  # products are in float32
}
EACH = [pytest.param(*case, id=f"{metric.__name__}-{i}") for metric, of in CASES.items() for i, case in enumerate(of)]


def summed(make, seen, numbers):
    metric = make(numbers[0] if numbers else 0)
    for i in numbers:
        metric.add(seen(i))
    return metric


def flat(found):
    """Results as arrays by name."""
    if isinstance(found, torch.Tensor):
        return {"": found.numpy()}
    if isinstance(found, RowSums):
        order = found.places.number.argsort()
        return {"places": torch.stack(list(found.places))[:, order].numpy(), "sums": found.per_row[order].numpy()}
    named = found if isinstance(found, Mapping) else found._asdict()
    return {name: np.asarray(np.nan if each is None else each, dtype=np.float64) for name, each in named.items()}


def everything(metric):
    """Its results, and whatever else it tells."""
    tensors = metric.tensors() if hasattr(metric, "tensors") else {}
    domains = metric.domain_results() if hasattr(metric, "domain_results") else {}
    parts = {"results": metric.results(), "tensors": tensors, **{f"domain {each}": domains[each] for each in domains}}
    return {f"{part} {name}": each for part, found in parts.items() for name, each in flat(found).items()}


def assert_same(one, other, rtol):
    assert one.keys() == other.keys()
    for name, each in one.items():
        np.testing.assert_allclose(each, other[name], rtol=rtol, atol=rtol, err_msg=name)


@pytest.mark.parametrize("cut", [0, 1, 3, BATCHES])
@pytest.mark.parametrize(("make", "seen", "rtol"), EACH)
def test_a_merge_of_two_parts_is_one_pass(make, seen, rtol, cut):
    numbers = list(range(BATCHES))
    whole = everything(summed(make, seen, numbers))
    one, other = summed(make, seen, numbers[:cut]), summed(make, seen, numbers[cut:])
    before = copy.deepcopy(one), copy.deepcopy(other)
    assert_same(everything(one.merge(other)), whole, rtol)
    assert_same(everything(other.merge(one)), whole, rtol)
    if cut not in (0, BATCHES):  # what has seen nothing has no results
        for part, unchanged in zip((one, other), before, strict=True):
            assert_same(everything(part), everything(unchanged), EXACT)


@pytest.mark.parametrize(("make", "seen", "rtol"), EACH)
def test_what_is_merged_goes_on_adding(make, seen, rtol):
    whole = everything(summed(make, seen, list(range(BATCHES))))
    merged = summed(make, seen, [0, 1]).merge(summed(make, seen, [2, 3]))
    merged.add(seen(4))
    assert_same(everything(merged), whole, rtol)


def test_all_metrics_are_here():
    modules = [import_module(f"sae_cli.metrics.{each.name}") for each in pkgutil.iter_modules(sae_cli.metrics.__path__)]
    classes = {each for module in modules for _, each in inspect.getmembers(module, inspect.isclass)}
    sums = {each for each in classes if each.__module__.startswith("sae_cli.metrics") and hasattr(each, "add")}
    assert {each.__name__ for each in sums} - {"Metric"} == {each.__name__ for each in CASES}
    assert all(hasattr(each, "merge") and hasattr(each, "results") for each in CASES)


def test_a_dictionary_is_asked_once_and_decodes_only_if_someone_asks():
    asked = []

    class Watched(Linear):
        def encode(self, x):
            asked.append("encode")
            return super().encode(x)

        def decode(self, f, x):
            asked.append("decode")
            return super().decode(f, x)

    seen = Encoded(Watched(), torch.randn(N, D), tokens=torch.zeros(N, dtype=torch.int64))
    FeatureSums.empty(F).add(seen)
    TokenCounts(F, V).add(seen)
    assert asked == ["encode"]
    ReconstructionSums(torch.zeros(D)).add(seen)
    MeanError().add(seen)
    assert asked == ["encode", "decode"]


def test_the_mean_error_against_numpy():
    seen = [read_and_written(i) for i in range(3)]
    error = MeanError()
    for each in seen:
        error.add(each)
    expected = np.concatenate([each.target.double().numpy() - each.reconstruction.double().numpy() for each in seen])
    np.testing.assert_allclose(error.results().numpy(), expected.mean(axis=0), atol=1e-7)
