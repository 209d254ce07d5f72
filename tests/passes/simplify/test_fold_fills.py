"""Arithmetic on tensors that are one number everywhere, and on those that only may be."""

import pytest

from tests.equivalence import Inputs, Ulps, rewritten, untouched

PASS = "fold-fills"
ANY = Inputs(({"N": 0, "M": 3}, {"N": 1, "M": 1}, {"N": 4, "M": 2}))


def before(nodes: str, *, value: str = "float[1]{1.5}", dtype: str = "float", held: str = "float k = {2}") -> str:
    return (
        f"g (float[N,M] x) => ({dtype}[N,M] y) <{held}> {{"
        f" s = Shape(x)  f = ConstantOfShape<value={value}>(s)  {nodes} }}"
    )


@pytest.mark.parametrize(
    ("nodes", "value"),
    [
        ("y = Add(f, k)", "3.5"),
        ("y = Sub(k, f)", "0.5"),
        ("y = Mul(k, f)", "3"),
        ("y = Div(k, f)", "1.3333334"),
        ("y = Max(k, f, k)", "2"),
        ("a = Neg(f)  y = Mul(a, k)", "-3"),
        ("a = Less(f, k)  y = Cast<to=1>(a)", "1"),
        ("a = Less(f, k)  y = Where(a, k, k)", "2"),
    ],
)
def test_one_number_is_worked_out_once(nodes: str, value: str) -> None:
    found = rewritten(before(nodes), PASS, inputs=ANY)
    assert found.nodes == ["s = Shape (x)", f"y = ConstantOfShape <value: tensor = float[1] {{{value}}}> (s)"]


def test_a_fill_of_its_default() -> None:
    text = before("y = Add(f, k)").replace("<value=float[1]{1.5}>", "")
    assert rewritten(text, PASS, inputs=ANY).op_types == ["Shape", "ConstantOfShape"]


def test_integers() -> None:
    text = before("y = Mul(f, k)", value="int64[1]{3}", dtype="int64", held="int64[1] k = {-7}")
    assert "{-21}" in rewritten(text, PASS, inputs=ANY).nodes[-1]


def test_what_rounds_is_not_exact() -> None:
    text = before("y = Exp(f)")
    untouched(text, PASS, fp="strict")
    assert rewritten(text, PASS, inputs=ANY, tolerance=Ulps(4)).op_types == ["Shape", "ConstantOfShape"]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(before("y = Add(f, x)"), id="no constant"),
        pytest.param(before("y = Add(f, k)", held="float[2] k = {1,2}").replace("[N,M]", "[N,2]"), id="two numbers"),
        pytest.param(
            before("y = Add(f, k)", held="float[1,1,1] k = {1}").replace("=> (float[N", "=> (float[1,N"), id="rank"
        ),
        pytest.param(before("a = Add(f, k)  y = Mul(a, f)"), id="read twice"),
        pytest.param(before("y = Softmax(f)"), id="not by element"),
        pytest.param(before("y = RandomNormalLike(f)"), id="random"),
        pytest.param(before("y = Div(f, k)", value="int64[1]{3}", dtype="int64", held="int64 k = {0}"), id="by zero"),
        pytest.param(before("y = Add(f, k)").replace("[N,M] x)", "[N,M] x, float k)"), id="overridable"),
    ],
)
def test_what_stays(source: str) -> None:
    untouched(source, PASS)


def test_an_output_stays() -> None:
    untouched(before("y = Add(f, k)").replace("(float[N,M] y)", "(float[N,M] y, float[N,M] f)"), PASS)
