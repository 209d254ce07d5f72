"""Reshapes on both sides of elementwise operators."""

import pytest

from tests.equivalence import Inputs, rewritten, untouched

PASS = "move-reshapes"


def around(steps: str, first: str, last: str, constants: str, *, shape: str = "N,3,4", result: str = "N,3,4") -> str:
    return (
        f"g (float[{shape}] x) => (float[{result}] y) <{constants}> {{ a = {first}(x, s)  {steps}  y = {last}(b, t) }}"
    )


BACK = "int64[2] s={0,12}, int64[3] t={0,3,4}"


@pytest.mark.parametrize(
    ("steps", "constants", "left"),
    [
        ("b = Relu(a)", "", ["Relu"]),
        ("c = Neg(a)  b = Sigmoid(c)", "", ["Neg", "Sigmoid"]),
        ("c = Neg(a)  d = Sqrt(c)  b = Abs(d)", "", ["Neg", "Sqrt", "Abs"]),
        ("b = Mul(a, k)", ", float k={2.0}", ["Mul"]),
        ("b = Add(a, k)", ", float[1,1] k={2.0}", ["Add"]),
        ("b = Div(k, a)", ", float[1] k={2.0}", ["Div"]),
        ("b = Clip(a, k, l)", ", float k={-2.0}, float l={1.0}", ["Clip"]),
        ("b = Clip(a, , l)", ", float l={1.0}", ["Clip"]),
        ("c = Cast<to=11>(a)  b = Cast<to=1>(c)", "", ["Cast", "Cast"]),
        ("c = Sub(a, k)  b = Pow(c, l)", ", float k={-2.0}, float l={2.0}", ["Sub", "Pow"]),
    ],
)
def test_a_shape_that_comes_back(steps: str, constants: str, left: list[str]) -> None:
    assert rewritten(around(steps, "Reshape", "Reshape", BACK + constants), PASS).op_types == left


@pytest.mark.parametrize(
    ("first", "last", "constants", "result", "left"),
    [
        ("Unsqueeze", "Reshape", "int64[1] s={1}, int64[2] t={-1,12}", "N,12", ["Reshape", "Relu"]),
        ("Reshape", "Unsqueeze", "int64[2] s={0,12}, int64[1] t={-1}", "N,12,1", ["Reshape", "Relu"]),
        ("Unsqueeze", "Squeeze", "int64[1] s={1}, int64[1] t={1}", "N,3,4", ["Relu"]),
        ("Unsqueeze", "Unsqueeze", "int64[1] s={1}, int64[1] t={0}", "1,N,1,3,4", ["Reshape", "Relu"]),
    ],
)
def test_two_that_become_one(first: str, last: str, constants: str, result: str, left: list[str]) -> None:
    text = around("b = Relu(a)", first, last, constants, result=result)
    assert rewritten(text, PASS).op_types == left


def test_dims_that_only_unsqueeze_can_say() -> None:
    nodes = "a = Unsqueeze(x, s)  b = Not(a)  y = Unsqueeze(b, t)"
    text = f"g (bool[N,M] x) => (bool[N,1,1,M] y) <int64[1] s={{1}}, int64[1] t={{2}}> {{ {nodes} }}"
    assert rewritten(text, PASS).op_types == ["Unsqueeze", "Not"]


@pytest.mark.parametrize(
    ("steps", "constants"),
    [
        pytest.param("b = Mul(a, k)", ", float[12] k={1,2,3,4,5,6,7,8,9,10,11,12}", id="a vector"),
        pytest.param("b = Softmax(a)", "", id="along an axis"),
        pytest.param("b = Add(a, a)", "", id="twice the same"),
        pytest.param("c = Neg(a)  b = Add(a, c)", "", id="read twice"),
        pytest.param("c = Neg(a) d = Neg(c) e = Neg(d) b = Neg(e)", "", id="four between them"),
    ],
)
def test_what_stays(steps: str, constants: str) -> None:
    untouched(around(steps, "Reshape", "Reshape", BACK + constants), PASS)


def test_a_constant_that_raises_the_rank_stays() -> None:
    held = "int64[2] s={0,12}, int64[4] t={0,1,3,4}, float[1,1,1] k={2.0}"
    untouched(around("b = Mul(a, k)", "Reshape", "Reshape", held, result="A,B,C,D"), PASS)


def test_a_step_that_is_an_output_stays() -> None:
    text = around("b = Relu(a)", "Reshape", "Reshape", BACK).replace(
        "(float[N,3,4] y)", "(float[N,3,4] y, float[N,12] b)"
    )
    untouched(text, PASS)


def test_a_shape_that_nothing_could_say_stays() -> None:
    text = around(
        "b = Relu(a)", "Squeeze", "Unsqueeze", "int64[1] s={1}, int64[1] t={2}", shape="N,1,M", result="N,M,1"
    )
    untouched(text, PASS)


def test_empty_tensors() -> None:
    """A Reshape by -1 beside a copied dim may fail on them where the two did not."""
    held = "int64[3] s={0,0,4}, int64[1] t={0}"
    text = around("b = Relu(a)", "Reshape", "Unsqueeze", held, shape="N,M,2,2", result="1,N,M,4")
    untouched(text, PASS)


def test_a_chain_of_them() -> None:
    nodes = "a = Flatten(x)  b = Relu(a)  c = Reshape(b, t)  d = Neg(c)  e = Flatten(d)  f = Abs(e)  y = Reshape(f, t)"
    text = f"g (float[N,3,4] x) => (float[N,3,4] y) <int64[3] t={{0,3,4}}> {{ {nodes} }}"
    assert rewritten(text, PASS, inputs=Inputs()).op_types == ["Relu", "Neg", "Abs"]
