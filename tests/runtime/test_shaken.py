"""Constants that stand one step beside their place show how a model amplifies rounding."""

import numpy as np

from planish import ir
from planish.runtime.compare import compare
from planish.runtime.shaken import shake
from tests.equivalence import model

SUM = "g (int32[3] x) => (float[3] y) <float k = {200.3}, float j = {0.1}, float h = {200.0}, float one = {1.0}> "
RAW = "{ c = Cast<to = 1>(x)  a = Mul(c, j)  b = Add(a, k)  d = Sub(b, h)  e = Mul(d, d)  y = Mul(e, one) }"
OTHER = "{ c = Cast<to = 1>(x)  a = Mul(c, j)  b = Sub(k, h)  d = Add(b, a)  e = Mul(d, d)  y = Mul(e, one) }"


def test_constants_move_by_one_step() -> None:
    graph = ir.load(model(SUM + RAW))
    before = {value.name: value.constant for node in graph.walk() for value in node.operands if value is not None}
    shake(graph)
    moved: dict[str, float] = {}
    for node in graph.walk():
        for value in node.operands:
            old = before.get(value.name) if value is not None else None
            if value is not None and value.constant is not None and old is not None:
                steps = value.constant.array().astype(np.float64) - old.array().astype(np.float64)
                moved[value.name] = float(steps)
    assert moved["h"] == moved["one"] == 0
    assert abs(moved["k"]) == np.spacing(np.float32(200.3))
    assert 0 < abs(moved["j"]) < 1e-8


def test_what_a_model_amplifies_is_not_held_against_the_other() -> None:
    """Integer inputs cannot be nudged, and both ways to run the model round alike."""
    source, other = ir.load(model(SUM + RAW)), ir.load(model(SUM + OTHER))
    report = compare(source, other)
    assert report.equal, report.reason
    wrong = ir.load(model(SUM + OTHER.replace("Mul(c, j)", "Mul(c, k)")))
    assert not compare(source, wrong).equal
