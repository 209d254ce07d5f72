"""x + x * gate; tolerance: the rounding of the products, relative to |x| (1 + |gate|)."""

import pytest

from tests.equivalence import Terms, rewritten, untouched

PASS = "fuse-scaled-sum"


def net(body: str, gate: str = "N,2,1,1", extra: str = "", kind: str = "float") -> str:
    return f"g ({kind}[N,2,3,4] x, {kind}[{gate}] g) => ({kind}[A,B,C,D] y{extra}) {{ {body} }}"


@pytest.mark.parametrize(
    "body",
    [f"a = Mul({a}, {b})  y = Add({c}, {d})" for a, b in (("x", "g"), ("g", "x")) for c, d in (("x", "a"), ("a", "x"))],
)
@pytest.mark.parametrize("gate", ["N,2,1,1", "2,1,1", "1", "1,2,3,1"])
def test_every_order(body: str, gate: str) -> None:
    assert rewritten(net(body, gate), PASS, tolerance=Terms(4)).op_types == ["Add", "Mul"]


STAYS = {
    "a gate as large": net("a = Mul(x, g)  y = Add(x, a)", "N,2,3,4"),
    "a gate that raises the rank": net("a = Mul(x, g)  y = Add(x, a)", "1,N,2,1,1").replace("A,B,C,D", "A,B,C,D,E"),
    "a product that others read": net("a = Mul(x, g)  y = Add(x, a)  z = Relu(a)", extra=", float[N,2,3,4] z"),
    "a product that is an output": net("a = Mul(x, g)  y = Add(x, a)", extra=", float[N,2,3,4] a"),
    "another addend": net("b = Neg(x)  a = Mul(x, g)  y = Add(b, a)"),
    "integers": net("a = Mul(x, g)  y = Add(x, a)", kind="int32"),
    "half precision": net("a = Mul(x, g)  y = Add(x, a)", kind="float16"),
    "twice the product": net("a = Mul(x, g)  y = Add(a, a)"),
}


@pytest.mark.parametrize("source", STAYS.values(), ids=STAYS)
def test_what_stays(source: str) -> None:
    untouched(source, PASS)


def test_a_gate_that_may_broadcast_the_batch() -> None:
    text = """g (float[1,2,3,4] x, float[M,2,1,1] g) => (float[M,2,3,4] y) { a = Mul(x, g)  y = Add(x, a) }"""
    untouched(text, PASS)
