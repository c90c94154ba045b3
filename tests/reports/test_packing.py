"""Numbers and JSON for the page: nothing is lost, and nothing leaves its place."""

import base64
import json
import zlib

import numpy as np
import pytest

from sae_cli.reports.packing import Pack, script_json
from tests.known import the

DTYPES = {"f8": "<f8", "f4": "<f4", "i4": "<i4", "u2": "<u2", "u1": "u1"}


def unpacked(pack, entry):
    content = zlib.decompress(base64.b64decode(pack.encoded()))
    return np.frombuffer(content, DTYPES[entry["type"]], int(np.prod(entry["shape"])), entry["at"]).reshape(
        entry["shape"]
    )


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.5, np.nan, -0.0, 1e300]),
        np.array([[0.1, 2], [3, 4]], dtype=np.float32),
        np.array([2**40, -1]),
        np.array([7, -7]),
        np.array([True, False]),
        np.array([1, 65535], dtype=np.uint16),
        np.zeros((0, 4)),
    ],
    ids=str,
)
def test_numbers_come_back(values):
    pack = Pack()
    pack.add(np.array([1], dtype=np.uint8))  # what follows is aligned all the same
    entry = pack.add(values)
    assert the(int, entry["at"]) % 8 == 0
    np.testing.assert_array_equal(unpacked(pack, entry), values)


def test_equal_arrays_are_held_once():
    pack = Pack()
    first, second = pack.add(np.arange(1000.0)), pack.add(np.arange(1000.0))
    assert first == second


def test_json_cannot_end_its_element():
    value = {"</script><!--": ["&amp;", "\u2028\u2029", "<"]}
    text = script_json(value)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == value


def test_json_is_strict():
    with pytest.raises(ValueError, match="JSON compliant"):
        script_json(float("nan"))
