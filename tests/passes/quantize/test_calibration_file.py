"""Calibrations go to a file and come back; whatever is wrong in one is named with the file and the key."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from planish.passes.errors import CalibrationError
from planish.passes.quantize.calibration import Calibration, TensorStatistics
from planish.passes.quantize.calibration_file import load_calibration, save_calibration
from planish.passes.quantize.gram import Gram
from planish.passes.quantize.histogram import Histogram

NUMBERS = np.asarray([-3.0, 0.0, 1e-30, 2.5, 5e30])
SEEN = TensorStatistics(
    min=-3.0,
    max=5e30,
    dtype="float",
    count=9,
    nans=3,
    infs=1,
    zeros=1,
    mean=1e30,
    variance=4e60,
    histogram=Histogram.of(NUMBERS),
    channels={0: np.asarray([1.5, 0.0]), 1: np.asarray([5e30])},
    low=-3.0,
    high=2.5,
)
WHOLE = Calibration(
    {
        "/a/b:0": SEEN,
        'ä "quoted"\n': TensorStatistics(low=-0.1, high=0.3),
        "infinite": TensorStatistics(count=2, infs=2),
    },
    model="m.onnx",
    samples=7,
    warnings=("tensor 'x' holds NaN",),
)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "cal.json"
    save_calibration(WHOLE, path)
    found = load_calibration(path)
    assert found == WHOLE
    assert str(found) == str(path)
    assert names(tmp_path) == ["cal.json"]
    save_calibration(found, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("numbers", [[5e-324], [1.7e308, -1.7e308], [0.0], [1e6, 1e6 + 0.125]])
def test_histograms_of_all_widths_come_back(numbers: list[float], tmp_path: Path) -> None:
    histogram = Histogram.of(np.asarray(numbers))
    save_calibration(
        Calibration({"x": TensorStatistics(min(numbers), max(numbers), histogram=histogram)}), tmp_path / "c"
    )
    found = load_calibration(tmp_path / "c").tensors["x"].histogram
    assert found is not None
    assert (found.exponent, found.first, found.counts.tolist()) == (
        histogram.exponent,
        histogram.first,
        histogram.counts.tolist(),
    )


def test_gram_matrices_lie_beside_it_and_are_read_by_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grams = {
        f"x{k}/y|conv(k)": Gram(rng.standard_normal((2, k, k)), rng.standard_normal((2, k)), 10 + k, k) for k in (1, 3)
    }
    save_calibration(Calibration({}, grams), tmp_path / "cal.json")
    assert names(tmp_path) == ["cal.grams.npz", "cal.json"]
    found = load_calibration(tmp_path / "cal.json").grams
    assert list(found) == list(grams)
    for key, gram in grams.items():
        assert found[key].matrix.tolist() == gram.matrix.tolist()
        assert found[key].mean.tolist() == gram.mean.tolist()
        assert (found[key].count, found[key].skipped) == (gram.count, gram.skipped)
    with pytest.raises(KeyError):
        found["other"]
    (tmp_path / "cal.grams.npz").write_bytes(b"no zip")
    with pytest.raises(CalibrationError, match=r"cal\.grams\.npz: the Gram matrix of 'x1/y\|conv\(k\)' cannot be read"):
        found["x1/y|conv(k)"]
    (tmp_path / "cal.grams.npz").unlink()
    with pytest.raises(CalibrationError, match=r"cal\.json: \['grams'\]\['file'\] names .* which is not there"):
        load_calibration(tmp_path / "cal.json")


def test_a_few_lines_by_hand_are_enough(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"version": 1, "tensors": {"x": {"low": -1, "high": 1e3}}}')
    assert load_calibration(tmp_path / "c.json").tensors["x"].range == (-1.0, 1000.0)


X = {"min": 0.0, "max": 1.0}
H = {"bin_width": 0.5, "first_bin": 0, "counts": [1]}
BAD: dict[str, tuple[object, str]] = {
    "a list": ([], "must be an object"),
    "no version": ({"tensors": {}}, "has no 'version'"),
    "no tensors": ({"version": 1}, "has no 'tensors'"),
    "version": ({"version": 2, "tensors": {}}, r"\['version'\] is 2, and this planish reads only 1: calibrate again"),
    "format": ({"format": "other", "version": 1, "tensors": {}}, r"\['format'\] is not 'planish calibration'"),
    "a key at the top": ({"version": 1, "tensors": {}, "tensor": {}}, "has the unknown key 'tensor'"),
    "tensors": ({"version": 1, "tensors": []}, r"\['tensors'\] must be an object"),
    "samples": ({"version": 1, "tensors": {}, "samples": -1}, r"\['samples'\] must be a number of 0 or more"),
    "warnings": ({"version": 1, "tensors": {}, "warnings": "x"}, r"\['warnings'\] must be a list"),
    "grams": ({"version": 1, "tensors": {}, "grams": {"rows": {}}}, r"\['grams'\] has no 'file'"),
}
BAD_TENSORS: dict[str, tuple[object, str]] = {
    "no object": (3, "must be an object"),
    "nothing": ({}, "needs 'min' and 'max', or 'low' and 'high'"),
    "min alone": ({"min": 0}, "has no 'max', which goes with 'min'"),
    "high alone": ({**X, "high": 0}, "has no 'low', which goes with 'high'"),
    "low > high": ({**X, "low": 2, "high": 1}, r"has low 2\.0 above high 1\.0"),
    "min > max": ({"min": 2, "max": 1}, r"has min 2\.0 above max 1\.0"),
    "NaN": ({"min": float("nan"), "max": 1}, r"\['min'\] must be a finite number, not nan"),
    "infinite": ({"min": 0, "max": float("inf")}, r"\['max'\] must be a finite number"),
    "beyond a double": ({"min": 0, "max": 10**400}, r"\['max'\] must be a finite number"),
    "text": ({"min": "0", "max": 1}, r"\['min'\] must be a finite number, not '0'"),
    "a truth": ({"min": False, "max": 1}, r"\['min'\] must be a finite number, not False"),
    "a typing error": ({**X, "hgih": 1}, "has the unknown key 'hgih'"),
    "half a count": ({**X, "count": 1.5}, r"\['count'\] must be a whole number"),
    "more NaN than elements": ({**X, "count": 1, "nan": 2}, "counts more NaN"),
    "variance": ({**X, "variance": -1}, r"\['variance'\] must not be negative"),
    "an axis": ({**X, "channels": {"-1": []}}, "channels along '-1'"),
    "a channel": ({**X, "channels": {"1": [-1]}}, r"\['channels'\]\['1'\] must hold magnitudes"),
    "no counts": ({**X, "histogram": {"bin_width": 1, "first_bin": 0}}, r"\['histogram'\] has no 'counts'"),
    "width": ({**X, "histogram": {**H, "bin_width": 0.3}}, "must be a power of 2"),
    "no width": ({**X, "histogram": {**H, "bin_width": 0}}, "must be a power of 2"),
    "empty ends": ({**X, "histogram": {**H, "counts": [1, 0]}}, "neither the first nor the last"),
    "too many": ({**X, "histogram": {**H, "counts": [1] * 2049}}, "1 to 2048"),
    "negative count": ({**X, "histogram": {**H, "counts": [-1]}}, r"\['counts'\]\[0\] must be a number of 0 or more"),
    "far bin": ({**X, "histogram": {**H, "first_bin": 10**12}}, "too far from 0"),
}


@pytest.mark.parametrize("name", [*BAD, *BAD_TENSORS])
def test_bad_content_is_named_with_the_file_and_the_key(name: str, tmp_path: Path) -> None:
    path = tmp_path / "cal.json"
    if name in BAD:
        content, message = BAD[name]
    else:
        tensor, message = BAD_TENSORS[name]
        content = {"version": 1, "tensors": {"some": tensor}}
        message = rf"\['tensors'\]\['some'\].*{message}"
    path.write_text(json.dumps(content))
    with pytest.raises(CalibrationError, match=message) as raised:
        load_calibration(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"not json"])
def test_what_is_not_json_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "cal.json").write_bytes(content)
    with pytest.raises(CalibrationError, match=r"cal\.json: is not JSON"):
        load_calibration(tmp_path / "cal.json")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"none\.json: cannot be read: No such file"):
        load_calibration(tmp_path / "none.json")


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_calibration(WHOLE, tmp_path / "cal.json")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CalibrationError, match=r"cal\.json: cannot be written: No space left"):
        save_calibration(Calibration({}), tmp_path / "cal.json")
    assert load_calibration(tmp_path / "cal.json") == WHOLE
    assert names(tmp_path) == ["cal.json"]
