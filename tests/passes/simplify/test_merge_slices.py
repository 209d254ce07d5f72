"""Slices in a row, of a Concat, and beside each other."""

import itertools
import random

import numpy as np
import pytest
from onnx import parser

from planish import ir, passes
from tests.equivalence import Inputs, differences, model, nodes, rewritten, run, untouched

PASS = "merge-slices"
LOW, HIGH = -(2**63), 2**63 - 1


def sliced(shape: str, first: str, second: str, *, result: str = "", dtype: str = "float") -> str:
    """A model of two slices; each is `start:end:step` by axis, as in "0=1:5:1 -1=0:9:2"."""
    constants: list[str] = []
    calls: list[str] = []
    for letter, given in (("s", first), ("t", second)):
        axes = [part.split("=")[0] for part in given.split()]
        bounds = [part.split("=")[1].split(":") for part in given.split()]
        columns = [*(",".join(b[i] for b in bounds) for i in range(2)), ",".join(axes), ",".join(b[2] for b in bounds)]
        names = [f"{letter}{i}" for i in range(4)]
        constants += [f"int64[{len(axes)}] {n} = {{{c}}}" for n, c in zip(names, columns, strict=True)]
        calls.append(", ".join(names))
    out = result or ",".join(f"R{i}" for i in range(len(shape.split(","))))
    return (
        f"g ({dtype}[{shape}] x) => ({dtype}[{out}] y) <{', '.join(constants)}> {{"
        f" z = Identity(x)  a = Slice(z, {calls[0]})  b = Slice(a, {calls[1]})  y = Identity(b) }}"
    )


@pytest.mark.parametrize(
    ("shape", "first", "second"),
    [
        pytest.param("N,8", "0=1:5:1", "1=2:7:2", id="different axes"),
        pytest.param("8,N", "0=1:7:1", "-2=1:3:1", id="one axis named two ways"),
        pytest.param("9,N", f"0=-1:{LOW}:-1", "0=2:5:1", id="backwards, then forwards"),
        pytest.param("9,N", "0=7:1:-2", f"0=-1:{LOW}:-1", id="backwards twice"),
        pytest.param("9,N", "0=0:99:2", "0=-2:99:1", id="from the back"),
        pytest.param("5,N", "0=4:9:1", "0=3:9:1", id="nothing"),
        pytest.param("N,M", f"0=1:{HIGH}:1", "0=2:5:1", id="unknown extent"),
        pytest.param("N,M", "0=1:4:1", "0=1:9:1", id="unknown extent, within the first"),
        pytest.param("N,M", "0=1:-1:1", f"0=1:{HIGH}:1", id="unknown extent, without its last"),
        pytest.param("N,M", "0=0:-1:1", "0=1:-1:1", id="unknown extent, without its last two"),
        pytest.param("N,M", f"0=1:{HIGH}:1", "0=0:-1:2", id="unknown extent, first and last off"),
        pytest.param("N,M", f"0=1:{HIGH}:2", f"0=1:{HIGH}:3", id="unknown extent, steps multiply"),
        pytest.param("N,M", "0=0:4:2", "0=0:1:1", id="unknown extent, every second"),
        pytest.param("N,M", "0=0:2147483647:1 1=1:3:1", "1=0:1:1", id="to the end in int32"),
    ],
)
def test_slices_in_a_row_become_one(shape: str, first: str, second: str) -> None:
    bindings = [{"N": n, "M": m} for n, m in itertools.product(range(8), (0, 1, 3))]
    found = rewritten(sliced(shape, first, second), PASS, inputs=Inputs(bindings, kinds=("ordinary",)))
    assert found.rules == ["slice-slice"]
    assert found.op_types == ["Identity", "Slice", "Identity"]


def test_two_full_reversals_of_any_extent_go() -> None:
    backwards = f"0=-1:{LOW}:-1"
    found = rewritten(sliced("N,3", backwards, backwards, result="N,3"), PASS)
    assert found.op_types == ["Identity", "Identity"]
    assert rewritten(sliced("7,3", backwards, backwards, result="7,3"), PASS).op_types == ["Identity", "Identity"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(f"0=1:{HIGH}:1", "0=-2:9223372036854775807:1", id="the last two of what is left"),
        pytest.param("0=0:5:1", "0=0:-1:1", id="all but the last of at most five"),
        pytest.param("0=0:-2:1", "0=0:3:1", id="at most three of what is left"),
        pytest.param(f"0=-3:{HIGH}:1", "0=1:2:1", id="of the last three"),
        pytest.param(f"0=-1:{LOW}:-1", "0=1:3:1", id="backwards"),
        pytest.param(f"0=0:{HIGH}:2", "0=0:-1:1", id="without the last of every second"),
        pytest.param("0=2147483600:2147483646:1", "0=100:200:1", id="bounds that grow beyond int32"),
    ],
)
def test_what_depends_on_an_unknown_extent_stays(first: str, second: str) -> None:
    untouched(sliced("N,3", first, second, result="K,3"), PASS)


def test_every_pair_of_bounds_on_one_axis() -> None:
    """On an axis of 0 to 4 elements, known or not, against ONNX Runtime on those that it takes."""
    starts, ends, steps = (0, 2, -1, -3), (0, 3, -1, HIGH), (1, 2)
    pairs = [f"0={s}:{e}:{t}" for s, e, t in itertools.product(starts, ends, steps)]
    pairs += [f"0=-1:{LOW}:-1", "0=3:0:-2", f"0={HIGH}:-9:-1"]
    checked = 0
    for first, second in random.Random(0).sample(list(itertools.product(pairs, pairs)), 150):
        for shape in ("N", "4"):
            proto = parser.parse_model(
                f'<ir_version: 8, opset_import: ["": 17]> {sliced(shape, first, second, result="R")}'
            )
            graph = ir.load(proto)
            passes.run(graph, PASS)
            after = ir.emit(graph)
            if nodes(after.graph) == nodes(proto.graph):
                continue
            checked += 1
            for extent in range(7) if shape == "N" else (4,):
                feeds = {"x": np.arange(extent, dtype=np.float32)}
                wrong = list(differences(run(after, feeds)[0], run(proto, feeds)[0]))
                assert not wrong, f"{first} then {second} of {extent}: {wrong}"
    assert checked > 150


def test_a_first_slice_that_others_read_stays() -> None:
    text = (
        "g (float[9] x) => (float[3] y, float[5] z) <int64[1] s={1}, int64[1] e={6}, int64[1] f={4}> {"
        " a = Slice(x, s, e)  y = Slice(a, s, f)  z = Neg(a) }"
    )
    untouched(text, PASS)


def test_a_first_slice_that_only_slices_read_goes() -> None:
    text = (
        "g (float[9] x) => (float[3] y, float[2] z) <int64[1] s={1}, int64[1] e={6}, int64[1] f={4}, int64[1] t={2}> {"
        " a = Slice(x, s, e)  y = Slice(a, s, f)  z = Slice(a, t, f) }"
    )
    assert rewritten(text, PASS).op_types == ["Slice", "Slice"]


def test_bounds_that_are_computed_stay() -> None:
    nodes = "a = Slice(x, s, e)  b = Slice(a, s, e)  y = Neg(b)"
    untouched(f"g (float[9] x, int64[1] e) => (float[A] y) <int64[1] s={{1}}> {{ {nodes} }}", PASS)


def test_old_forms() -> None:
    text = (
        "g (float[N,9] x) => (float[N,2] y) { a = Slice<axes=[1], starts=[1], ends=[6]>(x)"
        "  y = Slice<axes=[1], starts=[-2], ends=[99]>(a) }"
    )
    assert rewritten(model(text, 7), PASS).op_types == ["Slice"]


# Concat


def joined(parts: str, bounds: str, result: str, *, axis: int = 1) -> str:
    inputs = ", ".join(f"float[{shape}] p{i}" for i, shape in enumerate(parts.split(" ")))
    names = ", ".join(f"p{i}" for i in range(len(parts.split(" "))))
    start, end, step = bounds.split(":")
    return (
        f"g ({inputs}) => (float[{result}] y) <int64[1] s={{{start}}}, int64[1] e={{{end}}}, int64[1] ax={{{axis}}},"
        f" int64[1] st={{{step}}}> {{ a = Concat<axis=-1>({names})  b = Slice(a, s, e, ax, st)  y = Neg(b) }}"
    )


@pytest.mark.parametrize(
    ("parts", "bounds", "result", "left"),
    [
        ("N,2 N,3 N,4", "2:5:1", "N,3", ["Neg"]),
        ("N,2 N,3 N,4", "3:5:1", "N,2", ["Slice", "Neg"]),
        ("N,2 N,3 N,4", "2:5:2", "N,2", ["Slice", "Neg"]),
        ("N,2 N,3 N,4", "-4:99999999999:1", "N,4", ["Neg"]),
        ("N,2 N,3 N,4", "-7:-4:1", "N,3", ["Neg"]),
        ("N,2 N,3 N,4", "0:2:1", "N,2", ["Neg"]),
        ("N,2 N,M", f"2:{HIGH}:1", "N,M", ["Neg"]),
        ("N,2 N,M", f"3:{HIGH}:1", "N,K", ["Slice", "Neg"]),
        ("N,M N,2", "0:-2:1", "N,M", ["Neg"]),
        ("N,M N,2", "0:-3:1", "N,K", ["Slice", "Neg"]),
        ("N,M N,2", f"-2:{HIGH}:1", "N,2", ["Neg"]),
        ("N,M N,3", "-2:-1:1", "N,1", ["Slice", "Neg"]),
        ("N,0 N,3 N,0", "0:3:1", "N,3", ["Neg"]),
        ("N,2 N,3", "2:2:1", "N,0", ["Slice", "Neg"]),
    ],
)
def test_a_slice_of_one_part_of_a_concat(parts: str, bounds: str, result: str, left: list[str]) -> None:
    found = rewritten(joined(parts, bounds, result), PASS)
    assert found.op_types == left


@pytest.mark.parametrize(
    ("parts", "bounds"),
    [
        ("N,2 N,3", "1:4:1"),
        ("N,2 N,3", "0:3:1"),
        ("N,M N,2", "0:3:1"),
        ("N,M N,2", f"1:{HIGH}:1"),
        ("N,M N,2", f"-3:{HIGH}:1"),
        ("N,2 N,M", "0:-1:1"),
        ("N,2 N,M", "2:4:1"),
        ("N,2 N,3", "4:2:-1"),
    ],
)
def test_a_slice_of_more_than_one_part_stays(parts: str, bounds: str) -> None:
    untouched(joined(parts, bounds, "A,B"), PASS)


def test_a_slice_of_another_axis_than_that_of_the_concat_stays() -> None:
    untouched(joined("4,2 4,3", "0:2:1", "2,5", axis=0), PASS)


def test_a_slice_of_several_axes_of_a_concat() -> None:
    text = (
        "g (float[N,2] p, float[N,3] q) => (float[K,3] y) <int64[2] s={1,2}, int64[2] e={3,5}> {"
        " a = Concat<axis=1>(p, q)  y = Slice(a, s, e) }"
    )
    found = rewritten(text, PASS)
    assert found.op_types == ["Slice"]
    assert "q" in found.nodes[0]


# Split


def beside(shape: str, axis: int, *bounds: tuple[int, int], extra: str = "") -> str:
    outputs = ", ".join(f"float[{','.join('ABC'[: len(shape.split(','))])}] y{i}" for i in range(len(bounds)))
    constants = ", ".join(
        f"int64[1] s{i}={{{start}}}, int64[1] e{i}={{{end}}}" for i, (start, end) in enumerate(bounds)
    )
    calls = "  ".join(f"a{i} = Slice(x, s{i}, e{i}, ax)  y{i} = Neg(a{i})" for i in range(len(bounds)))
    outputs = outputs.replace("[A", "[A").replace("A,", "A,")
    return f"g (float[{shape}] x) => ({outputs}) <int64[1] ax={{{axis}}}, {constants}> {{ {calls} {extra} }}"


@pytest.mark.parametrize(
    "bounds",
    [
        ((0, 3), (3, 7)),
        ((3, 7), (0, 3)),
        ((3, HIGH), (0, 3)),
        ((-4, HIGH), (0, -4)),
        ((2, 5), (0, 2), (5, 99)),
        ((0, 3), (3, 7), (2, 5)),
        ((0, 3), (3, 7), (0, 3)),
    ],
)
def test_slices_that_share_an_axis_out_become_a_split(bounds: tuple[tuple[int, int], ...]) -> None:
    source = model(unique(beside("N,7", 1, *bounds), len(bounds)))
    found = rewritten(source, PASS)
    left = len([b for b in bounds if b == (2, 5) and len(bounds) == 3 and (0, 3) in bounds])
    assert sorted(found.op_types) == sorted(["Split", *["Slice"] * left, *["Neg"] * len(bounds)])


def unique(text: str, count: int) -> str:
    """Each output with dims of its own, so that none is taken to be another's."""
    for i in range(count):
        text = text.replace(f"[A,B] y{i}", f"[A{i},B{i}] y{i}").replace(f"[A] y{i}", f"[A{i}] y{i}")
    return text


@pytest.mark.parametrize(
    ("shape", "axis", "bounds"),
    [
        pytest.param("N,7", 1, ((0, 3), (4, 7)), id="a gap"),
        pytest.param("N,7", 1, ((0, 4), (3, 7)), id="an overlap"),
        pytest.param("N,7", 1, ((1, 3), (3, 7)), id="not from the beginning"),
        pytest.param("N,7", 0, ((0, 3), (3, HIGH)), id="an unknown extent"),
        pytest.param("N,7", 1, ((0, 7),), id="one alone"),
        pytest.param("N,7", 1, ((0, 3), (3, 6)), id="not to the end"),
    ],
)
def test_slices_that_do_not_share_an_axis_out_stay(shape: str, axis: int, bounds: tuple[tuple[int, int], ...]) -> None:
    untouched(unique(beside(shape, axis, *bounds), len(bounds)), PASS)


def test_a_split_stands_before_all_that_read_its_parts() -> None:
    """The second slice is what makes the Split; the first one's reader comes before it."""
    text = (
        "g (float[7] x) => (float[3] y, float[4] z) <int64[1] a={0}, int64[1] b={3}, int64[1] c={7}> {"
        " n = Neg(x)  p = Slice(n, a, b)  y = Neg(p)  q = Slice(n, b, c)  z = Neg(q) }"
    )
    assert rewritten(text, PASS).op_types == ["Neg", "Split", "Neg", "Neg"]


def test_slices_that_become_neighbours_by_a_merge() -> None:
    text = (
        "g (float[7] x) => (float[3] y, float[4] z) <int64[1] a={0}, int64[1] b={3}, int64[1] c={7}, int64[1] d={5}> {"
        " p = Slice(x, a, d)  q = Slice(p, a, b)  y = Neg(q)  r = Slice(x, b, c)  z = Neg(r) }"
    )
    assert rewritten(text, PASS).op_types == ["Split", "Neg", "Neg"]


def test_slices_in_a_branch_split_what_it_captures() -> None:
    found = rewritten(
        """g (float[7] x, bool c) => (float[A] y) <int64[1] a={0}, int64[1] b={3}, int64[1] d={7}> {
            y = If(c) <
                then_branch = t () => (float[D] p) { h = Slice(x, a, b)  i = Slice(x, b, d)  p = Concat<axis=0>(i, h) },
                else_branch = e () => (float[F] q) { j = Slice(x, a, b)  k = Neg(j)  q = Neg(k) }
            >
        }""",
        PASS,
    )
    assert found.op_types == ["If", "Split", "Concat", "Slice", "Neg", "Neg"]


def test_slices_that_are_outputs() -> None:
    text = (
        "g (float[7] x) => (float[3] y, float[4] z) <int64[1] a={0}, int64[1] b={3}, int64[1] c={7}> {"
        " y = Slice(x, a, b)  z = Slice(x, b, c) }"
    )
    assert rewritten(text, PASS).op_types == ["Split"]


def test_a_slice_that_an_earlier_or_later_split_gives() -> None:
    text = (
        (
            "g (float[7] x) => (float[3] y, float[3] z, float[4] w) <int64[1] a={0}, int64[1] b={3}> {"
            " p = Slice(x, a, b)  y = Neg(p)  z, v = Split<axis=0, num_outputs=2>(x)  w = Neg(v) }"
        )
        .replace("float[3] z", "float[4] z")
        .replace("float[4] w", "float[3] w")
    )
    untouched(model(text, 18), PASS)
    matching = text.replace("int64[1] b={3}", "int64[1] b={4}").replace("float[3] y", "float[4] y")
    untouched(model(matching, 18), PASS)
    free = matching.replace("z, v = Split", "u, v = Split").replace("w = Neg(v)", "w = Neg(v)  z = Relu(u)")
    assert rewritten(model(free, 18), PASS).op_types == ["Split", "Neg", "Neg", "Relu"]


@pytest.mark.parametrize("dtype", ["string", "bool", "float16", "int8"])
def test_every_element_type(dtype: str) -> None:
    text = (
        f"g ({dtype}[7] x) => ({dtype}[3] y, {dtype}[4] z) <int64[1] a={{0}}, int64[1] b={{3}}, int64[1] c={{7}}> {{"
        " y = Slice(x, a, b)  z = Slice(x, b, c) }"
    )
    assert rewritten(text, PASS).op_types == ["Split"]


def test_many_slices_of_one_value_stay_as_they_are() -> None:
    bounds = [(i, i + 1) for i in range(40)]
    untouched(unique(beside("40", 0, *bounds), 40), PASS)
