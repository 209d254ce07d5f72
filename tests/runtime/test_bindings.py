"""Extents are found by trying: models that take only some are given those."""

from __future__ import annotations

import numpy as np
import pytest

from planish.ir import Builder, DType, Graph, GraphError, TensorType
from planish.runtime.bindings import WANTED, Binding, Symbols, find_bindings


def graph_of(**inputs: tuple[int | str | None, ...] | None) -> Graph:
    b = Builder()
    for name, shape in inputs.items():
        value = b.input(name, DType.FLOAT, shape)
        b.output(f"{name}_out", b.node("Identity", (value,)))
    return b.graph()


def test_free_symbols_take_three_extents_each_one_among_them() -> None:
    found = find_bindings(Symbols(graph_of(x=("n", 3, "h", "w"))), {}, lambda _: True)
    shapes = [binding.shapes["x"] for binding in found[:WANTED]]
    assert len(shapes) == WANTED
    for axis in (0, 2, 3):
        extents = {shape[axis] for shape in shapes}
        assert len(extents) == WANTED
        assert 1 in extents
    assert all(shape[2] != shape[3] for shape in shapes)
    assert found[WANTED].is_empty
    assert not any(binding.is_empty for binding in found[:WANTED])


def test_multiples_and_windows_are_found() -> None:
    def takes(binding: Binding) -> bool:
        n, h, w = binding.shapes["x"]
        return n in (1, 2, 5) and h % 32 == 0 and w % 32 == 0 and min(h, w) > 0

    found = find_bindings(Symbols(graph_of(x=("n", "h", "w"))), {}, takes)
    assert len(found) == WANTED
    assert all(takes(binding) for binding in found)
    assert len({binding.shapes["x"][1] for binding in found}) == WANTED
    found = find_bindings(Symbols(graph_of(x=("n", "length"))), {}, lambda b: b.shapes["x"][1] == 512)
    assert {binding.shapes["x"][1] for binding in found} == {512}
    assert len(found) == WANTED + 1


def test_symbols_that_must_agree_without_sharing_a_name_change_together() -> None:
    def takes(binding: Binding) -> bool:
        return binding.shapes["x"][0] == binding.shapes["state"][1] > 0 and binding.shapes["x"][1] >= 96

    found = find_bindings(Symbols(graph_of(x=(None, None), state=(2, None, 8))), {}, takes)
    assert len(found) == WANTED
    assert len({binding.shapes["x"][0] for binding in found}) == WANTED


def test_one_symbol_is_one_extent_and_a_sum_follows() -> None:
    found = find_bindings(Symbols(graph_of(a=("n", "past"), b=("n", "past + step"), c=("step",))), {}, lambda _: True)
    for binding in found:
        assert binding.shapes["a"][0] == binding.shapes["b"][0]
        assert binding.shapes["b"][1] == binding.shapes["a"][1] + binding.shapes["c"][0]


def test_static_models_have_one_binding_and_impossible_ones_none() -> None:
    assert [str(b) for b in find_bindings(Symbols(graph_of(x=(2, 3), k=())), {"k": 5}, lambda _: True)] == [
        "x=2,3 k=scalar k=5"
    ]
    assert find_bindings(Symbols(graph_of(x=("n",))), {}, lambda _: False) == ()
    assert str(Binding({})) == "no input"


def test_an_input_of_unknown_rank_is_given_one() -> None:
    found = find_bindings(Symbols(graph_of(x=None)), {}, lambda binding: len(binding.shapes["x"]) == 4)
    assert [len(binding.shapes["x"]) for binding in found] == [4]


def test_the_users_shapes_are_completed_and_checked() -> None:
    symbols = Symbols(graph_of(a=("n", 4), b=("n",), c=(2, 2)))
    assert symbols.complete(Binding({"a": (7, 4)})).shapes == {"a": (7, 4), "b": (7,), "c": (2, 2)}
    assert symbols.of(Binding({"a": (7, 4)})) == {"n": 7}
    for shapes, message in (
        ({"z": (1,)}, "there is no input 'z'; the inputs are a, b, c"),
        ({"a": (7,)}, r"input 'a' is float\[n, 4\], and the shape \[7\] has 1 axes"),
        ({"a": (7, 5)}, r"the shape \[7, 5\] is not of that type"),
        ({"a": (7, 4), "b": (8,)}, "the dim 'n' would be 7 and 8 in one run"),
        ({"c": (2, 2)}, "no shape is given for the input 'a', which has the dim 'n'"),
    ):
        with pytest.raises(GraphError, match=message):
            symbols.complete(Binding(shapes))


def test_overridable_initializers_need_no_shape() -> None:
    b = Builder()
    x = b.input("x", TensorType(DType.FLOAT, (3,)))
    b.output("y", b.node("Add", (x, b.input("scale", DType.FLOAT, (3,), default=np.ones(3, np.float32)))))
    assert list(Symbols(b.graph()).complete(Binding({})).shapes) == ["x"]
