"""What no output needs goes; what has effects, and the interface, stay."""

import onnx
import pytest

from planish import ir, passes
from tests.equivalence import model, rewritten, untouched

PASS = "remove-dead-nodes"


def test_text() -> None:
    found = rewritten(
        "g (float[N] x) => (float[N] y) <float[1] w = {1}> { a = Neg(x)  b = Mul(a, w)  y = Abs(x) }", PASS
    )
    assert found.nodes == ["y = Abs (x)"]
    assert found.rules == ["remove-node", "remove-node", "remove-initializer"]
    assert found.initializers == {}


@pytest.mark.parametrize(
    "node",
    [
        "d = RandomNormal<shape = [2]>()",
        "d = RandomUniform<shape = [2]>()",
        "d = RandomNormalLike(x)",
        "d = RandomUniformLike(x)",
        "d = Bernoulli(p)",
        "d = Multinomial(m)",
        "d, k = Dropout(x, r, t)",
    ],
)
def test_what_is_random_stays_though_nobody_reads_it(node: str) -> None:
    """It moves the generator on, and with it what other random nodes make."""
    constants = "float[1] p = {0.5}, float[1,2] m = {0.0, 0.0}, float r = {0.5}, bool t = {1}"
    found = rewritten(f"g (float[N] x) => (float[N] y) <{constants}> {{ {node}  y = Abs(x) }}", PASS)
    assert len(found.op_types) == 2
    assert "remove-node" not in found.rules


def test_what_is_not_known_stays() -> None:
    body = "g (float[N] x) => (float[N] y) { d = vendor.Strange(x)  y = Abs(x) }"
    untouched(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "vendor" : 1]> {body}'), PASS)
    function = '<opset_import: ["" : 17], domain: "mine"> Twice (v) => (w) { w = Add(v, v) }'
    local = f"g (float[N] x) => (float[N] y) {{ d = mine.Twice(x)  y = Abs(x) }} {function}"
    untouched(model(local, imports=', "mine" : 1'), PASS)


def test_functions_stay_with_those_who_call_them() -> None:
    function = '<opset_import: ["" : 17], domain: "mine"> Twice (v) => (w) { w = Add(v, v) }'
    source = model(
        f"g (float[N] x) => (float[N] y) {{ d = Neg(x)  y = mine.Twice(x) }} {function}", imports=', "mine" : 1'
    )
    found = rewritten(source, PASS)
    assert list(found.after.functions) == list(source.functions)
    assert found.op_types == ["Twice"]


def test_inputs_stay() -> None:
    found = rewritten(
        "g (float[N] x, float[M] z, float[1] o = {1}) => (float[N] y) { d = Mul(z, o)  y = Abs(x) }", PASS
    )
    assert [info.name for info in found.after.graph.input] == ["x", "z", "o"]
    assert list(found.initializers) == ["o"]


def test_unused_results_of_a_node_that_is_used() -> None:
    untouched("g (float[4] x) => (float[2] y) { y, d = Split<axis = 0>(x) }", PASS)


def test_random_nodes_inside_an_if_keep_it() -> None:
    body = """g (float[N] x, bool c) => (float[N] y) {
        d = If(c) <then_branch = t () => (float[N] p) { p = RANDOM(x) },
                   else_branch = e () => (float[N] q) { q = Neg(x) }>
        y = Abs(x)
    }"""
    untouched(body.replace("RANDOM", "RandomNormalLike"), PASS)
    assert rewritten(body.replace("RANDOM", "Exp"), PASS).op_types == ["Abs"]


def test_dead_nodes_in_nested_graphs() -> None:
    found = rewritten(
        """g (float[N] x, bool c) => (float[N] y) <float[1] w = {1}> {
            a = Neg(x)  b = Exp(x)
            y = If(c) <then_branch = t () => (float[N] p) { d = Mul(b, w)  p = Abs(a) },
                       else_branch = e () => (float[N] q) { q = Neg(a) }>
        }""",
        PASS,
    )
    assert found.op_types == ["Neg", "If", "Abs", "Neg"]


def test_a_loop_whose_results_nobody_reads() -> None:
    body = """g (float[N] x) => (float[N] y) <int64 n = {3}, bool on = {1}> {
        d = Loop(n, on, x) <body = b (int64 i, bool go, float[N] v) => (bool on_, float[N] w) {
            on_ = Identity(go)  w = OP(v)
        }>
        y = Abs(x)
    }"""
    assert rewritten(body.replace("OP", "Neg"), PASS).op_types == ["Abs"]
    assert "Loop" in rewritten(body.replace("OP", "RandomNormalLike"), PASS).op_types


def test_chains_go_in_one_turn() -> None:
    chain = "  ".join(f"a{i + 1} = Neg(a{i})" for i in range(50))
    found = rewritten(f"g (float[N] a0) => (float[N] y) {{ {chain}  y = Abs(a0) }}", PASS)
    assert found.op_types == ["Abs"]
    assert len(found.rules) == 50


def test_other_passes_of_a_fixpoint_hear_of_it() -> None:
    """The convolution has one reader less, and can take the next node in."""
    body = "c = Conv(x, w)  d = Exp(c)  y = Mul(c, k)"
    source = model(
        f"g (float[1,1,2,2] x) => (float[1,1,2,2] y) <float[1,1,1,1] w = {{3}}, float k = {{2}}> {{ {body} }}"
    )
    graph = ir.load(source)
    passes.run(graph, "fixpoint(fuse-conv-affine,remove-dead-nodes)")
    assert [node.op_type for node in ir.emit(graph).graph.node] == ["Conv"]
