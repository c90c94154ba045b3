"""Every hook point says what its dimensions are, and nobody takes an unknown one for the residual stream."""

import pytest

from sae_cli.config.data import SyntheticData
from sae_cli.config.hook import Basis, HookConfig, HookPoint, ModuleHook, Side, SiteConfig
from sae_cli.config.model import ModelConfig
from sae_cli.dictionaries.card import Card, Wiring
from sae_cli.models import load_language_model
from sae_cli.models.hooks import Site, find_tap
from sae_cli.models.targets import LogitsTarget, LogitUpdateTarget, MlpActTarget, TappedTarget, Target, make_target
from tests.known import present

EXPECTED = {
    "mlp_act": (Basis.neurons, MlpActTarget, "mlp_act.2"),
    "mlp_out": (Basis.residual, TappedTarget, "the residual stream"),
    "attn_out": (Basis.residual, TappedTarget, "the residual stream"),
    "resid": (Basis.residual, TappedTarget, "the residual stream"),
    "logit_update": (Basis.logits, LogitUpdateTarget, "the logits of m"),
    "logits": (Basis.logits, LogitsTarget, "the logits of m"),
}
NAMED = [hook for hook in HookPoint if hook is not HookPoint.module]
PATH = "gpt_neox.layers.2.mlp.dense_4h_to_h"


@pytest.fixture(scope="module")
def model():
    return load_language_model("embedded:demo-xs")


@pytest.fixture
def unknown():
    """A hook point that somebody adds, and tells nobody of."""
    hook = object.__new__(HookPoint)
    hook._name_ = hook._value_ = "expert_out"
    return hook


def basis_of(hook, data=None, **model):
    wiring = Wiring.at(SiteConfig(HookConfig(point=hook), 2))
    return Card(model=ModelConfig(path="m", **model), wiring=wiring, data=data).basis


def test_a_module_is_a_space_of_its_own(model):
    hook = ModuleHook(point=HookPoint.module, path=PATH, side=Side.input)
    site = SiteConfig.of(hook, 2)
    assert site.layer is None and site.label == f"{PATH}.input" == hook.label()
    assert Card(model=ModelConfig(path="m"), wiring=Wiring.at(site)).basis == f"{PATH}.input"
    target = model.target(Site.of_module(PATH, Side.input))
    assert HookPoint.module.basis is Basis.module and type(target) is Target
    assert model.width(target.site) == model.d_mlp


def test_a_module_takes_a_path():
    with pytest.raises(ValueError, match=r"hook\.path= is empty"):
        ModuleHook(point=HookPoint.module, path="")
    with pytest.raises(ValueError, match=r"give hook=module hook\.path="):
        HookConfig(point=HookPoint.module)


def test_the_card_of_a_module_comes_back():
    hook = ModuleHook(point=HookPoint.module, path=PATH, side=Side.input)
    card = Card(model=ModelConfig(path="m"), wiring=Wiring.at(SiteConfig.of(hook, 0)))
    header = card.header()
    assert (header["hook"], header["path"], header["side"]) == ("module", PATH, "input") and "layer" not in header
    assert present(Card.of_header(header)).site == card.site


@pytest.mark.parametrize("hook", NAMED)
def test_every_hook_point_has_a_basis_a_target_and_a_width(model, hook):
    basis, target, shown = EXPECTED[hook.value]
    assert hook.basis is basis
    assert type(make_target(model.end, Site(hook, 1))) is target
    assert model.width(Site(hook, 1)) == (model.d_mlp if basis is Basis.neurons else model.d_model)
    assert basis_of(hook) == shown


def test_an_unknown_hook_point_is_in_no_space(model, unknown):
    expected = "hook=expert_out: expected .*found none"
    with pytest.raises(AssertionError, match=expected):
        basis_of(unknown)
    with pytest.raises(AssertionError, match=expected):
        model.width(Site(unknown, 1))
    with pytest.raises(AssertionError, match=expected):
        make_target(model.end, Site(unknown, 1))
    with pytest.raises(AssertionError, match=expected):
        find_tap(model.parts, Site(unknown, 1))


def test_the_logits_of_a_checkpoint_are_not_those_of_the_model():
    assert basis_of(HookPoint.logits, revision="step1000") == "the logits of m@step1000"


def test_two_known_truths_are_two_bases():
    one, other = (basis_of(HookPoint.mlp_out, SyntheticData(seed=seed)) for seed in (0, 1))
    assert one != other
    assert one == basis_of(HookPoint.resid, SyntheticData(seed=0))
