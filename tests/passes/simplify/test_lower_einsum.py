"""Einsums that are something simpler become that; what broadcasting or a diagonal makes different stays."""

import numpy as np
import pytest

from tests.equivalence import Inputs, Rewritten, Ulps, model, rewritten, untouched

PASS = "lower-einsum"
SAME = Ulps(64)


def net(equation: str, shapes: tuple[str, ...], dtype: str = "float", constants: str = "") -> str:
    """An Einsum of inputs x, z of those shapes; the result has as many axes as the equation says."""
    names = ("x", "z")[: len(shapes)]
    inputs = ", ".join(f"{dtype}[{shape}] {name}" for shape, name in zip(shapes, names, strict=True))
    axes = ",".join("ABCDEF"[: len(equation.partition("->")[2].replace(" ", ""))])
    held, operands = (f"<{constants}>", [*names, "w"]) if constants else ("", list(names))
    result = f"{dtype}[{axes}] y" if axes else f"{dtype} y"
    node = f'y = Einsum <equation = "{equation}"> ({", ".join(operands)})'
    return f"g ({inputs}) => ({result}) {held} {{ {node} }}"


def found(text: str, inputs: Inputs | None = None) -> Rewritten:
    """Small numbers, of which sums and products are exact."""
    return rewritten(model(text, 17), PASS, tolerance=SAME, inputs=inputs or _small(text))


def _small(text: str) -> Inputs:
    """The shapes in the text must be numbers."""
    rng = np.random.default_rng(0)
    values: dict[str, list[np.ndarray[tuple[int, ...], np.dtype[np.generic]]]] = {}
    for info in model(text, 17).graph.input:
        dims = [dim.dim_value or 3 for dim in info.type.tensor_type.shape.dim]
        kind = {1: np.float32, 11: np.float64, 10: np.float16, 7: np.int64}[info.type.tensor_type.elem_type]
        values[info.name] = [rng.integers(-8, 8, dims).astype(kind)]
    return Inputs(values=values, bindings=[{}])


@pytest.mark.parametrize(
    ("equation", "shapes", "ops"),
    [
        ("ik,kj->ij", ("2,4", "4,3"), ["MatMul"]),
        (" i k , k j -> i j ", ("2,4", "4,3"), ["MatMul"]),
        ("ik,kj", ("2,4", "4,3"), ["MatMul"]),
        ("bhid,bhdj->bhij", ("2,3,4,5", "2,3,5,6"), ["MatMul"]),
        ("bhid,bhjd->bhij", ("2,3,4,5", "2,3,6,5"), ["Transpose", "MatMul"]),
        ("bhdi,bhdj->bhij", ("2,3,5,4", "2,3,5,6"), ["Transpose", "MatMul"]),
        ("bhjd,bhid->bhij", ("2,3,6,5", "2,3,4,5"), ["Transpose", "MatMul"]),
        ("kj,ik->ij", ("4,3", "2,4"), ["MatMul"]),
        ("bik,kj->bij", ("2,3,4", "4,5"), ["MatMul"]),
        ("ik,bkj->bij", ("3,4", "2,4,5"), ["MatMul"]),
        ("abik,bkj->abij", ("2,3,4,5", "3,5,6"), ["MatMul"]),
        ("ij->ji", ("2,3",), ["Transpose"]),
        ("bij->jbi", ("2,3,4",), ["Transpose"]),
        ("ijk->ik", ("2,3,4",), ["ReduceSum"]),
        ("ij->", ("2,3",), ["ReduceSum"]),
        ("ij,ij->ij", ("2,3", "2,3"), ["Mul"]),
        ("ij,j->ij", ("2,3", "3"), ["Mul"]),
        ("j,ij->ij", ("3", "2,3"), ["Mul"]),
    ],
)
@pytest.mark.parametrize("dtype", ["float", "double", "float16"])
def test_what_is_simpler(equation: str, shapes: tuple[str, ...], ops: list[str], dtype: str) -> None:
    text = net(equation if "->" in equation else f"{equation}->ij", shapes, dtype)
    text = text.replace("->ij", "") if "->" not in equation else text
    assert found(text).op_types == ops


def test_an_einsum_that_does_nothing() -> None:
    text = 'g (float[2,3] x) => (float[2,3] y) { a = Neg(x)  b = Einsum <equation = "ij->ij"> (a)  y = Exp(b) }'
    assert rewritten(text, PASS).nodes == ["a = Neg (x)", "y = Exp (a)"]


@pytest.mark.parametrize(("equation", "shape"), [("bik,jk->bij", "3,4"), ("bik,kj->bij", "4,3")])
def test_a_constant_is_transposed_at_once(equation: str, shape: str) -> None:
    weight = f"float[{shape}] w = {{1,2,3,4,5,6,7,8,9,10,11,12}}"
    result = found(net(equation, ("2,5,4",), constants=weight))
    assert result.op_types == ["MatMul"]


def test_both_transposed_but_one_is_a_constant() -> None:
    weight = "float[3,4] w = {1,2,3,4,5,6,7,8,9,10,11,12}"
    assert found(net("bki,jk->bij", ("2,4,5",), constants=weight)).op_types == ["Transpose", "MatMul"]


def test_symbolic_dims() -> None:
    text = net("bik,bjk->bij", ("B,N,4", "B,M,4"))
    inputs = Inputs(bindings=[{"B": 1, "N": 2, "M": 3}, {"B": 3, "N": 1, "M": 1}])
    assert found(text, inputs).op_types == ["Transpose", "MatMul"]
    assert found(net("bik,bkj->bij", ("B,N,K", "B,K,M")), Inputs(bindings=[{"B": 1, "N": 2, "M": 3, "K": 1}])).op_types


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        pytest.param("ik,kj->ij", ("N,K", "L,M"), id="extents that may differ, of which one may be 1"),
        pytest.param("ik,kj->ij", ("3,1", "4,5"), id="an axis of one element that is repeated"),
        pytest.param("ii->i", ("3,3",), id="a diagonal"),
        pytest.param("ii->", ("3,3",), id="a trace"),
        pytest.param("i,j->ij", ("3", "4"), id="an outer product"),
        pytest.param("ij,ij->", ("2,3", "2,3"), id="a sum of products"),
        pytest.param("ijk->ki", ("2,3,4",), id="a sum whose axes change places"),
        pytest.param("ijk,ikl->jl", ("2,3,4", "2,4,5"), id="a sum over a batch axis"),
        pytest.param("ijkl,klm->ijm", ("2,3,4,5", "4,5,6"), id="a sum over two axes"),
        pytest.param("ki,jk->ij", ("4,2", "3,4"), id="both to be transposed"),
        pytest.param("bik,bkj->ijb", ("2,3,4", "2,4,5"), id="a batch axis that is not in front"),
        pytest.param("bihd,bjhd->bhij", ("2,3,4,5", "2,6,4,5"), id="heads in the middle"),
        pytest.param("bi,b->bi", ("2,3", "2"), id="a product that needs an axis more"),
        pytest.param("ij,ik->ijk", ("2,3", "2,4"), id="no axis that is summed"),
    ],
)
def test_what_must_stay(equation: str, shapes: tuple[str, ...]) -> None:
    untouched(net(equation, shapes), PASS)


def test_an_ellipsis_stays() -> None:
    untouched('g (float[2,3,4] x) => (float[A,B,C] y) { y = Einsum <equation = "...ij->...ji"> (x) }', PASS)


def test_integers_stay_but_for_transpositions() -> None:
    untouched(net("ik,kj->ij", ("2,4", "4,3"), "int64"), PASS)
    untouched(net("ij->i", ("2,4",), "int64"), PASS)
    assert rewritten(model(net("ij->ji", ("2,4",), "int64"), 17), PASS).op_types == ["Transpose"]


def test_three_operands_stay() -> None:
    text = (
        'g (float[2,3] x, float[3,4] z, float[4,5] w) => (float[A,B] y) { y = Einsum<equation="ij,jk,kl->il">(x,z,w) }'
    )
    untouched(text, PASS)


def test_a_large_constant_that_others_read_is_not_copied() -> None:
    weight = f"float[1000,4] w = {{{', '.join(['1'] * 4000)}}}"
    text = net("ik,jk->ij", ("2,4",), constants=weight).replace("y = Einsum", "v = Neg(w)  y = Einsum")
    text = text.replace("=> (float[A,B] y)", "=> (float[A,B] y, float[C,D] v)")
    assert found(text).op_types == ["Neg", "Transpose", "MatMul"]
