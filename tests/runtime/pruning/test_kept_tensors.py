"""Tensors come back as they were put, from memory or from files, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from planish.runtime.pruning.kept_tensors import KeptTensors

Array = NDArray[np.generic]

TENSORS: dict[str, Array] = {
    "floats": np.asarray([[0.0, -0.0, np.nan], [np.inf, 1e-42, 3e38]], np.float32),
    "half": np.arange(6, dtype=np.float16).reshape(3, 2).T,
    "bfloat16": np.asarray([1.5, -2.0]).astype(ml_dtypes.bfloat16),
    "integers": np.asarray([-(2**63), 2**63 - 1], np.int64),
    "flags": np.asarray([True, False]),
    "scalar": np.asarray(3.0),
    "empty": np.zeros((0, 4), np.float32),
    "strings": np.asarray(["a", "bc"], np.object_),
}


@pytest.mark.parametrize("most", [0, 1 << 20])
@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_comes_back(tmp_path: Path, most: int, name: str) -> None:
    kept = KeptTensors(tmp_path / "kept", most)
    kept.put(3, "t", TENSORS[name])
    found = kept.get(3, ["t"])["t"]
    np.testing.assert_array_equal(np.asarray(found), TENSORS[name], strict=True)
    in_a_file = not most and name != "strings" and TENSORS[name].size > 0
    assert len(list((tmp_path / "kept").iterdir())) == in_a_file
    kept.drop(["t", "never put"])
    assert not kept.get(3, ["t"])
    assert not list((tmp_path / "kept").iterdir())


def test_memory_is_bounded_and_given_back(tmp_path: Path) -> None:
    kept = KeptTensors(tmp_path / "kept", 100)
    for run in range(4):
        kept.put(run, "t", np.full(10, run, np.float32))
    assert len(list((tmp_path / "kept").iterdir())) == 2
    assert [np.asarray(kept.get(run, ["t"])["t"])[0] for run in range(4)] == [0, 1, 2, 3]
    kept.drop(["t"])
    kept.put(0, "u", np.zeros(25, np.float32))
    assert not list((tmp_path / "kept").iterdir())


def test_what_is_no_tensor_is_kept(tmp_path: Path) -> None:
    kept = KeptTensors(tmp_path / "kept", 0)
    sequence = [np.ones(2, np.float32)]
    kept.put(0, "s", sequence)
    kept.put(0, "o", None)
    assert kept.get(0, ["s", "o", "x"]) == {"s": sequence, "o": None}
    assert not kept.get(1, ["s"])
