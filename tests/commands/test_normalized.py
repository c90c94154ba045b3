"""A dictionary that normalizes every token goes through all commands as its equation says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import sae_cli
from sae_cli.build import row_stream
from sae_cli.config.hook import HookPoint, SiteConfig
from sae_cli.config.split import Split
from sae_cli.dictionaries.card import Card, Wiring
from sae_cli.dictionaries.normalization import Normalization
from sae_cli.dictionaries.topk import TopKDictionary
from sae_cli.evaluation.ablation import Ablation
from sae_cli.evaluation.source_check import disagreement
from sae_cli.models import Site, Wires, load_language_model
from sae_cli.runs.dictionary_run import read_dictionary_run, save
from sae_cli.runs.formats.format import Claim
from tests.known import document_of

D, F, K = 16, 40, 4
SMALL = ["device=cpu", "model_rows=4"]
FIRST = ["eval.tokens=1000", "eval.sample=first", "features.tokens=1500"]
MLP = "gpt_neox.layers.1.mlp"


def dictionary_of(normalization):
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(F, D, generator=generator), dim=1)
    b_dec = torch.randn(D, generator=generator) * 0.1
    biases = {"b_enc": torch.randn(F, generator=generator) * 0.2, "b_dec": b_dec, "activation_mean": torch.zeros(D)}
    return TopKDictionary({"W_enc": rows, "W_dec": rows * 1.3, "k": torch.tensor([float(K)]), **biases}, normalization)


def code_and_output(dictionary, x):
    """By its definition, in float64, from its tensors."""
    x, tensors = x.double(), {name: each.double() for name, each in dictionary.tensors().items()}
    if dictionary.normalization is Normalization.layer_norm:
        mean = x.sum(dim=-1, keepdim=True) / D
        back = ((x - mean).square().sum(dim=-1, keepdim=True) / (D - 1)).sqrt()
        z = (x - mean) / (back + 1e-5)
    else:
        mean, back = 0.0, (x.square().sum(dim=-1, keepdim=True) / D).sqrt()
        z = x / back
    pre = ((z - tensors["b_dec"]) @ tensors["W_enc"].T + tensors["b_enc"]).clamp_min(0)
    f = pre * (pre >= pre.sort(dim=-1, descending=True).values[..., K - 1 : K])
    return f, (f @ tensors["W_dec"] + tensors["b_dec"]) * back + mean, back


@pytest.fixture(scope="module", params=list(Normalization), ids=lambda each: each.value)
def installed(request, world, tmp_path_factory):
    """A run that holds such a dictionary."""
    dictionary, folder = dictionary_of(request.param), tmp_path_factory.mktemp("normalized")
    save(folder / "run", dictionary, _card_of(world))
    return folder / "run", dictionary


def _card_of(world, layer=1):
    config = world.train(Path("unused"))
    return Card(model=config.model, wiring=Wiring.at(SiteConfig.of(config.hook, layer)), data=config.data)


def held_out_rows(world, model):
    stream = row_stream(world.train("").data, model, Split.held_out)
    return torch.cat([torch.from_numpy(block.tokens) for block in stream.one_epoch(4)])[: -(-1000 // 31)]


def test_figures_against_the_model_spliced_by_hand(installed, world, sae):
    run, dictionary = installed
    report = sae("eval", run, *SMALL, *FIRST, "baselines=[pca,token]", "--json").document["eval"]
    model = load_language_model(str(world.model))
    rows, seen = held_out_rows(world, model), {}

    def hook(module, args, output):
        seen["x"] = output[:, 1:]
        return torch.cat([output[:, :1], code_and_output(dictionary, output[:, 1:])[1].float()], dim=1)

    handle = model.hf.get_submodule(MLP).register_forward_hook(hook)
    with torch.no_grad():
        logits = model.hf(rows).logits.double()
    handle.remove()
    losses = torch.nn.functional.cross_entropy(logits[:, 1:-1].flatten(0, 1), rows[:, 2:].flatten())
    x = seen["x"].flatten(0, 1)
    f, y, _ = code_and_output(dictionary, x)
    assert report["ce_sae"] == pytest.approx(losses.item(), rel=1e-5)
    assert report["l0"] == pytest.approx(float((f > 0).sum()) / len(x), rel=1e-6)
    fvu = (x.double() - y).square().sum() / (x.double() - x.double().mean(dim=0)).square().sum()
    assert report["fvu"] == pytest.approx(float(fvu), rel=1e-5)
    # A basis has the mean of the activations to begin with, which is in no tensor of such a dictionary.
    assert report["baselines"]["pca"]["fvu"] < 1 and report["baselines"]["token"]["fvu"] < 1


def test_a_feature_taken_out_is_taken_out_in_the_units_of_its_token(installed, world):
    _, dictionary = installed
    model = load_language_model(str(world.model))
    tokens = torch.randint(0, 200, (8, 24), generator=torch.Generator().manual_seed(3))
    logits, feature, held = [], 7, {}
    for on in (0.0, 1.0):

        def hook(module, args, output, on=on):
            f, _, back = code_and_output(dictionary, output)
            held["f"] = f = f[..., feature].clone()
            f[:, 0] = 0
            return output - (on * f[..., None] * back * dictionary.W_dec[feature].double()).float()

        handle = model.hf.get_submodule(MLP).register_forward_hook(hook)
        with torch.no_grad():
            logits.append(model.hf(tokens).logits.double())
        handle.remove()
    ablation = Ablation(model, Wires.at(Site(HookPoint.mlp_out, 1)), dictionary, [feature], None)  # pyright: ignore
    ablation.add(tokens, (torch.arange(tokens.shape[1]) > 0).expand_as(tokens))
    change = (logits[0] - logits[1])[held["f"] > 0].mean(dim=0)
    found = ablation.tensors()["logit_effect"][0].double()
    assert int((held["f"] > 0).sum()) > 1
    torch.testing.assert_close(found, change - change.mean(), atol=1e-5, rtol=1e-4)


def test_every_command_takes_it(installed, world, sae, tmp_path):
    run, dictionary = installed
    here = [*SMALL, f"runs_dir={tmp_path}"]
    small = ["eval.tokens=500", "features.tokens=500"]
    sae("features", run, "only=[0,1]", "ablate=[0]", "contexts.tokens=300", *SMALL, f"out={tmp_path / 'sheets'}")
    sae("prune-high-freq", run, "top_n=3", *here, *small, "name=pruned")
    pruned = sae_cli.load(tmp_path / "pruned")
    assert pruned.n_features == F - 3 and pruned.normalization is dictionary.normalization
    sae("compare", f"a={run}", f"b=[{tmp_path / 'pruned'}]", *here, "name=compared")
    sae("compare", f"a={run}", f"b=[{tmp_path / 'pruned'}]", "by=activations", *here, *small, "name=alike")
    other = tmp_path / "other"
    save(other, dictionary, _card_of(world, layer=0))
    sae("eval", f"run=[{run},{other}]", *here, "eval.tokens=500")
    sae("report", tmp_path / "pruned", "--out", tmp_path / "report.html")
    assert dictionary.normalization.value in (tmp_path / "report.html").read_text()
    said = sae("prune-high-freq", run, "top_n=3", "recenter=true", *here, *small, "name=recentered", code=2).err
    assert f"scaled back for each token ({dictionary.normalization.value})" in said
    assert not (tmp_path / "recentered").exists()


def test_to_saelens_and_back(installed, world, sae, tmp_path):
    run, dictionary = installed
    sae("export", run, "to=saelens", "name=out", f"runs_dir={tmp_path}")
    config = json.loads((tmp_path / "out" / "cfg.json").read_text())
    names = {"layer_norm": "layer_norm", "rms_norm": "constant_norm_rescale"}
    assert config["normalize_activations"] == names[dictionary.normalization.value]
    asked = ["model=hf", f"model.path={world.model}", "data=text", f"data.path={world.text}", "data.context=32"]
    ended = sae("import", tmp_path / "out", *asked, "check=false", "name=back", f"runs_dir={tmp_path}", "--json")
    assert "own" in ended.document["source"]["normalization"]
    back = sae_cli.load(tmp_path / "back")
    assert back.normalization is dictionary.normalization
    assert all(torch.equal(each, back.tensors()[name]) for name, each in dictionary.tensors().items())
    assert sae_cli.card(tmp_path / "back").provenance["normalization"] == dictionary.normalization.value


def test_a_dictionary_that_should_not_normalize_is_named(world, sae, tmp_path):
    """Weights that were trained without it, in a file that says that tokens are normalized."""
    from sae_cli.commands import train
    from sae_cli.config.sae import TopKSae

    document_of(train.run(world.train(tmp_path, sae=TopKSae(), k=4, dict_size=64), tmp_path / "trained"))
    sae("export", tmp_path / "trained", "to=saelens", "name=out", f"runs_dir={tmp_path}")
    path = tmp_path / "out" / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalize_activations": "layer_norm"}))
    small = ["eval.tokens=1000", "features.tokens=1000"]
    plain = sae("eval", tmp_path / "trained", *small, *SMALL, "--json").document["eval"]["fvu"]
    asked = ["model=hf", f"model.path={world.model}", "data=text", f"data.path={world.text}", "data.context=32"]
    sae(
        "import",
        tmp_path / "out",
        *asked,
        "data.held_out_fraction=.2",
        "check=false",
        "name=in",
        f"runs_dir={tmp_path}",
    )
    found = sae("eval", tmp_path / "in", *small, *SMALL, "--json").document["eval"]
    claims = [Claim("fvu", plain, "eval_results.json")]
    source, dictionary = read_dictionary_run(tmp_path / "in"), sae_cli.load(tmp_path / "in")
    said = disagreement(source, dictionary, claims, {"fvu": found["fvu"]}, "cpu", 4)
    assert said and "likely cause: activations are not to be normalized (layer_norm)" in said
