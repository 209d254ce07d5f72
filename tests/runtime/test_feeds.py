"""Inputs: each set holds what it is named for, in every type, and integers stay where the graph can take them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from planish.ir import Builder, DType, Graph, GraphError, OpaqueType, OptionalType, SequenceType, TensorType, Value
from planish.runtime.bindings import Binding
from planish.runtime.feeds import KINDS, NONFINITE, NORMAL, Feeds, Kind, large
from planish.runtime.ranges import boundaries, limits, words

KIND = {kind.name: kind for kind in KINDS}
FLOATS = (DType.FLOAT, DType.DOUBLE, DType.FLOAT16, DType.BFLOAT16, DType.FLOAT8E4M3FN, DType.FLOAT8E5M2)
INTEGERS = (DType.INT8, DType.UINT8, DType.INT16, DType.UINT16, DType.INT32, DType.UINT32, DType.INT64, DType.UINT64)
SHAPE = (64, 8)


def passing(dtype: DType) -> Graph:
    b = Builder(opset=24)
    b.output("y", b.node("Identity", (b.input("x", dtype, ("n", 8)),)))
    return b.graph()


def feed(
    graph: Graph,
    kind: Kind,
    name: str = "x",
    *,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    shape: tuple[int, ...] = SHAPE,
    turn: int = 0,
) -> NDArray[np.generic]:
    found = Feeds(graph, {}, ranges or {}, 0).make(kind, Binding({name: shape}), turn=turn).feeds[name]
    assert isinstance(found, np.ndarray)
    assert found.shape == shape
    return found


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", [*KINDS, large(1e6)], ids=lambda kind: kind.name)
def test_floats_are_finite_in_their_type(dtype: DType, kind: Kind) -> None:
    found = feed(passing(dtype), kind)
    assert found.dtype == dtype.numpy
    assert np.isfinite(found.astype(np.float64)).all()


def test_each_set_holds_what_it_is_named_for() -> None:
    graph = passing(DType.FLOAT)
    found = {kind.name: feed(graph, kind).astype(np.float64) for kind in (*KINDS, large(1e6))}
    assert (found["negative"] < 0).all()
    assert (found["normal"] < 0).any()
    assert (found["normal"] > 0).any()
    assert ((found["uniform"] >= 0) & (found["uniform"] < 1)).all()
    assert (np.abs(found["denormal"]) < np.finfo(np.float32).tiny).all()
    assert found["denormal"].any()
    assert np.abs(found["large"]).max() > 1e6
    assert np.abs(found["shifted"]).max() > 10
    assert 0 < np.abs(found["tiny"]).max() < 1e-4
    assert len(np.unique(found["ties"])) == 4
    zeros = feed(graph, KIND["zeros"])
    assert not zeros.any()
    assert np.signbit(zeros).any()
    assert not np.signbit(zeros).all()
    special = feed(graph, NONFINITE)
    assert {str(value) for value in special.ravel() if not np.isfinite(value)} == {"nan", "inf", "-inf"}


def test_the_same_arguments_give_the_same_inputs() -> None:
    graph = passing(DType.FLOAT)
    np.testing.assert_array_equal(feed(graph, NORMAL), feed(graph, NORMAL))
    assert (feed(graph, NORMAL) != feed(graph, NORMAL, turn=1)).any()
    one = Feeds(graph, {}, {}, 1).make(NORMAL, Binding({"x": SHAPE})).feeds["x"]
    assert isinstance(one, np.ndarray)
    assert (feed(graph, NORMAL) != one).any()


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("kind", [*KINDS, large(1e6)], ids=lambda kind: kind.name)
def test_integers_fit_their_type(dtype: DType, kind: Kind) -> None:
    found = feed(passing(dtype), kind)
    assert found.dtype == dtype.numpy


def test_integers_that_nothing_bounds_reach_the_ends_of_their_type() -> None:
    found = feed(passing(DType.INT64), large(1e6))
    assert np.abs(found.astype(np.float64)).max() > 2.0**61
    small = feed(passing(DType.INT64), NORMAL).astype(np.int64)
    assert (small.min(), small.max()) == (0, 9)
    assert feed(passing(DType.INT64), KIND["negative"]).astype(np.int64).min() < 0
    bytes_ = feed(passing(DType.UINT8), NORMAL).astype(np.int64)
    assert bytes_.max() > 200
    assert limits(DType.INT4) == (-8, 7)
    assert limits(DType.UINT2) == (0, 3)


def index_graph(carry: str = "") -> Graph:
    b = Builder()
    ids = b.input("ids", DType.INT64, ("n", "m"))
    table = b.input("table", DType.FLOAT, ("rows", 4))
    if carry == "Unsqueeze":
        ids = b.node("Unsqueeze", (ids, b.constant(np.asarray([0], np.int64))))
    elif carry:
        ids = b.node(carry, (ids,))
    b.output("y", b.node("Gather", (table, ids)))
    return b.graph()


@pytest.mark.parametrize("carry", ["", "Identity", "Transpose", "Unsqueeze"])
@pytest.mark.parametrize("rows", [1, 3, 50])
def test_indices_follow_the_axis_that_they_run_along(carry: str, rows: int) -> None:
    feeds = Feeds(index_graph(carry), {}, {}, 0)
    binding = Binding({"ids": (40, 10), "table": (rows, 4)})
    seen: set[int] = set()
    for kind in (*KINDS, large(1e6), feeds.boundaries):
        found = feeds.make(kind, binding).feeds["ids"]
        assert isinstance(found, np.ndarray)
        seen |= {int(index) for index in found.ravel().tolist()}
    assert seen == set(range(-rows, rows))


def test_numbers_that_make_shapes_stay_small_and_divisors_are_never_zero() -> None:
    b = Builder()
    times = b.input("times", DType.INT64, (2,))
    divisor = b.input("divisor", DType.INT32, ("n",))
    x = b.input("x", DType.INT32, ("n",))
    doubled = b.node("Mul", (times, b.constant(np.asarray([1, 2], np.int64))))
    b.output("tiled", b.node("Tile", (b.constant(np.zeros((1, 1), np.float32)), doubled)))
    b.output("quotient", b.node("Div", (x, divisor)))
    feeds = Feeds(b.graph(), {}, {}, 0)
    binding = Binding({"times": (2,), "divisor": (99,), "x": (99,)})
    for kind in (*KINDS, large(1e6), feeds.boundaries):
        found = feeds.make(kind, binding).feeds
        assert isinstance(found["times"], np.ndarray)
        assert isinstance(found["divisor"], np.ndarray)
        assert 1 <= int(found["times"].min().item()) <= int(found["times"].max().item()) <= 4
        assert found["divisor"].all()


def test_the_boundaries_are_the_graphs_own() -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, ("n", 8))
    k = b.input("k", DType.INT64, ())
    low, high = (b.constant(np.asarray(value, np.float32)) for value in (-2.5, 6.0))
    body = b.body("then")
    body.output("a", body.node("LeakyRelu", (x,), {"alpha": 0.125}))
    other = b.body("else")
    other.output("b", other.node("Clip", (x, low, high)))
    same = b.node("Equal", (k, b.constant(np.asarray(16000, np.int64))))
    b.output("y", b.node("If", (same,), {"then_branch": body.graph(), "else_branch": other.graph()}))
    scale, zero = b.constant(np.asarray(0.5, np.float32)), b.constant(np.asarray(3, np.uint8))
    b.output("q", b.node("QuantizeLinear", (x, scale, zero)))
    graph = b.graph()
    assert {-2.5, 6.0, 0.125, 16000.0, 0.5, 0.75, 0.25, 63.75} <= set(boundaries(graph))
    found = feed_all(graph)
    assert {np.float32(-2.5), np.nextafter(np.float32(-2.5), np.float32(0)), np.float32(6)} <= set(found["x"].ravel())
    seen = {int(feed_all(graph, turn)["k"].item()) for turn in range(60)}
    assert {15999, 16000, 16001} <= seen


def feed_all(graph: Graph, turn: int = 0) -> dict[str, NDArray[np.generic]]:
    feeds = Feeds(graph, {}, {}, 0)
    made = feeds.make(feeds.boundaries, Binding({"x": SHAPE, "k": ()}), turn=turn).feeds
    return {name: value for name, value in made.items() if isinstance(value, np.ndarray)}


def test_strings_are_those_that_the_graph_looks_for_and_odd_ones() -> None:
    b = Builder(imports={"ai.onnx.ml": 3})
    x = b.input("x", DType.STRING, ("n", 8))
    keys = {"keys_strings": ("cat", "dog"), "values_int64s": (1, 2), "default_int64": 0}
    b.output("y", b.node("ai.onnx.ml::LabelEncoder", (x,), keys))
    assert {"cat", "dog"} <= set(words(b.graph()))
    assert {"cat", "dog", ""} <= set(feed(b.graph(), NORMAL).ravel().tolist())


def test_bools_are_mixed_and_uniform() -> None:
    graph = passing(DType.BOOL)
    assert 0 < np.count_nonzero(feed(graph, NORMAL)) < SHAPE[0] * SHAPE[1]
    assert not feed(graph, KIND["zeros"]).any()
    assert feed(graph, large(1e6)).all()


def test_sequences_and_optionals() -> None:
    b = Builder()
    tensor = TensorType(DType.FLOAT, (2, 3))
    parts = b.input("parts", SequenceType(tensor))
    maybe = b.input("maybe", OptionalType(tensor))
    b.output("y", b.node("SequenceLength", (parts,)))
    b.output("z", b.node("OptionalHasElement", (maybe,)))
    feeds = Feeds(b.graph(), {}, {}, 0)
    binding = Binding({"parts": (2, 3), "maybe": (2, 3)})
    found = feeds.make(NORMAL, binding).feeds
    assert isinstance(found["parts"], list)
    assert all(part.shape == (2, 3) and part.dtype == np.float32 for part in found["parts"])
    assert isinstance(found["maybe"], np.ndarray)
    assert feeds.make(KIND["zeros"], binding).feeds["maybe"] is None


def test_the_users_ranges_and_values_win() -> None:
    graph = passing(DType.FLOAT)
    for kind in (*KINDS, large(1e6)):
        found = feed(graph, kind, ranges={"x": (0.25, 0.5)}).astype(np.float64)
        assert ((found >= 0.25) & (found <= 0.5)).all()
    for kind in (*KINDS, large(1e6)):
        found = feed(passing(DType.INT64), kind, ranges={"x": (-3, 300)}).astype(np.int64)
        assert ((found >= -3) & (found <= 300)).all()
    fixed = Feeds(passing(DType.INT64), {"x": 16000}, {}, 0)
    binding = fixed.complete(Binding({"x": (2, 8)}, {"x": 1}))
    found_fixed = fixed.make(large(1e6), binding).feeds["x"]
    assert isinstance(found_fixed, np.ndarray)
    assert set(found_fixed.ravel().tolist()) == {16000}


def test_overridable_initializers_are_given_only_when_asked_for() -> None:
    def make(b: Builder) -> Value:
        x = b.input("x", DType.FLOAT, ("n",))
        return b.node("Mul", (x, b.input("scale", DType.FLOAT, (3,), default=np.ones(3, np.float32))))

    b = Builder()
    b.output("y", make(b))
    feeds = Feeds(b.graph(), {}, {}, 0)
    plain = feeds.make(NORMAL, Binding({"x": (3,)}))
    overridden = feeds.make(NORMAL, Binding({"x": (3,)}), overridden=True)
    assert (plain.name, list(plain.feeds)) == ("normal", ["x"])
    assert (overridden.name, list(overridden.feeds)) == ("overridden", ["x", "scale"])


def test_what_cannot_be_made_up_is_an_error() -> None:
    b = Builder()
    x = b.input("x", OpaqueType(b"map"))
    b.output("y", b.node("vendor::Read", (x,)), TensorType(DType.FLOAT, None))
    with pytest.raises(GraphError, match="'x' is of the type opaque"):
        Feeds(b.graph(), {}, {}, 0).make(NORMAL, Binding({"x": ()}))
    with pytest.raises(GraphError, match="there is no input 'z'; the inputs are x"):
        Feeds(b.graph(), {}, {"z": (0, 1)}, 0)
