"""One job: what is printed where, the exit codes, and what a bad request leaves behind (nothing)."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys

import pytest

from sae_cli.config.commands.eval import EvalConfig
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.data import StdlibData
from sae_cli.config.model import ModelDtype
from sae_cli.errors import RequestError

RUN = "runs/train/demo/mlp_out.2/relu-F2048-l1_1-seed0"


def test_stdout_is_the_run_directory(sae, stage):
    ended = sae("train")
    assert (ended.code, ended.out) == (0, f"{RUN}\n")
    assert "what was done" in ended.err
    assert "value [red]" in ended.err


def test_json_is_strict_and_replaces_the_directory(sae, stage):
    ended = sae("train", "--json")
    assert json.loads(ended.out) == {"run": RUN, "figures": {"l0": 12.5}, "nan": None}
    assert "NaN" not in ended.out


def test_quiet_silences_stderr_but_not_stdout(sae, stage):
    ended = sae("train", "--quiet")
    assert (ended.out, ended.err) == (f"{RUN}\n", "")


def test_quiet_still_shows_errors(sae, stage):
    stage.failing = lambda config: True
    assert sae("train", "--quiet").err == "sae: error: it broke\n"


def test_the_stage_gets_a_typed_configuration(sae, stage):
    sae("train", "tokens=50_000_000", "model.dtype=bfloat16", "name=x/y")
    config, directory = stage.calls[0]
    assert isinstance(config, TrainConfig)
    assert isinstance(config.data, StdlibData)
    assert (config.tokens, config.model.dtype) == (50_000_000, ModelDtype.bfloat16)
    assert str(directory) == "runs/x/y"


def test_runs_dir_comes_from_the_environment_or_the_request(sae, stage, monkeypatch):
    monkeypatch.setenv("SAE_RUNS", "elsewhere")
    assert sae("train").out.startswith("elsewhere/train/demo/")
    assert sae("train", "runs_dir=here").out.startswith("here/train/demo/")


@pytest.mark.parametrize(
    "path", ["runs/x/y", "a b", "it's", "a=b,c", "[x]{y}", "${z}", "back\\slash", "1e3", "null", "ü"]
)
def test_a_bare_path_is_the_run_whatever_is_in_it(path, sae, stage, folder):
    (folder / path).mkdir(parents=True)
    stage.run = lambda config, directory, evaluation: None
    called = []
    sys.modules["sae_cli.commands.eval"].run = lambda *arguments: called.append(arguments) or _result(arguments[1])  # type: ignore[attr-defined]
    ended = sae("eval", path)
    config, directory, evaluation = called[0]
    assert isinstance(config, EvalConfig)
    assert (config.run, str(directory), evaluation) == (path, path, "default")
    assert ended.out == f"{path}\n"


def _result(directory):
    from sae_cli.jobs.result import StageResult

    return StageResult(directory=directory)


def test_an_evaluation_with_other_settings_has_a_name_of_its_own(sae, stage):
    sae("eval", "runs/a", "eval.tokens=5000")
    assert stage.calls[0][2] != "default"


def test_where_an_evaluation_is_put_is_no_part_of_its_name(sae, stage):
    sae("eval", "runs/a", "out=elsewhere")
    assert (stage.calls[0][0].out, stage.calls[0][2]) == ("elsewhere", "default")


BAD_REQUESTS = {
    "train lyer=3": "unknown key lyer: did you mean layer?",
    "train recipe=marks2023": "recipe=marks2023: sae train has no such choice; add it with a +: +recipe=marks2023",
    "train +recipe=marks": "no option marks for recipe: did you mean marks2023?",
    "eval run=x +recipe=marks2023": "+recipe=marks2023: sae eval has no such choice",
    "train lr=0.1": "unknown key lr: did you mean train.lr?",
    "train train.lrr=3": "unknown key train.lrr: did you mean train.lr?",
    "train data.path=x": "unknown key data.path: data=stdlib has context, held_out_fraction, seed, bos, "
    "separator, gaussian_embeddings, domains, tests, exclude",
    "train data=hf data.pat=x": "unknown key data.pat: did you mean data.path?",
    "train +new=key": "unknown key new: `sae train --cfg job` prints all keys",
    "train ++train.lrr=3": "unknown key train.lrr: did you mean train.lr?",
    "train model=demoo": "no option demoo for model: did you mean demo?",
    "train model=null": "model=null: expected an option of model; there is demo, demo-s,",
    "train sae=xyz": "no option xyz for sae; there is batch_topk, gated, jump_relu, matryoshka, relu, topk",
    "train l1=abc": "l1=abc: Value 'abc' of type 'str' could not be converted to Float",
    "train layer=1.5": "layer=1.5: Value '1.5' of type 'float' could not be converted to Integer",
    "train model.dtype=float31": "Invalid value 'float31', expected one of [auto, float32, bfloat16, float16]",
    "train l1=nan": "l1=nan: expected a finite number",
    "train model=hf": "model.path is missing: give model.path=…",
    "train l1=1 l1=2": "l1 is given twice: l1=1 and l1=2",
    "train l1=1,2": "l1=1,2 is a sweep: add -m",
    "train l1=[1": "l1=[1 cannot be read as KEY=VALUE",
    "train layer": "layer: expected KEY=VALUE",
    "train ~layer": "~layer: a setting cannot be removed",
    "train l1=${nothing}": "Interpolation key 'nothing' not found",
    "train name=../x": "name=../x: a name is made of letters, digits",
    "train name=/x": "name=/x: a name is made of",
    "train name=a//b": "name=a//b: a name is made of",
    "train model.name=a/b": "model.name=a/b: a name is made of",
    "train data=synthetic layer=3": "layer=3 has no effect with data=synthetic, which makes activations itself",
    "train +hook=resid": "+hook=…: hook is chosen already; leave the + out",
    "eval runs/a hook=resid": "hook=resid: sae eval has no such choice; --cfg job prints what it has",
    "eval runs/a hook=no": "hook=no: sae eval has no such choice; --cfg job prints what it has",
    "eval runs/a +hook=resid": "+hook=resid: sae eval has no such choice; --cfg job prints what it has",
    "eval -m runs/a hook=resid,mlp_out": "hook=resid,mlp_out: sae eval has no such choice",
    "harvest sae=topk": "sae=topk: sae harvest has no such choice",
    "compare a=x b=y model=demo": "model=demo: sae compare has no such choice",
    "features runs/a model=demo": "model=demo: sae features has no such choice",
    "prune-high-freq runs/a hook=resid": "hook=resid: sae prune-high-freq has no such choice",
    "randomize-weights data=pile": "data=pile: sae randomize-weights has no such choice",
    "train --config-dir nowhere": "--config-dir nowhere: there is no such folder",
    "train --jsn": "No such option: --jsn",
    "train --cfg job -m": "--cfg, --info and --multirun exclude each other",
    "harvest dtype=float8": "Invalid value 'float8', expected one of",
    "eval": "run is missing: give run=…",
    "features": "run is missing: give run=…",
    "features runs/a name=b": "name=b: feature pages live in their run; leave name out",
    "features runs/a n=2": "n=2 has no effect without at_frequency=: give it",
    "features runs/a at_frequency=[0]": "at_frequency=0: expected above 0 and at most 1",
    "features runs/a contexts.top=0": "contexts.top=0: expected at least 1",
    "features runs/a --show x": "--show x: expected the number of a feature, or several as in 3,17",
    "features -m run=a,b --show 3": "--show shows features of one run: leave -m out, or show them run by run",
    "bench": "run is missing: give run=…",
    "bench runs/a suite=scr": "suite=scr: Invalid value 'scr', expected one of [core]",
    "bench runs/a data=text data.path=x data.context=16": "data.context=16 has no effect with sae bench",
    "bench runs/a features.tokens=9": "unknown key features",
    "bench run=[a,b]": "run=[…] of 2: expected one dictionary; give -m run=A,B for one after another",
    "bench runs/a --require fvu>1": "no field fvu; sae bench has ce_loss_score,",
    "probe": "run is missing: give run=…",
    "probe run=[a,b]": "run=[…] of several: expected one dictionary; give -m run=A,B for one after another",
    "probe runs/a labels=[a.jsonl,python]": "a.jsonl has labels of its own and its own text: give it alone",
    "probe runs/a k=[]": "k=[]: expected at least one number of features, from 1",
    "probe runs/a confound=a": "confound=a: expected two concepts, as python.defined:python.seen",
    "probe runs/a confound=a:b judge.judges=[rule]": "judge.judges=rule needs explanations of features in words",
    "probe runs/a confound=a:b judge.judges=[upstream]": "judge.judges=upstream needs interactions between features",
    "probe runs/a confound=a:b judge.names=[3]": "judge.names=[…] and judge.judges=names go together",
    "probe runs/a judge.n=100": "judge.n=100 has no effect without confound=: give it",
    "probe runs/a pool=mean": "has no effect without labels=FILE.jsonl",
    "probe runs/a --save a/b": "a name is made of letters, digits and . _ -",
    "probe runs/a --require fvu>1": "no field fvu; sae probe has concepts,",
    "eval runs/a runs/b": "run is given twice: run='runs/a' and run='runs/b'",
    "eval runs/a name=b": "name=b: an evaluation lives in its run; leave name out",
    "eval runs/a references=[dem-s]": "references=dem-s: no model option dem-s: did you mean demo-s?",
    "eval run=[a,b,a]": "run=[…] has a twice: give each dictionary once",
    "eval run=[a,b] out=x": "out=x has no effect with run=[…] of several",
    "eval run=[a,b]": "a: no run here",
    "eval run=[a,b] baselines=[pca]": "have no effect with run=[…] of several: leave them out",
    "eval runs/a data.context=64": "runs/a: no run here (no manifest.json); give the run directory",
    "eval runs/a data=null": "data=null: expected an option of data; there is compositional, docstrings, fineweb,",
    "train hydra.mode=MULTIRUN": "hydra.mode=MULTIRUN: the mode is an option; add -m for a sweep",
    "eval runs/a --require l0": "--require l0: expected FIELD>=NUMBER",
    "eval runs/a --require los_recovered>=0.9": "no field los_recovered: did you mean loss_recovered?",
    "eval runs/a --require zzz>=1": "no field zzz; the fields are those of an eval.json, as loss_recovered, fvu, l0",
    "eval -m runs/a eval.tokens=1k,2k --require fvuu<1": "no field fvuu: did you mean fvu?",
    "train --require loss_recovered>=0.9": "no field loss_recovered; sae train has l0, fvu, dead",
    "prune-high-freq runs/a top_n=1 --require befor.l0>1": "no field befor.l0",
    "eval runs/a --require baselines.pca.fvu>1": "expected baselines=[pca]; give it",
    "eval runs/a --require equivalent_model.value>1": "expected references=[…], which it is made of",
    "eval runs/a --require kl_clean<1": "no field kl_clean: did you mean ",
    "eval runs/a references=[demo-xs] --require equivalent_model>1": "equivalent_model has fields of its own",
    "train sae=topk k=64 dict_size=32": "k=64: expected at most dict_size=32",
    "train -m sae=batch_topk k=4,64 dict_size=32": "k=64: expected at most dict_size=32",
    "train sae=topk k=0": "k=0: expected at least 1",
    "train sae=matryoshka dict_size=8 k=2": "sae.fractions=[0.03125, 0.0625, 0.125, 0.25, 0.53125]: too fine for",
    "train sae=matryoshka sae.fractions=[0.5,0.6]": "sae.fractions=[0.5, 0.6]: expected positive numbers that sum to 1",
    "train sae=topk sae.aux_k=0": "sae.aux_k=0 has no effect at 0: give sae.aux_coefficient=0",
    "train sae=topk sae.aux_k=-1": "sae.aux_k=-1: expected at least 0",
    "train tokens=100": "tokens=100: expected at least one batch, train.batch_size=256",
    "train -m tokens=1k,100": "tokens=100: expected at least one batch, train.batch_size=256",
    "train tokens=1k train.save_at=[2,4]": "train.save_at: step 4: expected 1 to 3: tokens=1,000 make 3 steps of",
    "train -m tokens=10k,1k resample.at=[20]": "resample.at: step 20: expected 1 to 2: tokens=1,000 make 3 steps of",
    "train data.context=1": "data.context=1: expected at least 2 tokens a row, or 0 for the model's own context",
    "harvest data=text data.path=x data.context=1": "data.context=1: expected at least 2 tokens a row",
    "eval runs/a data=stdlib data.context=1": "data.context=1: expected at least 2 tokens a row",
    "train -m data.held_out_fraction=0.1,0": "data.held_out_fraction=0: expected above 0, because figures are measured",
    "eval runs/a data=stdlib data.held_out_fraction=0": "data.held_out_fraction=0: expected above 0",
    "features runs/a data=text data.path=x data.held_out_fraction=0": "data.held_out_fraction=0: expected above 0",
    "train tokens=1.5": "tokens=1.5: expected a whole number, as in 100000, 1e5, 100k or 2M",
    "train tokens=1.2345k": "tokens=1.2345k: expected a whole number",
    "train -m tokens=1k,1e-3": "tokens=1k,1e-3: expected a whole number",
    "train train.save_at=[1k,2.5]": "train.save_at=[1k,2.5]: expected a whole number",
    "train tokens=1e999": "tokens=1e999: expected a whole number",
    "train tokens=2m": "tokens=2m: Value '2m' of type 'str' could not be converted to Integer",
    "train layer=1e0": "layer=1e0: Value '1.0' of type 'float' could not be converted to Integer",
    "trian": "No such command 'trian'",
}


@pytest.mark.parametrize("request_line", BAD_REQUESTS)
def test_a_bad_request_is_one_line_and_leaves_nothing(request_line, sae, stage, folder):
    ended = sae(*request_line.split())
    assert (ended.code, ended.out) == (2, "")
    assert BAD_REQUESTS[request_line] in ended.err
    assert ended.err.startswith("sae: error: ")
    assert ended.err.count("\n") == 1
    assert stage.calls == []
    assert list(folder.iterdir()) == []


def test_errors_of_a_stage_keep_their_exit_code(sae, stage):
    stage.failing = lambda config: True
    ended = sae("train")
    assert (ended.code, ended.out, ended.err) == (1, "", "sae: error: it broke\n")
    stage.error = lambda: RequestError("layer=99: the model has 6")
    ended = sae("train")
    assert (ended.code, ended.err) == (2, "sae: error: layer=99: the model has 6\n")


def test_a_full_disk_is_one_line(sae, stage):
    stage.failing = lambda config: True
    stage.error = lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/x")
    ended = sae("train")
    assert (ended.code, ended.err) == (1, "sae: error: No space left on device: runs/x\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_job_with_their_exit_code(number, code, sae, stage):
    before = signal.getsignal(number)
    stage.failing = lambda config: os.kill(os.getpid(), number) or True
    ended = sae("train")
    assert (ended.code, ended.out) == (code, "")
    assert f"interrupted by {number.name}" in ended.err
    assert signal.getsignal(number) is before


def test_no_library_takes_a_signal_for_an_error_of_its_own(sae, stage):
    def wrapped(config):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception as error:
            raise RuntimeError("could not be loaded") from error

    stage.failing = wrapped
    assert sae("train").code == 143


def test_a_bug_is_not_hidden(sae, stage, capsys):
    from sae_cli.cli.errors import report_bug

    stage.failing = lambda config: True
    stage.error = lambda: ZeroDivisionError("oops")
    with pytest.raises(ZeroDivisionError) as caught:
        sae("train")
    report_bug(caught.type, caught.value, caught.tb)
    shown = capsys.readouterr().err
    assert "sae: error: unexpected ZeroDivisionError: oops" in shown
    assert "Traceback (most recent call last)" in shown


def test_a_closed_pipe_is_quiet(folder, stage, monkeypatch, capsys):
    from sae_cli.cli.output import write_lines

    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        write_lines([folder])
    assert capsys.readouterr().err == ""


def test_cfg_prints_the_configuration(sae, stage, folder):
    ended = sae("train", "--cfg", "job", "--resolve", "l1=3")
    assert ended.code == 0
    assert "l1: 3.0\n" in ended.out
    assert "runs_dir: runs\n" in ended.out
    assert stage.calls == []
    assert list(folder.iterdir()) == []


def test_info_names_the_sources_of_the_configuration(sae, stage):
    assert "Config search path" in sae("train", "--info").out


def test_options_of_ones_own(sae, stage, folder):
    (folder / "mine" / "data").mkdir(parents=True)
    (folder / "mine" / "data" / "prose.yaml").write_text(
        "defaults:\n  - base_text\n  - _self_\npath: /texts\ncolumn: body\n"
    )
    sae("train", "--config-dir", "mine", "data=prose")
    assert stage.calls[0][0].data.column == "body"
    ended = sae("train", "--config-dir", "mine", "data=prosa")
    assert "no option prosa for data: did you mean prose?" in ended.err


def test_version_and_help(sae):
    assert sae("--version").out.startswith("sae ")
    assert "harvest" in sae("--help").out
    assert sae().out == sae("--help").out


def test_what_was_planned_is_run_without_a_second_pass_through_hydra(sae, stage, monkeypatch):
    monkeypatch.delattr("hydra.main")
    assert sae("train").out == f"{RUN}\n"
