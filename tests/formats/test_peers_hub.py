"""What `sae push` puts on the hub, SAELens loads from there; `make peers` has it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import sae_cli
from sae_cli.config.hook import HookConfig, HookPoint, SiteConfig
from sae_cli.config.model import ModelConfig
from sae_cli.dictionaries.card import Card, Wiring
from sae_cli.dictionaries.topk import TopKDictionary
from tests.text.loopback_hub import TOKEN, Store, loopback_hub

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default")]
D, F, N, K = 12, 40, 200, 5
LOAD = """
import sys, torch
from sae_lens import SAE
sae = SAE.from_pretrained("org/name", "saelens")
x = torch.load(sys.argv[1])
torch.save([sae.encode(x), sae.decode(sae.encode(x))], sys.argv[2])
"""


def test_saelens_loads_what_was_pushed(tmp_path):
    pytest.importorskip("sae_lens")
    generator = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (F, D), "b_enc": (F,), "W_dec": (F, D), "b_dec": (D,), "activation_mean": (D,)}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    dictionary = TopKDictionary({**tensors, "k": torch.tensor([float(K)])})
    site = SiteConfig.of(HookConfig(point=HookPoint.resid), 3)
    card = Card(model=ModelConfig(path="openai-community/gpt2"), wiring=Wiring.at(site))
    sae_cli.save(tmp_path / "run", dictionary, card)
    x = torch.randn(N, D, generator=generator)
    torch.save(x, tmp_path / "x.pt")
    with loopback_hub({}, store=Store()) as address:
        about = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
        about = {**os.environ, **about, "HF_HUB_DISABLE_XET": "1"}
        push = [sys.executable, "-m", "sae_cli", "push", str(tmp_path / "run"), "hf:org/name"]
        subprocess.run(push, env=about, check=True)
        load = [sys.executable, "-c", LOAD, str(tmp_path / "x.pt"), str(tmp_path / "out.pt")]
        subprocess.run(load, env=about, check=True)
    f, y = torch.load(tmp_path / "out.pt")
    assert torch.allclose(f, dictionary.encode(x), atol=1e-5)
    assert torch.allclose(y, dictionary.decode(dictionary.encode(x)), atol=1e-4)
