"""Transposes move to where they cancel; sums tolerate the rounding of another order, all else keeps its bits."""

from random import Random

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planish import ir, passes
from planish.ir import DType
from tests.equivalence import Inputs, Rewritten, Terms, Ulps, agree, rewritten, untouched
from tests.passes.fuse.nets import Weights, net, normal

PASS = "move-transposes"
LAST, FIRST = "Transpose<perm = [0, 2, 3, 1]>", "Transpose<perm = [0, 3, 1, 2]>"
WEIGHTS: dict[str, Weights] = {"c": normal(4), "d": normal(3, 4), "k": np.full(1, 0.5), "f": normal(1, 2, 3, 4)}


def moved(
    body: str, given: str = "N,4,2,3", result: str = "N,4,2,3", weights: dict[str, Weights] | None = None
) -> Rewritten:
    return rewritten(net(body, weights or WEIGHTS, given, result), f"{PASS},remove-dead-nodes", tolerance=Ulps(4))


def test_text() -> None:
    text = """g (float[N,4,2,3] x, float[N,2,3,4] z) => (float[N,4,2,3] y) <float[4] c = {1, 2, 3, 4}> {
        t = Transpose<perm = [0, 2, 3, 1]>(x)  a = Add(t, c)  r = Relu(a)  s = Mul(r, z)
        y = Transpose<perm = [0, 3, 1, 2]>(s) }"""
    found = rewritten(text, f"{PASS},remove-dead-nodes")
    assert found.nodes == [
        "a = Add (x, c)",
        "r = Relu (a)",
        "Transpose_out = Transpose <perm: ints = [0, 3, 1, 2]> (z)",
        "y = Mul (r, Transpose_out)",
    ]
    assert found.rules[0] == "cancel-above"
    assert found.initializers["c"].shape == (4, 1, 1)


@pytest.mark.parametrize(
    "between",
    [
        "y0 = Relu(t)",
        "y0 = Add(t, c)",
        "y0 = Sub(c, t)",
        "y0 = Mul(t, d)",
        "y0 = Div(t, k)",
        "y0 = Max(t, f)",
        "y0 = PRelu(t, c)",
        "y0 = Clip(t, k0)",
        "i = Cast<to = 7>(b)  y0 = Cast<to = 1>(i)",
        "g = Greater(t, d)  y0 = Where(g, t, c)",
        "y0 = Concat<axis = -1>(t, t2)",
        "y0 = Concat<axis = 1>(t, t2)",
        "s = Constant<value_ints = [1, 0]>() e = Constant<value_ints = [3, 2]>()  y0 = Slice(t, s, e, e2)",
        "s = Constant<value_ints = [0, 0, 1]>() e = Constant<value_ints = [9, 9, 2]>()  y0 = Slice(t, s, e)",
        "p = Constant<value_ints = [0, 1, 0, 2, 0, 0, 3, 0]>()  y0 = Pad(t, p)",
        'p = Constant<value_ints = [0, 1, 0, 1, 0, 0, 1, 0]>()  y0 = Pad<mode = "edge">(t, p)',
    ],
)
def test_what_keeps_its_bits(between: str) -> None:
    twice = f"t2 = {LAST}(x)  " if "t2" in between else ""
    more = "k0 = Squeeze(k)  " if "k0" in between else "b = Clip(t, k1)  " if "(b)" in between else ""
    more = more.replace("k1)", "k1, k2)")
    more += "e2 = Constant<value_ints = [3, -2]>()  " if "e2" in between else ""
    constants = "k1 = Constant<value_float = -9.0>() k2 = Constant<value_float = 9.0>()  " if "k1" in more else ""
    body = f"{constants}t = {LAST}(x)  {twice}{more}{between}  y = {FIRST}(y0)"
    shape = "N,A,B,C"
    source = net(body, WEIGHTS, "N,4,2,3", shape)
    found = rewritten(source, f"{PASS},remove-dead-nodes", inputs=Inputs(refusals="edge" in between))
    assert "Transpose" not in found.op_types
    assert found.rules[0] in ("cancel-above", "join-below")


@pytest.mark.parametrize(
    "between",
    [
        "Softmax<axis = -1>(t)",
        "LogSoftmax<axis = 2>(t)",
        "Sigmoid(t)",
        "Exp(t)",
        "HardSigmoid(t)",
        "Pow(t, k2)",
        "LpNormalization<axis = 1>(t)",
    ],
)
def test_what_rounds_as_the_place_asks(between: str) -> None:
    found = moved(f"k2 = Constant<value_float = 2.0>()  t = {LAST}(x)  z = {between}  y = {FIRST}(z)")
    assert "Transpose" not in found.op_types
    assert found.rules[0] == "cancel-above-rounding"
    untouched(net(f"t = {LAST}(x)  z = Sigmoid(t)  y = {FIRST}(z)", {}, "N,4,2,3", "N,4,2,3"), PASS, fp="strict")


def test_a_layer_normalization_of_the_axes_that_stay() -> None:
    body = "t = Transpose<perm = [1, 0, 2]>(x)  z = LayerNormalization(t, s, c)  y = Transpose<perm = [1, 0, 2]>(z)"
    given = {"s": normal(5), "c": normal(5)}
    found = rewritten(net(body, given, "N,3,5", "N,3,5"), PASS, tolerance=Ulps(16))
    assert found.op_types == ["LayerNormalization"]
    body = body.replace("[1, 0, 2]", "[0, 2, 1]")
    untouched(net(body, given, "N,5,3", "N,5,3"), PASS)


def test_quantization_of_channels() -> None:
    body = f"""t = {LAST}(x)  q = QuantizeLinear<axis = 3>(t, s, p)  z = DequantizeLinear<axis = -1>(q, s, p)
        p = Constant<value = int8[4] {{1, -2, 3, 0}}>()  y = {FIRST}(z)"""
    constant = "p = Constant<value = int8[4] {1, -2, 3, 0}>()"
    body = f"{constant}  {body.replace(constant, '')}"
    found = rewritten(net(body, {"s": np.abs(normal(4)) + 0.1}, "N,4,2,3", "N,4,2,3"), PASS)
    assert found.op_types == ["Constant", "QuantizeLinear", "DequantizeLinear"]
    assert "axis: int = 1" in found.nodes[1]


def test_a_quantized_weight_is_transposed_for_good() -> None:
    text = """g (float[N,3] x) => (float[N,2] y) <int8[2,3] w = {1, 2, 3, 4, 5, 6}, float[2] s = {0.5, 2}> {
        d = DequantizeLinear<axis = 0>(w, s)  t = Transpose(d)  y = MatMul(x, t) }"""
    found = rewritten(text, f"{PASS},remove-dead-nodes")
    assert found.nodes[0] == "d = DequantizeLinear <axis: int = 1> (w, s)"
    assert found.initializers["w"].shape == (3, 2)


def test_two_that_do_not_cancel_become_one() -> None:
    body = "t = Transpose<perm = [1, 2, 0]>(x)  r = Relu(t)  y = Transpose<perm = [1, 2, 0]>(r)"
    found = rewritten(net(body, {}, "N,3,5", "5,N,3"), PASS)
    assert found.nodes[0].endswith("Transpose <perm: ints = [2, 0, 1]> (x)")
    assert found.op_types == ["Transpose", "Relu"]


def test_two_become_one_below() -> None:
    body = f"t = {LAST}(x)  r = Relu(x)  u = {LAST}(r)  y = Add(t, u)"
    found = rewritten(net(body, {}, "N,4,2,3", "N,2,3,4"), PASS)
    assert (found.op_types, found.rules) == (["Relu", "Add", "Transpose"], ["join-below"])
    body = f"t = {LAST}(x)  r = Relu(x)  u = {LAST}(r)  y = Concat<axis = 3>(t, f, u)"
    found = rewritten(net(body, {"f": normal(2, 2, 3, 1)}, "2,4,2,3", "2,2,3,9"), f"{PASS},remove-dead-nodes")
    assert found.op_types == ["Relu", "Concat", "Transpose"]
    assert found.initializers["f"].shape == (2, 1, 2, 3)


def test_a_residual_chain_in_the_other_layout() -> None:
    """As converters write it: every convolution between two Transposes, the sums outside of them."""
    body = f"""a = {FIRST}(x)  b = Conv(a, w)  c = {LAST}(b)  d = Relu(c)
        e = {FIRST}(d)  f = Conv(e, w)  h = {LAST}(f)  i = Add(h, d)  j = Relu(i)
        l = {FIRST}(j)  o = Conv(l, w)  p = {LAST}(o)  y = Add(p, j)"""
    source = net(body, {"w": normal(4, 4, 1, 1)}, "N,2,3,4", "N,2,3,4")
    found = rewritten(source, PASS, tolerance=Terms(64))
    assert found.op_types.count("Transpose") == 2


def test_a_reader_that_transposes_back_draws_one_down() -> None:
    body = f"t = {LAST}(x)  r = Relu(t)  y = {FIRST}(r)"
    found = rewritten(net(body, {}, "N,4,2,3", "N,4,2,3", outputs=", float[N,2,3,4] r"), PASS)
    assert found.op_types == ["Relu", "Transpose"]
    assert found.rules[0] == "join-below"


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare"])
@pytest.mark.parametrize(
    ("keep", "axes", "left"), [(0, "1, 2", 0), (1, "1, 2", 1), (0, "-1", 0), (0, "0, 3", 0), (1, "0, 1, 2, 3", 0)]
)
def test_reductions(op: str, keep: int, axes: str, left: int) -> None:
    body = f"a = Constant<value_ints = [{axes}]>()  t = {LAST}(x)  y = {op}<keepdims = {keep}>(t, a)"
    result = ", ".join("ABCD"[: 4 if keep else 4 - len(axes.split(","))])
    found = rewritten(
        net(body, {}, "N,4,2,3", result, opset=18),
        f"{PASS},remove-dead-nodes",
        tolerance=Ulps(64),
        inputs=Inputs(values={"x": [np.abs(normal(count, 4, 2, 3)).astype(np.float32) for count in (1, 3)]}),
    )
    assert found.rules == ["reduce-transposed"]
    assert found.op_types.count("Transpose") == (1 if keep and axes != "0, 1, 2, 3" else left) or axes == "0, 1, 2, 3"


def test_a_smaller_result_is_transposed_instead() -> None:
    body = """a = Constant<value_ints = [0]>()  t = Transpose<perm = [1, 2, 0]>(x)
        y = ReduceMean<keepdims = 0>(t, a)  u = Transpose<perm = [2, 1, 0]>(x)  z = ReduceMean<keepdims = 0>(u, a)"""
    given = Inputs(values={"x": [np.abs(normal(4, 2, 3)).astype(np.float32)]})
    source = net(body, {}, "4,2,3", "3,4", opset=18, outputs=", float[2,4] z")
    found = rewritten(source, f"{PASS},remove-dead-nodes", tolerance=Ulps(64), inputs=given)
    assert found.op_types == ["ReduceMean", "Transpose"] * 2


def test_extremes_of_integers_alone() -> None:
    body = f"a = Constant<value_ints = [1, 2]>()  t = {LAST}(x)  y = ReduceMax<keepdims = 0>(t, a)"
    source = net(body, {}, "N,4,2,3", "N,4", opset=18, dtype=DType.INT32)
    assert rewritten(source, f"{PASS},remove-dead-nodes", tolerance=Ulps(0)).op_types == ["ReduceMax"]
    untouched(net(body, {}, "N,4,2,3", "N,4", opset=18), PASS)
    untouched(net(body.replace("Max", "Sum"), {}, "N,4,2,3", "N,4", opset=18, dtype=DType.INT32), PASS)


@pytest.mark.parametrize(
    ("body", "result", "outputs"),
    [
        pytest.param(f"t = {LAST}(x)  y = Relu(t)", "N,2,3,4", "", id="one alone"),
        pytest.param(
            f"t = {LAST}(x)  r = Relu(t)  y = {LAST}(r)", "N,3,4,2", ", float[N,2,3,4] t", id="one is an output"
        ),
        pytest.param(f"r = Relu(x)  y = {LAST}(r)", "N,2,3,4", "", id="none above"),
        pytest.param(f"t = {LAST}(x)  y = Add(t, f)", "N,2,3,4", "", id="a constant"),
        pytest.param(f"t = {LAST}(x)  u = Unsqueeze(t, i)  y = Relu(u)", "1,N,2,3,4", "", id="an axis more"),
        pytest.param(
            f"t = {LAST}(x)  m = CumSum(t, i)  y = {FIRST}(m)", "N,4,2,3", "", id="an operator that is not known"
        ),
        pytest.param(f"t = {LAST}(x)  y = Add(t, h)", "2,N,2,3,4", "", id="a rank more"),
        pytest.param(
            f"t = {LAST}(x)  a = Add(t, h)  y = Transpose<perm = [0, 1, 4, 2, 3]>(a)",
            "2,N,4,2,3",
            "",
            id="a rank more between",
        ),
    ],
)
def test_what_stays(body: str, result: str, outputs: str) -> None:
    constants = "i = Constant<value = int64 {0}>()  " if "CumSum" in body else "i = Constant<value_ints = [0]>()  "
    prefix = constants if "i)" in body else ""
    given = {"f": normal(1, 2, 3, 4), "h": normal(2, 1, 1, 1, 1)}
    used = {name: array for name, array in given.items() if f", {name})" in body}
    untouched(net(f"{prefix}{body}", used, "N,4,2,3", result, outputs=outputs), PASS)


def test_what_is_read_elsewhere_too() -> None:
    body = f"t = {LAST}(x)  r = Relu(t)  y = {LAST}(r)  z = Neg(r)"
    untouched(net(body, {}, "N,4,2,3", "N,3,4,2", outputs=", float[N,2,3,4] z"), PASS)


def test_sums_that_would_grow() -> None:
    """Each is small, and their sum is not: one Transpose of it moves more."""
    text = """g (float[N,1] x, float[1,M] z) => (float[M,N] y) {
        t = Transpose<perm = [1, 0]>(x)  u = Transpose<perm = [1, 0]>(z)  y = Add(t, u) }"""
    untouched(text, PASS)


def test_an_unknown_rank() -> None:
    text = """g (float[N,4] x, int64[K] s) => (float[A,B] y) {
        r = Reshape(x, s)  t = Transpose(r)  a = Relu(t)  y = Transpose(a) }"""
    untouched(text, PASS)


def test_a_transpose_in_a_branch_meets_one_outside() -> None:
    text = """g (float[N,4] x, bool[1] p) => (float[A,B] y) { t = Transpose(x)
        y = If(p) <then_branch = a () => (float[A,B] r) { u = Relu(t)  r = Transpose(u) },
                  else_branch = b () => (float[A,B] s) { s = Neg(x) }> }"""
    inputs = Inputs(values={"p": [np.array([True]), np.array([False])]})
    found = rewritten(text, f"{PASS},remove-dead-nodes", inputs=inputs)
    assert found.op_types == ["If", "Relu", "Neg"]


def test_a_diamond_of_one_transpose() -> None:
    body = f"t = {LAST}(x)  r = Relu(t)  n = Neg(t)  a = Add(r, n)  y = {FIRST}(a)"
    found = rewritten(net(body, {}, "N,4,2,3", "N,4,2,3"), f"{PASS},remove-dead-nodes")
    assert found.op_types == ["Relu", "Neg", "Add"]


def test_a_constant_that_the_caller_may_choose_is_transposed_each_time() -> None:
    body = f"t = {LAST}(x)  a = Add(t, f)  y = {FIRST}(a)"
    found = rewritten(net(body, {"f": normal(1, 2, 3, 4)}, "N,4,2,3", "N,4,2,3", overridable="f"), PASS)
    assert found.op_types == ["Transpose", "Add"]


@pytest.mark.parametrize("opset", [7, 10, 11, 12, 13])
def test_old_forms(opset: int) -> None:
    body = f"t = {LAST}(x)  r = Add(t, c)  y = {FIRST}(r)"
    assert rewritten(net(body, {"c": normal(4)}, "N,4,2,3", "N,4,2,3", opset=opset), PASS).op_types == ["Add"]


def test_a_softmax_of_an_inner_axis_needs_opset_13() -> None:
    """Before, a Softmax flattens what is behind its axis."""
    before = net(f"t = {LAST}(x)  r = Softmax<axis = 3>(t)  y = {FIRST}(r)", {}, "N,4,2,3", "N,4,2,3", opset=12)
    graph = ir.load(before)
    passes.run(graph, PASS)
    after = ir.emit(graph)
    assert ([node.op_type for node in after.graph.node], after.opset_import[0].version) == (["Softmax"], 13)
    assert agree(before, after, Inputs(), Ulps(4))


@pytest.mark.parametrize("dtype", [DType.DOUBLE, DType.INT32])
def test_other_types(dtype: DType) -> None:
    body = f"t = {LAST}(x)  a = Add(t, c)  y = {FIRST}(a)"
    assert rewritten(net(body, {"c": normal(4)}, "N,4,2,3", "N,4,2,3", dtype=dtype), PASS).op_types == ["Add"]


def random_net(random: Random) -> onnx.ModelProto:
    """Nodes over tensors whose four axes have extents of their own, in any order."""
    extents = ("N", "2", "3", "5")
    values: list[tuple[str, tuple[int, ...]]] = [("x", (0, 1, 2, 3))]
    weights: dict[str, Weights] = {}
    body = ["r = Constant<value_ints = [-1]>()  far = Constant<value_ints = [-9223372036854775808]>()"]
    for index in range(random.randint(3, 12)):
        name, order = random.choice(values[-3:])
        alike = [other for other, its in values if its == order]
        kind = random.choice(["turn", "turn", "turn", "one", "two", "constant", "reverse", "shift"])
        if kind == "turn":
            perm = random.sample(range(4), 4) if random.random() < 0.5 else [order.index(axis) for axis in range(4)]
            body.append(f"v{index} = Transpose<perm = {perm}>({name})")
            order = tuple([order[axis] for axis in perm])
        elif kind == "one":
            body.append(f"v{index} = {random.choice(['Relu', 'Neg', 'Abs', 'Floor', 'Identity'])}({name})")
        elif kind == "two":
            body.append(f"v{index} = {random.choice(['Add', 'Sub', 'Mul', 'Max'])}({name}, {random.choice(alike)})")
        elif kind == "constant":
            shape = [int(extents[axis]) if axis and random.random() < 0.6 else 1 for axis in order]
            weights[f"c{index}"] = normal(*shape[random.randint(0, 3) if order[0] == 0 else 0 :])
            body.append(f"v{index} = {random.choice(['Add', 'Div', 'Min'])}({name}, c{index})")
        elif kind == "reverse":
            axis = random.randint(-4, 3)
            body.append(f"a{index} = Constant<value_ints = [{axis}]>()  v{index} = Slice({name}, r, far, a{index}, r)")
        else:
            pads = [0] * 8
            axis = random.choice([place for place in range(4) if order[place]])
            pads[axis], pads[axis + 4] = 1, -1
            body.append(f"p{index} = Constant<value_ints = {pads}>()  v{index} = Pad({name}, p{index})")
        values.append((f"v{index}", order))
    last, order = values[-1]
    result = ",".join(extents[axis] for axis in order)
    seen, its = random.choice(values[1:])
    outputs = f", float[{','.join(extents[axis] for axis in its)}] z" if random.random() < 0.3 else ""
    ends = f"y = Abs({last})" + (f"  z = Neg({seen})" if outputs else "")
    return net("  ".join((*body, ends)), weights, "N,2,3,5", result, outputs=outputs)


@given(st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_random_nets(random: Random) -> None:
    source = random_net(random)
    before = [node.op_type for node in source.graph.node].count("Transpose")
    found = rewritten(source, PASS)
    assert found.op_types.count("Transpose") <= before
