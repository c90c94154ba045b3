"""Models with a vision tower whose text part is a model of its own in transformers: loaded without the tower."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch.testing import assert_close

from sae_cli.config.hook import HookPoint
from sae_cli.models import Site, load_language_model

TEXT = {
    "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 100, "max_position_embeddings": 24, "head_dim": 8,
    "num_attention_heads": 4, "num_key_value_heads": 2, "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
}  # fmt: skip
TOWER = {
    "hidden_size": 16, "intermediate_size": 16, "depth": 1, "num_heads": 2, "out_hidden_size": 32,
    "num_position_embeddings": 16,
}  # fmt: skip
TOKENS = {"image_token_id": 97, "video_token_id": 98, "vision_start_token_id": 95, "vision_end_token_id": 96}
EXPERTS = {
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40
}  # fmt: skip
KINDS = {
    "qwen3_5": (transformers.Qwen3_5Config, transformers.Qwen3_5ForConditionalGeneration, {"intermediate_size": 48}),
    "qwen3_5_moe": (transformers.Qwen3_5MoeConfig, transformers.Qwen3_5MoeForConditionalGeneration, EXPERTS),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_part_gives_the_logits_of_the_whole(kind, tmp_path, rows):
    config, whole, sizes = KINDS[kind]
    torch.manual_seed(0)
    hf = whole(config(text_config={**TEXT, **sizes}, vision_config=TOWER, **TOKENS)).eval()
    hf.save_pretrained(tmp_path)
    model, rows = load_language_model(str(tmp_path)), rows.clamp(max=90)
    assert_close(model.logits(rows), hf(input_ids=rows).logits, rtol=1e-6, atol=1e-6)
    places = [Site(hook, 0) for hook in (HookPoint.attn_out, HookPoint.mlp_out, HookPoint.resid)]
    seen = model.capture(rows, [*places, Site(HookPoint.resid, -1)])
    attention, mlp, after = (seen[each] for each in places)
    assert_close(seen[Site(HookPoint.resid, -1)] + attention + mlp, after, rtol=1e-5, atol=1e-5)
