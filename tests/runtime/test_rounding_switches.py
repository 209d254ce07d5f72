"""A model whose tensors are rounded to half precision where its inputs say so."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planish import ir
from planish.ir import DType, Graph
from planish.passes.kernels import cpu
from planish.passes.precision.convert_precision import ConvertPrecision
from planish.passes.run import Run
from planish.runtime.rounding_switches import Switches, add_switches
from planish.runtime.session import Session
from tests.equivalence import PLAIN, model

Singles = NDArray[np.float32]
X = np.random.default_rng(0).normal(0, 1, (3, 16)).astype(np.float32)
W = np.random.default_rng(1).normal(0, 1, (16, 16)).astype(np.float32)


def switched(graph: Graph) -> tuple[Session, Switches]:
    stage, run = ConvertPrecision(), Run(target=cpu())
    free = stage.chosen(graph, stage.survey(graph, run), run)
    found = add_switches(graph, free, {}, stage.half, cpu())
    return Session(ir.emit(graph).SerializeToString(), PLAIN), found


def net(opset: int = 17) -> Graph:
    b = ir.Builder(opset=opset)
    x = b.input("x", DType.FLOAT, ("n", 16))
    a = b.node("MatMul", (x, b.initializer("w", W)), result="a")
    b.output("y", b.node("Relu", (a,), result="y"))
    return b.graph()


def half(array: Singles) -> Singles:
    return array.astype(np.float16).astype(np.float32)


def run(session: Session, switches: Switches, stored: list[int], halves: list[int]) -> Singles:
    (found,) = session.run({"x": X, **switches.feeds(stored, halves)})
    assert isinstance(found, np.ndarray)
    return found.astype(np.float32)


def test_nothing_is_rounded_where_nothing_is_switched_on() -> None:
    session, switches = switched(net())
    (plain,) = Session(ir.emit(net()).SerializeToString(), PLAIN).run({"x": X})
    assert np.array_equal(run(session, switches, [], []), np.asarray(plain))
    assert [part.name for part in switches.parts] == ["a", "y"]
    assert [part.bytes for part in switches.parts] == [W.nbytes, 0]


def test_weights_and_numbers_are_switched_apart() -> None:
    session, switches = switched(net())
    product = Session(
        ir.emit(
            ir.load(model("g (float[N,16] x, float[16,16] w) => (float[N,16] y) { y = MatMul(x, w) }"))
        ).SerializeToString(),
        PLAIN,
    )

    def multiplied(x: Singles, w: Singles) -> Singles:
        (found,) = product.run({"x": x, "w": w})
        return np.asarray(found, np.float32)

    relu = np.float32(0)
    assert np.array_equal(run(session, switches, [0], []), np.maximum(multiplied(X, half(W)), relu))
    expected = half(np.maximum(half(multiplied(half(X), W)), relu))
    assert np.array_equal(run(session, switches, [], [0, 1]), expected)
    assert np.array_equal(run(session, switches, [], [1]), half(np.maximum(half(multiplied(X, W)), relu)))


def test_an_old_opset_is_raised_to_one_with_where() -> None:
    session, switches = switched(net(opset=8))
    assert np.isfinite(run(session, switches, [0], [0, 1])).all()


def test_what_overflows_shows() -> None:
    b = ir.Builder(opset=17)
    x = b.input("x", DType.FLOAT, ("n", 16))
    b.output("y", b.node("MatMul", (x, b.initializer("w", W * np.float32(1e4))), result="y"))
    session, switches = switched(b.graph())
    assert np.isfinite(run(session, switches, [0], [])).all()
    assert np.isinf(run(session, switches, [], [0])).any()


def test_branches_are_switched_from_outside() -> None:
    outer = ir.Builder(opset=17)
    x, c = outer.input("x", DType.FLOAT, ("n", 16)), outer.input("c", DType.BOOL, ())
    then, other = outer.body("then"), outer.body("else")
    then.output("t", then.node("Relu", (then.node("MatMul", (x, then.initializer("w", W)), result="a"),), result="t"))
    other.output("e", other.node("Abs", (x,), result="e"))
    made = outer.node("If", (c,), {"then_branch": then.graph(), "else_branch": other.graph()}, result="y")
    outer.output("y", made)
    session, switches = switched(outer.graph())
    (part, *_) = switches.parts
    assert part.name == "a"
    feeds = {"x": X, "c": np.array(True)}
    plain, rounded = (np.asarray(session.run({**feeds, **switches.feeds([], on)})[0]) for on in (list[int](), [0]))
    assert np.array_equal(rounded, half(rounded))
    assert not np.array_equal(plain, rounded)
