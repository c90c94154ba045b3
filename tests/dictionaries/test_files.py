"""Dictionaries on disk: what cannot work is refused in one line that names file, tensor and reason."""

import pytest
import torch

from sae_cli.artifacts.run_directory import open_run
from sae_cli.dictionaries.files import DICTIONARY_FILE, load, load_dictionary, saved_steps, snapshot_file
from sae_cli.errors import JobError

F, D = 6, 4
PLAIN = {
    "W_enc": torch.ones(F, D),
    "b_enc": torch.zeros(F),
    "W_dec": torch.ones(F, D),
    "b_dec": torch.zeros(D),
    "activation_mean": torch.zeros(D),
}
TOPK = {**PLAIN, "k": torch.tensor([2.0])}
NESTED = {**PLAIN, "threshold": torch.zeros(F), "group_sizes": torch.tensor([2.0, 4.0])}


def written(directory, tensors, metadata, name=DICTIONARY_FILE):
    with open_run(directory, "train", {}) as run:
        run.write_tensors(name, tensors, metadata)
        return run.finish()


@pytest.mark.parametrize(("kind", "tensors"), [("relu", PLAIN), ("topk", TOPK), ("matryoshka", NESTED)])
def test_what_is_written_is_read(tmp_path, kind, tensors):
    extra = {"b_pre": torch.ones(D), "kept_index": torch.arange(F)}
    dictionary = load(written(tmp_path / "run", tensors | extra, {"architecture": kind}).directory)
    assert dictionary.architecture == kind and torch.equal(dictionary.center, torch.ones(D))


@pytest.mark.parametrize(
    ("kind", "tensors", "says"),
    [
        ("relu", {k: v for k, v in PLAIN.items() if k != "b_dec"}, "a relu dictionary with b_dec, found W_dec, W_enc"),
        ("topk", PLAIN, "a topk dictionary with k, found"),
        ("relu", {"W_enc": torch.ones(1)}, "with b_enc, W_dec, b_dec, activation_mean, found W_enc"),
        ("relu", {}, "found none"),
        ("relu", PLAIN | {"W_enc": torch.ones(F)}, r"W_enc of shape \[features, width\], found \[6\]"),
        ("relu", PLAIN | {"W_enc": torch.ones(0, D)}, r"W_enc of shape \[features, width\], found \[0, 4\]"),
        ("relu", PLAIN | {"W_dec": torch.ones(D, F)}, r"W_dec of shape \[6, 4\], found \[4, 6\]"),
        ("relu", PLAIN | {"b_pre": torch.ones(F)}, r"b_pre of shape \[4\], found \[6\]"),
        ("relu", PLAIN | {"b_enc": torch.ones(F).half()}, "b_enc in F32, found F16"),
        ("relu", PLAIN | {"b_enc": torch.ones(F).long()}, "b_enc in F32, found I64"),
        ("relu", PLAIN | {"b_enc": torch.full((F,), torch.nan)}, "b_enc of finite numbers, found NaN or infinity"),
        ("relu", PLAIN | {"W_dec": -torch.inf * torch.ones(F, D)}, "W_dec of finite numbers, found NaN or infinity"),
        ("relu", PLAIN | {"b_pre": torch.full((D,), torch.inf)}, "b_pre of finite numbers, found NaN or infinity"),
        ("topk", TOPK | {"k": torch.tensor([7.0])}, "a whole k from 1 to 6, found 7"),
        ("topk", TOPK | {"k": torch.tensor([1.5])}, "a whole k from 1 to 6, found 1.5"),
        ("topk", TOPK | {"k": torch.ones(2)}, r"k of shape \[1\], found \[2\]"),
        ("matryoshka", NESTED | {"group_sizes": torch.tensor([2.0, 5.0])}, "sum to 6, found 2 that sum to 7"),
        ("matryoshka", NESTED | {"group_sizes": torch.tensor([7.0, -1.0])}, "group_sizes, whole numbers"),
        ("matryoshka", NESTED | {"group_sizes": torch.zeros(0)}, "found 0 that sum to 0"),
    ],
)
def test_a_dictionary_that_cannot_work(tmp_path, kind, tensors, says):
    run = written(tmp_path / "run", tensors, {"architecture": kind})
    with pytest.raises(JobError, match=rf"sae\.safetensors: damaged file: expected .*{says}"):
        load_dictionary(run)


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({}, "expected a header that names the architecture, found None"),
        ({"architecture": 1}, "expected a header that names the architecture, found 1"),
        ({"architecture": "new\x1b[2J"}, "unknown dictionary architecture .*; this version of sae knows: relu, topk"),
    ],
)
def test_a_header_without_an_architecture_that_is_known(tmp_path, metadata, says):
    with pytest.raises(JobError, match=says) as caught:
        load_dictionary(written(tmp_path / "run", PLAIN, metadata))
    assert str(caught.value).isprintable()


def test_snapshots_are_found_by_their_names(tmp_path):
    with open_run(tmp_path / "run", "train", {}) as run:
        for name in (snapshot_file(7), snapshot_file(10**9), "snapshots/step-many.safetensors", "snapshots/x"):
            run.write_text(name, "")
        assert saved_steps(run.finish()) == [7, 10**9]
