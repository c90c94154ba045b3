"""Losses and their errors against numpy and resampling."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from sae_cli.metrics.language_loss import ALL_PATHS, DIRECT_PATH, LossSums, Predictions
from sae_cli.metrics.report import existing
from sae_cli.metrics.row_sums import LEAST_DOCUMENTS, RowPlaces
from sae_cli.models.outputs import LogitsOutputs

ROWS, T, V, FIRST = 40, 9, 13, 1
DOCUMENT = np.arange(ROWS) * 5 // 7
"""Of each row: one or two rows of a document."""
COUNTED = (torch.arange(T) >= FIRST).expand(ROWS, T)
EVERYWHERE = RowPlaces(torch.from_numpy(DOCUMENT), torch.arange(ROWS))


def predictions(tokens, n_bytes, clean, replaced, *rest):
    """With logits that are there already."""
    conditions = [(name, LogitsOutputs(logits)) for name, logits in replaced]
    return Predictions(tokens, n_bytes, LogitsOutputs(clean), conditions, *rest)


@pytest.fixture
def data():
    g = torch.Generator().manual_seed(0)
    tokens = torch.randint(V, (ROWS, T), generator=g)
    clean = 2 * torch.randn(ROWS, T, V, generator=g)
    # zero ablation hurts most, the reconstruction least; rows differ in how much
    strength = torch.rand(ROWS, 1, 1, generator=g) + 0.5
    noise = {
        c: a * strength * torch.randn(ROWS, T, V, generator=g) for c, a in (("sae", 0.3), ("zero", 3), ("mean", 2))
    }
    clean = clean + 3 * torch.nn.functional.one_hot(tokens.roll(-1, dims=1), V)
    return tokens, torch.randint(1, 6, (ROWS, T), generator=g), clean, {c: clean + noise[c] for c in ALL_PATHS}


def sums_of(data, rows=slice(None), batch=ROWS):
    tokens, n_bytes, clean, replaced = data
    sums = LossSums()
    for index in torch.arange(ROWS)[rows].split(batch):
        conditions = ((name, logits[index]) for name, logits in replaced.items())
        places = EVERYWHERE.select(index)
        sums.add(predictions(tokens[index], n_bytes[index], clean[index], conditions, COUNTED[index], places))
    return sums


def numpy_losses(data):
    """Per-row sums of cross-entropy and KL, in float64, from the definitions."""
    tokens, n_bytes, clean, replaced = data
    targets = tokens.numpy()[:, FIRST + 1 :]

    def log_p(logits):
        z = logits.double().numpy()[:, FIRST:-1]
        return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))

    def ce(lp):
        return -np.take_along_axis(lp, targets[..., None], axis=-1)[..., 0].sum(axis=1)

    p = log_p(clean)
    rows = {
        "tokens": np.full(ROWS, targets.shape[1]),
        "bytes": n_bytes.numpy()[:, FIRST + 1 :].sum(axis=1),
        "ce_clean": ce(p),
    }
    for name, logits in replaced.items():
        q = log_p(logits)
        rows[f"ce_{name}"], rows[f"kl_{name}"] = ce(q), (np.exp(p) * (p - q)).sum(axis=(1, 2))
    return rows


def figures(rows):
    s = {name: values.sum() for name, values in rows.items()}
    n = s["tokens"]
    return {
        **{name: value / n for name, value in s.items() if name.startswith(("ce_", "kl_"))},
        "ce_increase": (s["ce_sae"] - s["ce_clean"]) / n,
        "zero_ablation_effect": (s["ce_zero"] - s["ce_clean"]) / n,
        "mean_ablation_effect": (s["ce_mean"] - s["ce_clean"]) / n,
        "loss_recovered": (s["ce_zero"] - s["ce_sae"]) / (s["ce_zero"] - s["ce_clean"]),
        "loss_recovered_mean": (s["ce_mean"] - s["ce_sae"]) / (s["ce_mean"] - s["ce_clean"]),
        "bits_per_byte_clean": s["ce_clean"] / s["bytes"] / math.log(2),
        "bits_per_byte_sae": s["ce_sae"] / s["bytes"] / math.log(2),
    }


def test_values_against_numpy(data):
    found = sums_of(data).results()
    for name, expected in figures(numpy_losses(data)).items():
        assert found[name] == pytest.approx(expected, rel=1e-5), name


def test_errors_against_the_jackknife(data):
    """The jackknife over documents is another route to the same standard error, without derivatives."""
    rows, found = numpy_losses(data), sums_of(data).results()
    for name in figures(rows):
        se = jackknife(rows, DOCUMENT, name)
        assert found[f"{name}_se"] == pytest.approx(se, rel=0.1), name
        half = scipy.stats.t.ppf(0.975, len(set(DOCUMENT)) - 1) * existing(found, f"{name}_se")
        assert found[f"{name}_low"] == pytest.approx(existing(found, name) - half)
        assert found[f"{name}_high"] == pytest.approx(existing(found, name) + half)


def jackknife(rows, document, name):
    """The standard error of a figure, by leaving each document out."""
    ids = np.unique(document)
    left_out = [figures({k: v[document != each] for k, v in rows.items()})[name] for each in ids]
    return math.sqrt((len(ids) - 1) / len(ids) * ((np.array(left_out) - np.mean(left_out)) ** 2).sum())


def test_below_eight_documents_there_is_no_error(data):
    few, enough = (int((n > DOCUMENT).sum()) for n in (LEAST_DOCUMENTS - 1, LEAST_DOCUMENTS))
    assert sums_of(data, slice(0, enough)).results()["ce_increase_se"] is not None
    few = sums_of(data, slice(0, few)).results()
    assert few["ce_increase"] is not None
    assert all(few[f"ce_increase{part}"] is None for part in ("_se", "_low", "_high"))


@pytest.mark.parametrize("batch", [1, 7, 40])
def test_batches_and_ranks_give_the_same_numbers(data, batch):
    whole = sums_of(data).results()
    split = sums_of(data, slice(0, 15), batch).merge(sums_of(data, slice(15, None), batch)).results()
    assert split == pytest.approx(whole, rel=1e-9)


def test_identity_and_zero(data):
    tokens, n_bytes, clean, replaced = data
    identity = sums_of((tokens, n_bytes, clean, replaced | {"sae": clean})).results()
    assert identity["loss_recovered"] == 1 and identity["loss_recovered_se"] == 0
    assert identity["kl_sae"] == 0 and identity["ce_increase"] == 0
    as_zero = sums_of((tokens, n_bytes, clean, replaced | {"sae": replaced["zero"]})).results()
    assert as_zero["loss_recovered"] == 0
    as_mean = sums_of((tokens, n_bytes, clean, replaced | {"sae": replaced["mean"]})).results()
    assert as_mean["loss_recovered_mean"] == 0


def test_first_position_and_last_prediction_do_not_count(data):
    tokens, n_bytes, clean, replaced = data
    spoilt = {name: logits.clone() for name, logits in replaced.items()}
    for logits in spoilt.values():
        logits[:, 0] = 99 * torch.randn(V, generator=torch.Generator().manual_seed(1))
        logits[:, -1] = 99
    assert sums_of((tokens, n_bytes, clean, spoilt)).results() == sums_of(data).results()


def test_extreme_logits_stay_finite(data):
    tokens, n_bytes, clean, replaced = data
    found = sums_of(
        (tokens, n_bytes, clean * 1e3, {name: -logits * 1e3 for name, logits in replaced.items()})
    ).results()
    assert all(value is not None and math.isfinite(value) for value in found.values())
    assert existing(found, "kl_sae") > 100


def test_no_effect_means_no_ratio(data):
    tokens, n_bytes, clean, _ = data
    found = sums_of((tokens, n_bytes, clean, dict.fromkeys(ALL_PATHS, clean))).results()
    assert found["loss_recovered"] is None and found["loss_recovered_se"] is None


def test_direct_path_figures_are_those_of_its_own_conditions(data):
    tokens, n_bytes, clean, replaced = data
    sums = LossSums((*ALL_PATHS, *DIRECT_PATH))
    direct = {f"{name}_direct": logits for name, logits in replaced.items()}
    sums.add(predictions(tokens, n_bytes, clean, (replaced | direct).items(), COUNTED, EVERYWHERE))
    found = sums.results()
    assert found["loss_recovered_direct"] == found["loss_recovered"]
    assert found["loss_recovered_mean_direct_se"] == found["loss_recovered_mean_se"]
    assert found["kl_sae_direct"] == found["kl_sae"]
    for name in ("ce_increase", "zero_ablation_effect", "mean_ablation_effect", "bits_per_byte_sae"):
        assert found[f"{name}_direct"] == found[name] and found[f"{name}_direct_se"] == found[f"{name}_se"]


def test_only_the_direct_path_leaves_out_the_figures_of_all_paths(data):
    tokens, n_bytes, clean, replaced = data
    sums = LossSums(DIRECT_PATH)
    direct = ((f"{n}_direct", x) for n, x in replaced.items())
    sums.add(predictions(tokens, n_bytes, clean, direct, COUNTED, EVERYWHERE))
    found, both = sums.results(), sums_of(data).results()
    assert found["loss_recovered_direct"] == both["loss_recovered"]
    assert found["ce_clean"] == both["ce_clean"]
    assert not {"ce_sae", "ce_increase", "loss_recovered", "kl_sae", "bits_per_byte_sae"} & set(found)


def test_without_conditions_it_is_the_model_alone(data):
    tokens, n_bytes, clean, _ = data
    sums = LossSums(())
    sums.add(predictions(tokens, n_bytes, clean, (), COUNTED, EVERYWHERE))
    assert set(sums.results()) == {
        f"{n}{e}" for n in ("ce_clean", "bits_per_byte_clean") for e in ("", "_se", "_low", "_high")
    }
    assert sums.results()["ce_clean"] == sums_of(data).results()["ce_clean"]


def domains_of(tokens):
    """Runs of three domains that begin anywhere in the flat text."""
    borders = torch.tensor([0, 7, 30, 31, 90, 100, 200])
    numbers = torch.searchsorted(borders, torch.arange(tokens.numel()), right=True) % 3
    return numbers.view_as(tokens)


def with_domains(data, rows=slice(None), batch=ROWS):
    tokens, n_bytes, clean, replaced = data
    sums, domains = LossSums(), domains_of(tokens)
    for index in torch.arange(ROWS)[rows].split(batch):
        conditions = ((name, logits[index]) for name, logits in replaced.items())
        sums.add(
            predictions(
                tokens[index],
                n_bytes[index],
                clean[index],
                conditions,
                COUNTED[index],
                EVERYWHERE.select(index),
                domains[index],
            )
        )
    return sums


def test_positions_that_are_not_counted_are_as_if_they_were_not_there(data):
    tokens, n_bytes, clean, replaced = data
    counted = (torch.rand(ROWS, T, generator=torch.Generator().manual_seed(5)) < 0.6) & COUNTED
    sums, domains = LossSums(), domains_of(tokens)
    broken = {name: logits.masked_fill(~counted[..., None], math.nan) for name, logits in replaced.items()}
    sums.add(predictions(tokens, n_bytes, clean, broken.items(), counted, EVERYWHERE, domains))
    read = counted[:, :-1].numpy()
    log_p = {name: logits.double().log_softmax(-1).numpy()[:, :-1] for name, logits in (replaced | {"": clean}).items()}
    target = tokens.numpy()[:, 1:, None]
    ce = {name: -np.take_along_axis(each, target, axis=-1)[..., 0] for name, each in log_p.items()}
    kl = (np.exp(log_p[""]) * (log_p[""] - log_p["sae"])).sum(axis=-1)
    found = sums.results()
    assert sums.total[:2].tolist() == [read.sum(), n_bytes.numpy()[:, 1:][read].sum()]
    assert found["ce_increase"] == pytest.approx((ce["sae"] - ce[""])[read].mean(), rel=1e-5)
    assert found["kl_sae"] == pytest.approx(kl[read].mean(), rel=1e-5)
    for number, figures in sums.domain_results().items():
        of_domain = read & (domains.numpy()[:, 1:] == number)
        assert figures["tokens"] == of_domain.sum()
        assert figures["ce_increase"] == pytest.approx((ce["sae"] - ce[""])[of_domain].mean(), rel=1e-5)


def test_domains_pool_to_the_total(data):
    sums = with_domains(data)
    pooled = torch.stack([each.total for each in sums.by_domain.values()]).sum(dim=0)
    assert pooled[:2].tolist() == sums.total[:2].tolist()
    torch.testing.assert_close(pooled, sums.total, rtol=1e-13, atol=0)
    assert sums.results() == sums_of(data).results()


def test_a_domains_losses_are_those_of_predicting_its_tokens(data):
    tokens, n_bytes, clean, replaced = data
    domains, found = domains_of(tokens), with_domains(data).domain_results()
    log_p = {name: logits.double().log_softmax(-1) for name, logits in (replaced | {"clean": clean}).items()}
    for domain, figures_of_it in found.items():
        places = [(r, t) for r in range(ROWS) for t in range(FIRST + 1, T) if domains[r, t] == domain]
        ce = {n: -sum(p[r, t - 1, tokens[r, t]].item() for r, t in places) / len(places) for n, p in log_p.items()}
        assert figures_of_it["tokens"] == len(places)
        assert figures_of_it["rows"] == len({r for r, _ in places})
        lengths = sum(int(n_bytes[r, t]) for r, t in places)
        assert figures_of_it["bytes_per_token"] == pytest.approx(lengths / len(places))
        for name in ("clean", "sae", "zero"):
            assert figures_of_it[f"ce_{name}"] == pytest.approx(ce[name], rel=1e-6)
        assert figures_of_it["ce_increase"] == pytest.approx(ce["sae"] - ce["clean"], rel=1e-4)
        recovered = (ce["zero"] - ce["sae"]) / (ce["zero"] - ce["clean"])
        assert figures_of_it["loss_recovered"] == pytest.approx(recovered, rel=1e-5)
    sizes = [existing(each, "tokens") for each in found.values()]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) == 3


def test_errors_of_a_domain_against_the_jackknife(data):
    sums = with_domains(data).by_domain[1]
    rows = {name: sums.column(name).numpy() for name in sums.columns}
    found = with_domains(data).domain_results()[1]
    document = sums.places.document.numpy()
    assert found["documents"] == len(set(document))
    for name in ("ce_sae", "ce_increase"):
        assert found[f"{name}_se"] == pytest.approx(jackknife(rows, document, name), rel=0.15), name


@pytest.mark.parametrize("batch", [1, 7])
def test_batches_and_ranks_give_the_same_domains(data, batch):
    whole = with_domains(data).domain_results()
    split = with_domains(data, slice(0, 15), batch).merge(with_domains(data, slice(15, None), batch)).domain_results()
    assert list(split) == list(whole)
    for domain, figures_of_it in whole.items():
        for name, value in figures_of_it.items():
            assert split[domain][name] == (value if value is None else pytest.approx(value, rel=1e-9)), name


@pytest.mark.parametrize("effect", ["harmless", "noise"])
def test_no_share_of_an_effect_that_does_not_raise_the_loss(data, effect):
    """Zero ablation that lowers the loss, or changes it by less than twice its error: a ratio would be 1.09."""
    tokens, n_bytes, clean, replaced = data
    target = torch.nn.functional.one_hot(tokens.roll(-1, dims=1), V)
    helped = clean + (
        0.5 * target
        if effect == "harmless"
        else 1e-3 * torch.randn(ROWS, T, V, generator=torch.Generator().manual_seed(4))
    )
    both = LossSums((*ALL_PATHS, *DIRECT_PATH))
    conditions = replaced | {"zero": helped}
    conditions |= {f"{name}_direct": logits for name, logits in conditions.items()}
    both.add(predictions(tokens, n_bytes, clean, conditions.items(), COUNTED, EVERYWHERE, torch.zeros_like(tokens)))
    expected = figures(numpy_losses((tokens, n_bytes, clean, replaced | {"zero": helped})))
    for found in (both.results(), both.domain_results()[0]):
        assert found["zero_ablation_effect"] == pytest.approx(expected["zero_ablation_effect"], abs=1e-6)
        assert existing(found, "zero_ablation_effect") < 2 * existing(found, "zero_ablation_effect_se")
        for name in ("loss_recovered", "loss_recovered_direct"):
            assert found[name] is None and found[f"{name}_se"] is None
        assert found["ce_increase"] == pytest.approx(expected["ce_increase"], rel=1e-5)
    assert both.results()["loss_recovered_mean"] == pytest.approx(expected["loss_recovered_mean"], rel=1e-5)


@pytest.mark.parametrize("shift", [-500.0, -95.0, 0.0, 95.0, 500.0])
def test_logits_far_from_those_of_the_clean_run(data, shift):
    """A softmax does not know a constant; one that float32 cannot exponentiate must not be felt."""
    tokens, n_bytes, clean, replaced = data
    moved = {name: logits + shift for name, logits in replaced.items()}
    found, expected = sums_of((tokens, n_bytes, clean, moved)).results(), sums_of(data).results()
    for name in ("ce_sae", "kl_sae", "ce_zero", "kl_zero"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5, abs=abs(shift) * 2**-23)
