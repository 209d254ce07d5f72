"""How much of a model's outputs is left: signal to noise, cosine and agreement, as their definitions have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import parser

from planish.runtime.fidelity import Fidelity, record
from planish.runtime.providers import Target
from planish.runtime.samples import parts_of

TARGET = Target(threads=1)


def saved(folder: Path, name: str, body: str) -> Path:
    text = f'<ir_version: 8, opset_import: ["" : 18]> net (float[n, 3] x) => (float[n, 3] y) {{ {body} }}'
    (folder / name).write_bytes(parser.parse_model(text).SerializeToString())
    return folder / name


def feeds(count: int) -> list[dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]]:
    rng = np.random.default_rng(0)
    return [{"x": rng.standard_normal((2, 3)).astype(np.float32)} for _ in range(count)]


def test_the_model_itself_is_the_same(tmp_path: Path) -> None:
    net = saved(tmp_path, "net.onnx", "y = Neg (x)")
    found = record(net, parts_of(feeds(5), None), TARGET, 5).fidelity(net, TARGET)
    assert found.noise == 0
    assert found.cosine == pytest.approx(1)
    assert found.agreement == 1


def test_against_the_definitions(tmp_path: Path) -> None:
    net = saved(tmp_path, "net.onnx", "y = Neg (x)")
    other = saved(tmp_path, "other.onnx", "s = Constant <value = float[3] {-1.0, -1.5, -0.5}> () y = Mul (x, s)")
    given = feeds(6)
    found = record(net, parts_of(given, None), TARGET, 6).fidelity(other, TARGET)
    wanted = [-feed["x"].astype(np.float64) for feed in given]
    got = [feed["x"] * np.array([-1, -1.5, -0.5]) for feed in given]
    noise = np.mean([((a - b) ** 2).sum() / (a**2).sum() for a, b in zip(wanted, got, strict=True)])
    cosine = np.mean([(a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()) for a, b in zip(wanted, got, strict=True)])
    agreement = np.mean([a.argmax(-1) == b.argmax(-1) for a, b in zip(wanted, got, strict=True)])
    assert found.noise == pytest.approx(float(noise), rel=1e-6)
    assert found.cosine == pytest.approx(float(cosine), rel=1e-6)
    assert found.agreement == pytest.approx(float(agreement))
    assert found.snr == pytest.approx(-10 * np.log10(float(noise)))
    assert 0 < found.agreement < 1


def test_nothing_but_zeros_is_no_division_by_zero(tmp_path: Path) -> None:
    zero = saved(tmp_path, "zero.onnx", "y = Sub (x, x)")
    one = saved(tmp_path, "one.onnx", "y = Neg (x)")
    references = record(zero, parts_of(feeds(2), None), TARGET, 2)
    assert references.fidelity(zero, TARGET) == Fidelity(0.0, 1.0, 1.0)
    assert references.fidelity(one, TARGET).cosine == 0


@pytest.mark.parametrize(("count", "most", "kept"), [(20, 4, 4), (25, 24, 24), (49, 24, 24), (7, 24, 7)])
def test_as_many_runs_are_kept_as_may_be_from_all_over(count: int, most: int, kept: int, tmp_path: Path) -> None:
    net = saved(tmp_path, "net.onnx", "y = Neg (x)")
    given = feeds(count)
    found = record(net, parts_of(given, None), TARGET, most).feeds
    wanted = [given[place * count // kept]["x"] for place in range(kept)]
    assert len(found) == kept
    assert all(np.array_equal(np.asarray(one["x"]), x) for one, x in zip(found, wanted, strict=True))
