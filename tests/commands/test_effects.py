"""Every setting of every command changes something, or is refused where it is asked for.

Which settings a job looks at is found out by letting it run, small, and noting every field of its configuration that
the code of the package reads: a setting that none of it reads has no effect.
"""

import dataclasses
import importlib
import pkgutil
import sys
from pathlib import Path

import pytest

import sae_cli.config
from sae_cli.cli.plan import make_plan
from sae_cli.cli.request import Request
from sae_cli.config.commands.export import ExportConfig
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.settings import flatten, result_settings
from sae_cli.errors import RequestError
from sae_cli.models.sources import model_source
from tests.known import the

PACKAGE = Path(sae_cli.config.__file__).parents[1]
# Where a run lies and what it is called, and how files are looked at: no figure comes from these.
PLACES = {"name", "runs_dir", "overwrite", "verify", "model.name", "tracker", "run", "a", "b", "save"}
HOW = {"device", "model_rows"}  # of what runs no model
LATER = {"train.held_out_every"}  # looked at by trainings of more steps than these

SMALL_TRAIN = {
    "model": "hf", "model.path": "{model}", "data.context": 32, "layer": 1, "dict_size": 48, "tokens": 512,
    "train.batch_size": 128, "train.shuffle_buffer": 256, "train.held_out_tokens": 64, "device": "cpu", "model_rows": 4,
}  # fmt: skip
TRUTH = {key: value for key, value in SMALL_TRAIN.items() if not key.startswith(("model", "data", "layer"))}
TEXT = {"data": "text", "data.path": "{text}", "data.held_out_fraction": 0.2}
MODULE = {"hook": "module", "hook.path": "gpt_neox.layers.1.mlp"}
KINDS = {
    "relu": SMALL_TRAIN | TEXT,
    "gated": SMALL_TRAIN | TEXT | {"sae": "gated"},
    "topk": SMALL_TRAIN | TEXT | {"sae": "topk", "k": 4},
    "batch_topk": SMALL_TRAIN | TEXT | {"sae": "batch_topk", "k": 4},
    "matryoshka": SMALL_TRAIN | TEXT | {"sae": "matryoshka", "k": 4, "sae.fractions": "[.25,.75]"},
    "jump_relu": SMALL_TRAIN | TEXT | {"sae": "jump_relu", "k": 4},
    "jump_relu with tanh": SMALL_TRAIN | TEXT | {"sae": "jump_relu", "sae.penalty": "tanh"},
    "logits": {k: v for k, v in (SMALL_TRAIN | TEXT | {"hook": "logits"}).items() if k != "layer"},
    "logit_update": SMALL_TRAIN | TEXT | {"hook": "logit_update"},
    "module": {k: v for k, v in (SMALL_TRAIN | TEXT | MODULE).items() if k != "layer"},
    "stdlib": SMALL_TRAIN | {"data": "stdlib", "data.exclude": "[*/*]"},
    "synthetic": TRUTH | {"data": "synthetic", "data.d": 16},
    "synthsaebench": TRUTH | {"data": "synthsaebench256"},
    "synthsaebench without trees": TRUTH | {"data": "synthsaebench256", "data.roots": 0},
    "compositional": TRUTH | {"data": "compositional"},
}


def overrides(settings, **places):
    return [f"{key}={value}".format(**places) for key, value in settings.items()]


def planned(command, arguments):
    return make_plan(Request(command=command, overrides=arguments)).jobs[0]


@pytest.fixture
def read(monkeypatch):
    """The fields that the package outside of its configuration reads, as (id of the holder, name)."""
    found = set()

    def noting(self, name):
        reader = sys._getframe(1)
        while reader.f_code.co_name in TOLD and reader.f_back:
            reader = reader.f_back
        file = reader.f_code.co_filename
        if file.startswith(str(PACKAGE)) and not file.startswith(str(PACKAGE / "config")):
            found.add((id(self), name))
        return object.__getattribute__(self, name)

    for module in pkgutil.iter_modules(sae_cli.config.__path__):
        for kind in vars(importlib.import_module(f"sae_cli.config.{module.name}")).values():
            if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__name__.endswith(SCHEMAS):
                monkeypatch.setattr(kind, "__getattribute__", noting)
    return found


SCHEMAS = ("Config", "Data", "Sae", "Hook")
TOLD = ("penalty_rise", "final_fit", "asked", "file", "pair", "called")
"""Methods of schemas that hand a setting on: who calls them reads it."""


def unread(config, read, prefix=""):
    for field in dataclasses.fields(config):
        value = object.__getattribute__(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from unread(value, read, f"{prefix}{field.name}.")
        elif (id(config), field.name) not in read:
            yield f"{prefix}{field.name}"


def another(key, value):
    """A value of the same type; None where there is none to be made."""
    field_values = {"sae.architecture": "gated" if value == "topk" else "topk", "train.forbid_below": 0.5}
    if key in field_values:
        return field_values[key]
    if isinstance(value, bool):
        return str(not value).lower()
    if isinstance(value, float):
        return value / 2 or 0.5
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list):
        return "[x]"
    return {"model.dtype": "bfloat16", "activations": "x", "model.revision": "step0"}.get(key, "x")


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_training_does_not_look_at_is_refused(kind, world, tmp_path, read):
    from sae_cli.commands import train

    arguments = [*overrides(KINDS[kind], model=world.model, text=world.text), f"runs_dir={tmp_path}"]
    job = planned("train", arguments)
    train.run(the(TrainConfig, job.config), job.place[0])
    idle = set(unread(job.config, read)) - PLACES - HOW - LATER
    assert "dict_size" not in idle and "train.lr" not in idle and "data.seed" not in idle
    given, values = {each.partition("=")[0] for each in arguments}, flatten(job.config)
    assert not idle & given
    for key in sorted(idle):
        with pytest.raises(RequestError, match=r"has no effect|has no revisions"):
            planned("train", [*arguments, f"{key}={another(key, values[key])}"])


@pytest.mark.parametrize(
    "command",
    [
        "harvest",
        "eval",
        "features",
        "bench",
        "probe",
        "prune-high-freq",
        "compare",
        "export",
        "export delphi",
        "import",
    ],
)
def test_what_other_commands_do_not_look_at_is_refused(command, world, tmp_path, read):
    from sae_cli.commands import export, train

    command, _, to = command.partition(" ")
    stage = importlib.import_module(
        {"prune-high-freq": "sae_cli.commands.prune_high_freq", "import": "sae_cli.commands.import_"}.get(command)
        or f"sae_cli.commands.{command}"
    )
    small = ["eval.tokens=100", "features.tokens=100", "device=cpu", "model_rows=4"]
    if command == "harvest":
        settings = {k: v for k, v in (SMALL_TRAIN | TEXT).items() if not k.startswith("train") and k != "dict_size"}
        arguments = overrides(settings, model=world.model, text=world.text)
    else:
        train.run(world.train(tmp_path, tokens=512, dict_size=8), run := tmp_path / "run")
        train.run(world.train(tmp_path, tokens=512, dict_size=8, seed=1), other := tmp_path / "other")
        own = {
            "prune-high-freq": [f"run={run}", "top_n=1"],
            "compare": [f"a={run}", f"b={other}"],
            "export": [f"run={run}", f"to={to or 'saelens'}"],
            "import": [f"source={tmp_path / 'out'}", *overrides(TEXT, text=world.text), "data.context=32"],
            "features": [f"run={run}", "contexts.tokens=100"],
            "bench": [f"run={run}", "context=32", "batch_rows=2"],
            "probe": [f"run={run}", *PROBED],
        }
        if command == "import":
            export.run(ExportConfig(run=str(run), to="saelens"), tmp_path / "out")
        if command == "probe":
            small = ["device=cpu", "model_rows=4"]
        if command == "bench":
            small.remove("features.tokens=100")
        if command == "export":
            small = ["features.tokens=100", "device=cpu", "model_rows=4"] if to else []
        arguments = [*own.get(command, [f"run={run}"]), *small]
    job = planned(command, [*arguments, f"runs_dir={tmp_path}"])
    read.clear()
    stage.run(job.config, *job.place)
    idle = set(unread(job.config, read)) - PLACES - (HOW if command == "export" and not to else set())
    if command == "import":  # its text goes into the card, and is read from there
        idle = {key for key in idle if not key.startswith(("data.", "model.", "hook."))}
    for key in sorted(idle):
        valid = {"finetune": "all", "finetune_lr": ".1", "data": "stdlib", "features.split": "held_out"}
        valid |= {"pool": "mean", "judge.judges": "[]", "judge.names": "[3]", "judge.top": "[5]"}
        value = valid.get(key) or another(key, flatten(job.config)[key])
        with pytest.raises(RequestError, match=r"has no effect|have no effect|has no revisions"):
            planned(command, [*arguments, f"{key}={value}"])


PROBED = [
    "labels=['regex:after=ba[a-z]+ ([a-z]+)']", "probe.tokens=5000", "probe.test_tokens=2000", "probe.least=10",
    "probe.least_documents=5", "k=[1]",
]  # fmt: skip

REFUSED = {
    "train model=demo-xs model.revision=step0": "model.revision=step0 has no effect on embedded:demo-xs",
    "harvest model=demo-xs model.revision=step0": "model.revision=step0 has no effect on embedded:demo-xs",
    "randomize-weights model=demo-xs model.revision=step0": "model.revision=step0 has no effect on embedded:demo-xs",
    "train model=hf model.path=. model.revision=main": "model.revision=main has no effect on .",
    "train model=run model.path=. model.revision=main": "model.revision=main has no effect on .",
    "train data=hf data.path=. data.revision=v1": "data.revision=v1 has no effect on .",
    "train data=synthetic data.context=64": "data.context=64 has no effect with data=synthetic",
    "train data=synthetic data.bos=false": "data.bos=False has no effect with data=synthetic",
    "train data=synthetic data.gaussian_embeddings=true": "data.gaussian_embeddings=True has no effect",
    "train data=synthetic data.held_out_fraction=.1": "data.held_out_fraction=0.1 has no effect",
    "train data=synthetic data.domains=[x]": "data.domains=['x'] has no effect",
    "train data=synthetic activations=x": "activations=x has no effect with data=synthetic",
    "train data=synthetic model.dtype=bfloat16": "with data=synthetic, which makes activations itself",
    "train data=synthetic hook=resid": "with data=synthetic, which makes activations itself",
    "train sae=topk l1=3": "l1=3 has no effect with sae=topk: give k=",
    "train sae=relu k=3": "k=3 has no effect with sae=relu: give l1=",
    "train sae=jump_relu sae.penalty=tanh k=3": "k=3 has no effect with sae=jump_relu",
    "train sae=jump_relu sae.penalty=tanh sae.l0_coefficient=1": "sae.l0_coefficient=1 has no effect with sae.penalty",
    "train sae=jump_relu sae.l0_coefficient=0 k=3": "k=3 has no effect with sae.l0_coefficient=0",
    "train sae=jump_relu sae.l0_coefficient=0 sae.sparsity_warmup=.5": "sae.sparsity_warmup=0.5 has no effect",
    "train l1=0 sae.sparsity_warmup=.5": "sae.sparsity_warmup=0.5 has no effect with l1=0",
    "train sae=topk sae.aux_coefficient=0 sae.aux_k=9": "sae.aux_k=9 has no effect with sae.aux_coefficient=0",
    "train sae.architecture=topk": "sae.architecture=topk has no effect by itself: give sae=topk",
    "train hook=logits layer=1": "layer=1 has no effect with hook=logits",
    "train hook=module hook.path=h.1.mlp layer=1": "layer=1 has no effect with hook=module: hook.path says where",
    "train hook=module hook.path=h.1.mlp hook.point=mlp_out": "hook.path=h.1.mlp has no effect with hook.point=mlp_out",
    "train hook=logit_update hook.point=mlp_out hook.mode=linear": "hook.mode=linear has no effect",
    "train resample.inputs=9": "resample.inputs has no effect without resample.at=",
    "train train.warmup_steps=9 train.lr_warmup=.5": "train.lr_warmup=0.5 has no effect with train.warmup_steps=",
    "train +recipe=marks2023 train.lr_warmup=.5": "train.lr_warmup=0.5 has no effect with train.warmup_steps=",
    "train train.forbid_below=.5": "train.forbid_below=0.5 has no effect without train.forbid_direction=",
    "features run=x contexts.bands=0 contexts.per_band=9": "contexts.per_band=9 has no effect with contexts.bands=0",
    "features run=x contexts.per_band=0 contexts.seed=1": "contexts.seed=1 has no effect without random contexts",
    "features run=x n=3": "n=3 has no effect without at_frequency=",
    "eval run=[x,y] ablate=[3]": "ablate=[3] has no effect with run=[…] of several",
    "eval run=[x,y] baselines=[random]": "have no effect with run=[…] of several",
    "prune-high-freq run=x top_n=1 finetune_lr=.1": "have no effect without finetune_tokens=",
}


@pytest.mark.parametrize("line", REFUSED)
def test_a_setting_without_effect_is_one_line(line):
    command, *arguments = line.split()
    with pytest.raises(RequestError) as caught:
        planned(command, arguments)
    assert REFUSED[line] in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize(
    "line",
    [
        "train model=pythia70m model.revision=step0", "train data=pile data.revision=v1", "train data=synthetic",
        "train data=synthetic data.seed=1 data.noise=.1 seed=2", "train sae=jump_relu sae.penalty=tanh l1=2",
        "train hook=logit_update hook.mode=linear", "train hook=logits", "train sae=topk sae.aux_coefficient=0",
        "train data=synthetic data.bos=true data.context=0",  # what is the default anyway
    ],
)  # fmt: skip
def test_what_has_an_effect_is_accepted_and_is_in_the_name(line):
    command, *arguments = line.split()
    plain = [each for each in arguments if each.partition("=")[0] in ("model", "data", "hook", "sae")]
    job, other = planned(command, arguments), planned(command, plain)
    same = result_settings(job.config) == result_settings(other.config)
    assert (job.place == other.place) == same


def test_a_model_without_revisions_is_not_loaded_as_one(world):
    """Nor through the configuration of a run that was begun before this was refused."""
    for path in ("embedded:demo-xs", str(world.model)):
        with pytest.raises(RequestError, match=r"model.revision=step0: .* has no revisions"):
            model_source(path, "step0")
