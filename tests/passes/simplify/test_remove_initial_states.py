"""Initial states of recurrent layers that are zero anyway, lengths that are full anyway, and those that are not."""

from math import prod

import pytest
from onnx import parser

from tests.equivalence import Inputs, Rewritten, rewritten, untouched

PASS = "remove-initial-states"
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def layer(op: str, before: str, operands: str, *, more: str = "", inputs: str = "", length: str = "T") -> str:
    """A layer of 3 hidden elements in both directions on (T, B, 2)."""
    gates = GATES[op] * 3
    results = "y, h, c" if op == "LSTM" else "y, h"
    outputs = "float[P,2,Q,3] y, float[2,R,3] h" + (", float[2,S,3] c" if op == "LSTM" else "")
    return (
        f"g (float[{length},B,2] x, float[2,{gates},2] w, float[2,{gates},3] r{inputs}) => ({outputs})"
        f' {{ {before}  {results} = {op}<hidden_size=3, direction="bidirectional"{more}>(x, w, r, {operands}) }}'
    )


def taken_off(source: str) -> Rewritten:
    return rewritten(
        source, f"{PASS},remove-dead-nodes", inputs=Inputs(({"T": 1, "B": 1}, {"T": 4, "B": 1}, {"T": 3, "B": 5}))
    )


ZEROS = (
    "s = Shape<start=1, end=2>(x)  two = Constant<value_ints=[2]>()  three = Constant<value_ints=[3]>()"
    "  zero = Constant<value_ints=[0]>()"
    "  d = Concat<axis=0>(two, s, three)  z = ConstantOfShape(d)"
)


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_a_state_of_zeros_goes(op: str) -> None:
    found = taken_off(layer(op, ZEROS, ", , z" if op != "LSTM" else ", , z, z"))
    assert found.op_types == [op]
    assert found.nodes[0].endswith("(x, w, r)")


def test_of_an_rnn_only_before_finite_weights() -> None:
    text = layer("RNN", ZEROS, ", , z")
    untouched(text, PASS)
    known = text.replace(", float[2,3,3] r", "").replace("{ ", f"<float[2,3,3] r = {{{','.join('1' * 18)}}}> {{ ", 1)
    assert taken_off(known).op_types == ["RNN"]
    untouched(known.replace("1,1", "1,inf", 1), PASS)


def test_a_state_that_counts_stays_beside_one_of_zeros() -> None:
    found = taken_off(layer("LSTM", ZEROS, ", , z, c0", inputs=", float[2,B,3] c0"))
    assert found.nodes[-1].endswith('(x, w, r, "", "", "", c0)')
    assert found.op_types == ["LSTM"]
    kept = taken_off(layer("LSTM", ZEROS, ", , h0, z", inputs=", float[2,B,3] h0"))
    assert kept.nodes[-1].endswith('(x, w, r, "", "", h0)')


@pytest.mark.parametrize(
    "made",
    [
        "e = ConstantOfShape(d)  z = Identity(e)",
        "f = Constant<value_float=0.0>()  z = Expand(f, d)",
        "e = ConstantOfShape(d)  t = Transpose<perm=[2,1,0]>(e)  z = Transpose<perm=[2,1,0]>(t)",
        "b = Concat<axis=0>(s, three)  e = ConstantOfShape(b)  u = Unsqueeze(e, zero)  z = Concat<axis=0>(u, u)",
        "b = Concat<axis=0>(two, two, s, three)  e = ConstantOfShape(b)  n = Constant<value_int=1>()  z = Gather(e, n)",
    ],
)
def test_zeros_as_exporters_make_them(made: str) -> None:
    before = ZEROS.replace("z = ConstantOfShape(d)", made)
    assert taken_off(layer("GRU", before, ", , z")).op_types == ["GRU"]


@pytest.mark.parametrize(
    "made",
    [
        pytest.param("z = ConstantOfShape<value=float[1]{1.0}>(d)", id="ones"),
        pytest.param("z = ConstantOfShape<value=float[1]{-0.0}>(d)", id="zeros of negative sign"),
        pytest.param("f = ConstantOfShape(d)  z = Add(f, h0)", id="something is added"),
        pytest.param("f = Constant<value=float[2,1,1]{0.0,1.0}>()  z = Expand(f, d)", id="not all are zero"),
        pytest.param(
            "one = Constant<value_ints=[1]>()  b = Concat<axis=0>(one, s, three)  e = ConstantOfShape(b)"
            "  f = ConstantOfShape<value=float[1]{2.0}>(b)  z = Concat<axis=0>(e, f)",
            id="half of it",
        ),
    ],
)
def test_states_that_stay(made: str) -> None:
    before = ZEROS.replace("z = ConstantOfShape(d)", made)
    untouched(layer("GRU", before, ", , z", inputs=", float[2,B,3] h0"), PASS)


def test_a_default_that_may_be_overridden_stays() -> None:
    text = layer("GRU", "", ", , z", inputs=", float[2,1,3] z").replace(",B,", ",1,")
    untouched(text.replace("{ ", "<float[2,1,3] z = {0,0,0,0,0,0}> { ", 1), PASS)


LENGTHS = "t = Shape<start=0, end=1>(x)  s = Shape<start=1, end=2>(x)  n = Cast<to=6>(t)  l = Expand(n, s)"


@pytest.mark.parametrize("op", GATES)
def test_lengths_that_are_full_go(op: str) -> None:
    assert taken_off(layer(op, LENGTHS, ", l")).op_types == [op]


def test_known_lengths_that_are_full_go() -> None:
    text = layer("RNN", "l = Constant<value=int32[2]{4,4}>()", ", l", length="4").replace(",B,", ",2,")
    assert rewritten(text, PASS).op_types == ["RNN"]
    untouched(text.replace("{4,4}", "{4,3}"), PASS)


@pytest.mark.parametrize(
    ("before", "length"),
    [
        pytest.param(LENGTHS, "5", id="of another extent"),
        pytest.param(LENGTHS.replace("start=0, end=1", "start=1, end=2"), "T", id="of the batch"),
        pytest.param("l = Identity(given)", "T", id="given"),
    ],
)
def test_lengths_that_stay(before: str, length: str) -> None:
    if length == "5":
        before = before.replace("n = Cast<to=6>(t)", "n = Constant<value=int32[1]{4}>()")
    untouched(layer("RNN", before, ", l", inputs=", int32[B] given", length=length), PASS)


def test_of_a_quantized_lstm() -> None:
    text = layer("LSTM", ZEROS, ", , z, z, , u, n, u, n")
    held = "<int8[2,2,12] w = {0}, int8[2,3,12] r = {0}, float[2] u = {0.01,0.02}, int8[2] n = {0,0}>"
    given = text.replace(", float[2,12,2] w, float[2,12,3] r", "").replace("LSTM", "com.microsoft.DynamicQuantizeLSTM")
    source = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> {given}'.replace("{ ", f"{held} {{ ", 1)
    )
    for tensor in source.graph.initializer:
        if tensor.name in ("w", "r"):
            tensor.ClearField("int32_data")
            tensor.raw_data = bytes(range(prod(tensor.dims)))
    found = rewritten(source, f"{PASS},remove-dead-nodes", inputs=Inputs(({"T": 3, "B": 1}, {"T": 1, "B": 4})))
    assert found.op_types == ["DynamicQuantizeLSTM"]
