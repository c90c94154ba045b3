"""delphi reads what `sae export to=delphi` writes, and its own cache of the same rows holds the same.

`make peers` builds the environment that has it; without it this is skipped.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file

from sae_cli.cli.main import run as command_line
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.models.sources import model_source
from sae_cli.runs.dictionary_run import read_dictionary_run

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default")]
F, SPLITS, HOOK = 64, 3, "layers.1.mlp"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A dictionary and its cache."""
    root = tmp_path_factory.mktemp("delphi")
    here = ["device=cpu", f"runs_dir={root}"]
    small = [f"dict_size={F}", "tokens=4k", "train.batch_size=256", "train.shuffle_buffer=1024", "data.context=64"]
    for arguments in (
        ["train", "model=demo-xxs", "layer=1", "name=run", *small, *here],
        ["export", root / "run", "to=delphi", "features.tokens=3000", f"splits={SPLITS}", "name=out", *here],
    ):
        assert command_line([str(each) for each in arguments]) == 0
    return root


def test_its_own_cache_holds_the_same(exported, tmp_path):
    cache = pytest.importorskip("delphi.latents").LatentCache
    from transformers import AutoModel

    files = sorted((exported / "out/latents" / HOOK).glob("*.safetensors"))
    tokens = torch.from_numpy(load_file(files[0])["tokens"])
    dictionary = load_dictionary(read_dictionary_run(exported / "run").run, verify=True)
    model = AutoModel.from_pretrained(model_source("embedded:demo-xxs").location, dtype=torch.float32)
    theirs = cache(model, {HOOK: dictionary.encode}, batch_size=8)
    theirs.run(tokens.numel(), tokens)
    theirs.save_splits(SPLITS, tmp_path)
    assert [each.name for each in files] == sorted(each.name for each in (tmp_path / HOOK).iterdir())
    for each in files:
        ours, expected = load_file(each), load_file(tmp_path / HOOK / each.name)
        rows = len(expected["tokens"])  # whole batches
        assert rows >= len(tokens) - 7 and (expected["tokens"] == ours["tokens"][:rows]).all()
        both = ours["locations"][:, 0] < rows
        after = expected["locations"][:, 1] > 0  # the first position of a row is not counted here
        assert {name: ours[name].dtype for name in ours} == {name: expected[name].dtype for name in expected}
        found, wanted = (
            dict(zip(map(tuple, part["locations"][kept].tolist()), part["activations"][kept].tolist(), strict=True))
            for part, kept in ((ours, both), (expected, after))
        )
        assert len(found) > 100
        for place in found.keys() ^ wanted.keys():  # by rounding of what is nearly zero
            assert {**found, **wanted}[place] < 1e-3, place
        assert all(found[place] == pytest.approx(wanted[place], rel=2e-3, abs=1e-4) for place in found.keys() & wanted)


@pytest.mark.parametrize("chosen", [None, [0, 30, 63]])
def test_its_data_set_reads_the_cache(exported, chosen):
    latents, config = pytest.importorskip("delphi.latents"), pytest.importorskip("delphi.config")
    constructor = config.ConstructorConfig(min_examples=1, example_ctx_len=16)
    selected = chosen and {HOOK: torch.tensor(chosen)}
    dataset = latents.LatentDataset(exported / "out/latents", config.SamplerConfig(), constructor, latents=selected)
    files = sorted(Path(exported, "out/latents", HOOK).glob("*.safetensors"))
    held = {each: load_file(each) for each in files}
    frequency = {}
    for path, tensors in held.items():
        start = int(path.stem.partition("_")[0])
        features, counts = torch.from_numpy(tensors["locations"][:, 2].astype(int)).unique(return_counts=True)
        for feature, n in zip(features.tolist(), counts.tolist(), strict=True):
            frequency[start + feature] = n / tensors["tokens"].size
    records = {each.latent.latent_index: each for each in dataset}
    expected = {each for each in frequency if chosen is None or each in chosen}
    assert records.keys() == expected
    for feature, record in records.items():
        assert record.per_token_frequency == pytest.approx(frequency[feature])
        assert max(float(each.activations.max()) for each in record.train) > 0
    assert dataset.tokenizer.decode(dataset.tokens[0]) and dataset.cache_config["n_splits"] == SPLITS
