"""The split and the order are functions of the keys alone."""

import subprocess
import sys

from sae_cli.config.split import Split
from sae_cli.text.documents import document_id, is_held_out, of_split, seeded_order

KEYS = [f"folder/file{i}.py" for i in range(4000)]


def test_held_out_share_is_the_fraction():
    share = sum(is_held_out(key, 0.05) for key in KEYS) / len(KEYS)
    assert abs(share - 0.05) < 4 * (0.05 * 0.95 / len(KEYS)) ** 0.5


def test_split_is_a_partition_and_smaller_fractions_are_subsets():
    train, held_out = (of_split(KEYS, split, 0.1) for split in Split)
    assert sorted(train + held_out) == sorted(KEYS)
    assert set(of_split(KEYS, Split.held_out, 0.03)) < set(held_out)


def test_order_depends_on_seed_and_epoch_but_not_on_input_order():
    order = seeded_order(KEYS, seed=1, epoch=0)
    assert sorted(order) == sorted(KEYS)
    assert seeded_order(reversed(KEYS), seed=1, epoch=0) == order
    assert seeded_order(KEYS, seed=2, epoch=0) != order
    assert seeded_order(KEYS, seed=1, epoch=1) != order


def test_identity_is_the_same_in_another_process():
    code = "from sae_cli.text.documents import document_id; print(document_id('a/b.py'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(other) == document_id("a/b.py") < 2**63
