"""Why a rule did not fire, in words that a user can act on."""

import pytest

from planish import ir
from planish.passes import PASSES
from planish.passes.explain import Attempt, explain, rules_of
from planish.passes.run import Run
from tests.equivalence import model

WEIGHTS = """<float[2,2,1,1] w = {1, 2, 3, 4}, float[2] s = {1, 2}, float[2] o = {0, 1}, float[2] m = {0, 0},
    float[2] v = {1, 1}>"""
CONV_BN = "c = Conv(x, w)  y = BatchNormalization(c, s, o, m, v)"


def attempts(body: str, pattern: str, signature: str = "(float[N,2,3,3] x) => (float[N,2,3,3] y)") -> list[Attempt]:
    graph = ir.load(model(f"g {signature} {WEIGHTS} {{ {body} }}", opset=20))
    before = ir.emit(graph).SerializeToString()
    found = explain(graph, rules_of([PASSES[name]() for name in PASSES], pattern))
    assert ir.emit(graph).SerializeToString() == before
    return found


@pytest.mark.parametrize(
    ("body", "signature", "reason", "node"),
    [
        (
            CONV_BN,
            "(float[N,2,3,3] x) => (float[N,2,3,3] y, float[N,2,3,3] c)",
            "%c is also read by the model's outputs",
            "y",
        ),
        (
            "c = Conv(x, w)  z = Relu(c)  y = BatchNormalization(c, s, o, m, v)",
            "(float[N,2,3,3] x) => (float[N,2,3,3] y, float[N,2,3,3] z)",
            "%c is also read by z",
            "y",
        ),
        ("c = Relu(x)  y = BatchNormalization(c, s, o, m, v)", "", "%c is made by Relu, not by Conv", "y"),
        ("y = BatchNormalization(x, s, o, m, v)", "", "%x is an input or a constant, not the result of Conv", "y"),
        (
            "q = Add(w, w)  c = Conv(x, q)  y = BatchNormalization(c, s, o, m, v)",
            "",
            "%q is computed, not constant",
            "c",
        ),
        (
            "c = Conv(x, w)  y, a, b = BatchNormalization<training_mode = 1>(c, s, o, m, v)",
            "",
            "the BatchNormalization is in training mode, or its running statistics are read",
            "y",
        ),
    ],
)
def test_the_reason_and_the_node(body: str, signature: str, reason: str, node: str) -> None:
    found = attempts(body, "conv-bn", signature or "(float[N,2,3,3] x) => (float[N,2,3,3] y)")
    assert (found[0].reason, found[0].node.label) == (reason, node)


def test_it_would_fire() -> None:
    found = attempts(CONV_BN, "fuse-conv-bn")
    assert found[0].reason == ""
    assert found[0].matched == 2


def test_nothing_to_begin_at() -> None:
    assert attempts("y = Relu(x)", "fuse-conv-bn") == []


def test_the_contract_is_not_allowed() -> None:
    graph = ir.load(model(f"g (float[N,2,3,3] x) => (float[N,2,3,3] y) {WEIGHTS} {{ c = Conv(x, w)  y = Add(c, c) }}"))
    found = explain(graph, rules_of([PASSES["fuse-conv-affine"]()], "*"), Run("strict"))
    assert "is not allowed by fp=strict" in found[0].reason


def test_an_overridable_initializer() -> None:
    proto = model(f"g (float[N,2,3,3] x) => (float[N,2,3,3] y) {WEIGHTS} {{ {CONV_BN} }}")
    info = proto.graph.input.add()
    info.name = "w"
    info.type.tensor_type.elem_type = 1
    info.type.tensor_type.shape.SetInParent()
    for extent in (2, 2, 1, 1):
        info.type.tensor_type.shape.dim.add().dim_value = extent
    found = explain(ir.load(proto), rules_of([PASSES["fuse-conv-bn"]()], "*"))
    assert found[0].reason == "%w can be overridden by the caller"
    assert found[0].advice == "take %w out of the model's inputs"
