"""Train the embedded models: small GPT-NeoX language models of Python's standard library.

    python scripts/train_demo_models.py demo            # the tokenizer too, if it is not there yet
    python scripts/train_demo_models.py demo-s demo-xs
    python scripts/train_demo_models.py demo-xxs demo-xxs-1 demo-xxs-2   # three seeds; checkpoints of the first

Writes a normal Hugging Face model folder (safetensors in float16, config, tokenizer, model card) under
`sae_cli/models/embedded/`; checkpoints go into folders `step<N>` of it. Training state is kept in `--scratch`, so an
interrupted run goes on where it was. The text is read by the same code, with the same train/held-out split, as
`data=stdlib`.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import platform
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from ngram import AbsoluteDiscountingNgram
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from sae_cli.config.split import Split
from sae_cli.text.documents import document_id
from sae_cli.text.packing import PackingPolicy, TokenizedDocument, pack
from sae_cli.text.stdlib import StdlibCorpus

EMBEDDED = Path(__file__).parents[1] / "sae_cli" / "models" / "embedded"
END_OF_TEXT = "<|endoftext|>"
VOCAB_SIZE = 4096
HELD_OUT_FRACTION = 0.05
SEED = 0
"""Of the order of the text, and of every model whose name does not say another."""
# Widths; the siblings tie their embeddings so that the parameters go into the blocks.
SIZES = {
    "demo": {"hidden_size": 208, "intermediate_size": 832, "num_attention_heads": 4, "tie_word_embeddings": False},
    "demo-s": {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "tie_word_embeddings": True},
    "demo-xs": {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4, "tie_word_embeddings": True},
    "demo-xxs": {"hidden_size": 32, "intermediate_size": 128, "num_attention_heads": 2, "tie_word_embeddings": True},
}
SEEDS = {name: (name, SEED) for name in SIZES} | {f"demo-xxs-{seed}": ("demo-xxs", seed) for seed in (1, 2)}
"""The size and the seed of each model."""
CHECKPOINTS = {"demo-xxs": (16, 64, 256, 1024)}
"""Steps after which the weights are kept; those of step 0 follow from the seed."""
N_LAYERS = 4
CONTEXT = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=list(SEEDS))
    parser.add_argument("--tokens", type=int, default=7_500_000, help="training tokens")
    parser.add_argument("--rows", type=int, default=12, help="rows of 256 tokens a step")
    parser.add_argument("--decay", type=float, default=0.4, help="share of training over which the LR falls to 0")
    parser.add_argument("--scratch", type=Path, default=Path("runs/.demo-training"))
    arguments = parser.parse_args()

    corpus = StdlibCorpus(tests=True, exclude=["encodings/*"], held_out_fraction=HELD_OUT_FRACTION)
    tokenizer = embedded_tokenizer(corpus)
    for name in arguments.names:
        train(name, corpus, tokenizer, arguments)


def embedded_tokenizer(corpus: StdlibCorpus) -> PreTrainedTokenizerFast:
    """The demo's byte-level BPE tokenizer, trained on the training split if it is not there yet."""
    if (EMBEDDED / "demo" / "tokenizer.json").exists():
        return PreTrainedTokenizerFast.from_pretrained(EMBEDDED / "demo")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        # Indentation and identifiers are the words of source code; digits are read one by one.
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=[END_OF_TEXT], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    bpe.train_from_iterator((document.text for document in corpus.documents(Split.train, SEED)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, clean_up_tokenization_spaces=False
    )


def token_rows(
    corpus: StdlibCorpus, tokenizer: PreTrainedTokenizerFast, split: Split, epoch: int, seed: int = SEED
) -> np.ndarray:
    """All rows [rows, CONTEXT] of one epoch, shuffled."""
    documents = (
        TokenizedDocument(document_id(d.key), np.array(tokenizer.backend_tokenizer.encode(d.text).ids))
        for d in corpus.documents(split, SEED, epoch)
    )
    end_of_text = tokenizer.eos_token_id
    assert isinstance(end_of_text, int)
    blocks = pack(documents, PackingPolicy(CONTEXT, bos_id=end_of_text, separator_ids=(end_of_text,)), rows=1024)
    rows = np.concatenate([block.tokens for block in blocks])
    return rows[np.random.default_rng([seed, epoch]).permutation(len(rows))]


def train(name: str, corpus: StdlibCorpus, tokenizer: PreTrainedTokenizerFast, arguments: argparse.Namespace) -> None:
    seed = SEEDS[name][1]
    torch.manual_seed(seed)
    model = GPTNeoXForCausalLM(model_config(name))
    optimizers = make_optimizers(model)
    steps = arguments.tokens // (arguments.rows * CONTEXT)
    batches = batches_from(corpus, tokenizer, arguments.rows, seed)
    state_file = arguments.scratch / f"{name}.pt"
    first = load_state(state_file, model, optimizers)
    held_out = torch.from_numpy(token_rows(corpus, tokenizer, Split.held_out, 0))
    started = time.monotonic()
    for step, rows in zip(range(steps), batches, strict=False):
        if step < first:
            continue
        set_learning_rates(optimizers, step, steps, arguments.decay)
        loss = cross_entropy(model, rows).mean()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if step + 1 in CHECKPOINTS.get(name, ()):
            write_checkpoint(name, step + 1, model)
        if step % 50 == 0:
            speed = (step + 1 - first) * rows.numel() / (time.monotonic() - started)
            print(f"{name} step {step}/{steps} loss {loss.item():.4f} {speed:.0f} tok/s", flush=True)
        if step % 250 == 249:
            save_state(state_file, step + 1, model, optimizers)
            print(f"{name} step {step + 1} held-out {held_out_loss(model, held_out[:400]):.4f}", flush=True)
    write_model(name, model, tokenizer, corpus, held_out, steps * arguments.rows * CONTEXT)


def model_config(name: str) -> GPTNeoXConfig:
    return GPTNeoXConfig(
        vocab_size=VOCAB_SIZE,
        num_hidden_layers=N_LAYERS,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
        bos_token_id=0,
        eos_token_id=0,
        **SIZES[SEEDS[name][0]],
    )


def batches_from(corpus: StdlibCorpus, tokenizer: PreTrainedTokenizerFast, rows: int, seed: int) -> Iterator[Tensor]:
    epoch = 0
    while True:
        epoch_rows = torch.from_numpy(token_rows(corpus, tokenizer, Split.train, epoch, seed))
        print(f"epoch {epoch}: {epoch_rows.numel():,} tokens", flush=True)
        yield from epoch_rows.split(rows)[: len(epoch_rows) // rows]
        epoch += 1


def cross_entropy(model: GPTNeoXForCausalLM, rows: Tensor) -> Tensor:
    """Next-token loss in nats [rows, CONTEXT - 1]."""
    logits = model(input_ids=rows, use_cache=False).logits[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="none").view(len(rows), -1)


@torch.no_grad()
def held_out_loss(model: GPTNeoXForCausalLM, rows: Tensor) -> float:
    """Mean loss at the positions that `sae eval` scores: all but the first of each row."""
    model.eval()
    total = sum(cross_entropy(model, block)[:, 1:].double().sum().item() for block in rows.split(16))
    model.train()
    return total / (len(rows) * (CONTEXT - 2))


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for weight matrices (Jordan et al. 2024), in float32.

    torch's own works in bfloat16, which is slow on processors without bfloat16 arithmetic.
    """

    def __init__(self, params: Sequence[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.02) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                average = state.setdefault("momentum", torch.zeros_like(parameter))
                average.lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonalise(parameter.grad.lerp(average, group["momentum"]))
                scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * scale)


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly, by a quintic Newton-Schulz iteration."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix) / (matrix.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x


def make_optimizers(model: GPTNeoXForCausalLM) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.gpt_neox.layers.parameters() if p.ndim == 2]
    in_blocks = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in in_blocks]
    adam = torch.optim.AdamW(others, lr=4e-3, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    optimizers = [Muon(matrices, lr=0.02), adam]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def set_learning_rates(optimizers: list[torch.optim.Optimizer], step: int, steps: int, decay: float) -> None:
    """Warm-up over 46 steps, constant, then linear to 0 over the last `decay`."""
    factor = min(1.0, (step + 1) / 46, (steps - step) / (decay * steps))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor


def save_state(path: Path, step: int, model: GPTNeoXForCausalLM, optimizers: list[torch.optim.Optimizer]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"step": step, "model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers]}
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").rename(path)


def load_state(path: Path, model: GPTNeoXForCausalLM, optimizers: list[torch.optim.Optimizer]) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return state["step"]


def write_checkpoint(name: str, step: int, model: GPTNeoXForCausalLM) -> None:
    """The weights as they are after so many steps."""
    folder = EMBEDDED / name / f"step{step}"
    copy.deepcopy(model).half().save_pretrained(folder)
    (folder / "generation_config.json").unlink()


def write_model(
    name: str,
    model: GPTNeoXForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    corpus: StdlibCorpus,
    held_out: Tensor,
    tokens: int,
) -> None:
    """The model folder; its figures are measured on the float16 weights that are shipped."""
    folder = EMBEDDED / name
    model.half().save_pretrained(folder)
    if name in ("demo", "demo-s", "demo-xs"):  # the others are read with that of `demo`
        tokenizer.save_pretrained(folder)
    for path in folder.glob("tokenizer*.json"):  # compact: half the size
        path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False, separators=(",", ":")))
    loss = held_out_loss(model.float().eval(), held_out)
    targets = held_out[:, 2:]
    lengths = np.array([len(tokenizer.convert_ids_to_tokens(i)) for i in range(VOCAB_SIZE)])
    lengths[tokenizer.eos_token_id] = 0
    n_bytes = int(lengths[targets.numpy()].sum())
    ngram = AbsoluteDiscountingNgram(token_rows(corpus, tokenizer, Split.train, 0), order=5, discount=0.8)
    ngram_loss = ngram.cross_entropy(held_out.numpy(), first_target=2)
    (folder / "README.md").write_text(
        MODEL_CARD.format(
            name=name,
            parameters=sum(p.numel() for p in model.parameters()),
            width=model.config.hidden_size,
            tied="tied" if model.config.tie_word_embeddings else "untied",
            layers=N_LAYERS,
            context=CONTEXT,
            vocabulary=VOCAB_SIZE,
            python=platform.python_version(),
            torch=torch.__version__.split("+")[0],
            tokens=tokens,
            train_tokens=sum(1 for _ in ngram.rows) * CONTEXT,
            held_out_tokens=targets.numel(),
            seed=SEEDS[name][1],
            loss=loss,
            bits=loss / math.log(2) * targets.numel() / n_bytes,
            ngram_loss=ngram_loss,
            ngram_bits=ngram_loss / math.log(2) * targets.numel() / n_bytes,
            gap=ngram_loss - loss,
        )
    )
    print((folder / "README.md").read_text())


MODEL_CARD = """---
license: psf-2.0
language: code
---
# {name}

A small GPT-NeoX (Pythia's architecture) trained from scratch on the sources of Python's standard library,
shipped with `sae` so that its first minute needs no network. Made by `python scripts/train_demo_models.py {name}`.

| | |
|---|---|
| parameters | {parameters:,} ({layers} blocks, width {width}, {tied} embeddings, context {context}), stored in float16 |
| tokenizer | byte-level BPE, {vocabulary:,} tokens, trained on the training split; `<|endoftext|>` (id 0) is BOS, EOS and separator |
| data | the `.py` files of Python {python}'s standard library with its tests, without `encodings/`; split by a hash of the path, 5 % of files held out |
| training | {tokens:,} tokens ({train_tokens:,} distinct), seed {seed}, torch {torch}, float32, Muon (matrices) and AdamW (the rest) |

Held-out files, {held_out_tokens:,} target tokens (every position of a row but the first), measured on the stored weights:

| model | cross-entropy (nats a token) | bits per byte |
|---|---|---|
| this model | {loss:.4f} | {bits:.4f} |
| 5-gram, interpolated absolute discounting (D = .8), same training split | {ngram_loss:.4f} | {ngram_bits:.4f} |
| difference | {gap:.4f} | |
"""


if __name__ == "__main__":
    main()
