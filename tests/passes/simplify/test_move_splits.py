"""What happens to every part of a Split happens once, before it."""

import pytest

from tests.equivalence import rewritten, untouched

PASS = "move-splits"
CONSTANTS = """<int64[1] one = {1}, int64[1] two = {2}, int64[1] end = {9223372036854775807}, int64[1] zero = {0},
    float low = {-1}, float high = {1}, float mid = {0.5}>"""


def net(body: str, outputs: str = "float[N,A,B] y, float[N,C,D] z", x: str = "N,6,4", kind: str = "float") -> str:
    typed = outputs.replace("float", kind)
    return f"g ({kind}[{x}] x) => ({typed}) {CONSTANTS} {{ a, b = Split<axis = 1>(x)  {body} }}"


def test_text() -> None:
    found = rewritten(net("y = Relu(a)  z = Relu(b)"), PASS)
    assert found.op_types == ["Relu", "Split"]
    assert found.nodes[-1].startswith("y, z = Split <axis: int = 1>")
    assert found.rules == ["split-last"]


@pytest.mark.parametrize(
    ("body", "op"),
    [
        ("y = Mul(a, a)  z = Mul(b, b)", "Mul"),
        ("y = Clip(a, low, high)  z = Clip(b, low, high)", "Clip"),
        ("y = Slice(a, one, end, two)  z = Slice(b, one, end, two)", "Slice"),
        ("y = Slice(a, one, end, two, one)  z = Slice(b, one, end, two, one)", "Slice"),
        ("y = LeakyRelu<alpha = 0.5>(a)  z = LeakyRelu<alpha = 0.5>(b)", "LeakyRelu"),
    ],
)
def test_alike(body: str, op: str) -> None:
    assert rewritten(net(body), PASS).op_types == [op, "Split"]


def test_a_chain() -> None:
    body = "c = Slice(a, one, end, two)  d = Slice(b, one, end, two)  y = Mul(c, c)  z = Mul(d, d)"
    assert rewritten(net(body), PASS).op_types == ["Slice", "Mul", "Split"]


def test_integers_and_types_that_change() -> None:
    assert rewritten(net("y = Neg(a)  z = Neg(b)", kind="int32"), PASS).op_types == ["Neg", "Split"]
    body = "y = Cast<to = 7>(a)  z = Cast<to = 7>(b)"
    source = net(body, kind="int32").replace("int32[N,A", "int64[N,A").replace("int32[N,C", "int64[N,C")
    assert rewritten(source, PASS).op_types == ["Cast", "Split"]


STAYS = {
    "another operator": net("y = Relu(a)  z = Neg(b)"),
    "other attributes": net("y = LeakyRelu<alpha = 0.5>(a)  z = LeakyRelu(b)"),
    "other constants": net("y = Clip(a, low, high)  z = Clip(b, low, mid)"),
    "a part read twice": net("y = Relu(a)  c = Relu(b)  z = Add(c, b)"),
    "a part that is an output": net("y = Relu(a)  z = Relu(b)", "float[N,A,B] y, float[N,C,D] z, float[N,3,4] a"),
    "a part that nothing reads": net("y = Relu(a)", "float[N,A,B] y"),
    "the same axis": net("y = Slice(a, one, two, one)  z = Slice(b, one, two, one)"),
    "the same axis from behind": "g (float[N,6,4] x) => (float[N,A,4] y, float[N,B,4] z) <int64[1] one = {1}, "
    "int64[1] two = {2}, int64[1] back = {-2}> { a, b = Split<axis = -2>(x)  y = Slice(a, one, two, back)  "
    "z = Slice(b, one, two, back) }",
    "a product with something else": net("y = Mul(a, mid)  z = Mul(b, high)"),
    "parts that meet": net("y = Mul(a, b)", "float[N,A,B] y"),
}  # fmt: skip


@pytest.mark.parametrize("source", STAYS.values(), ids=STAYS)
def test_what_stays(source: str) -> None:
    untouched(source, PASS)


def test_computed_bounds_stay() -> None:
    text = """g (float[N,6,4] x, int64[1] s) => (float[N,3,A] y, float[N,3,B] z)
        <int64[1] end = {4}, int64[1] two = {2}>
        { a, b = Split<axis = 1>(x)  y = Slice(a, s, end, two)  z = Slice(b, s, end, two) }"""
    untouched(text, PASS)


def test_parts_read_in_a_nested_graph_stay() -> None:
    text = """g (float[N,6] x, bool c) => (float[N,A] y) { a, b = Split<axis = 1>(x)  y = If(c) <then_branch = t () =>
        (float[N,A] p) { p = Relu(a) }, else_branch = e () => (float[N,A] q) { q = Relu(b) }> }"""
    untouched(text, PASS)


def test_a_constant_that_is_made_behind_the_split() -> None:
    text = """g (float[N,6] x) => (float[N,A] y, float[N,B] z) { a, b = Split<axis = 1>(x)
        k = Constant<value_float = 1.0>()  y = Clip(a, k)  z = Clip(b, k) }"""
    assert rewritten(text, f"{PASS},remove-dead-nodes").op_types[-2:] == ["Clip", "Split"]
