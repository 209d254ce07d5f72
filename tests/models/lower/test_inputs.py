"""Example inputs: taken, made up, resized, drawn; and each wrong one is one clear error."""

from __future__ import annotations

import numpy as np
import pytest

from planish.models.lower import LowerError
from planish.models.lower.inputs import Inputs, Spec, check_dims, drawn, other_extents, resized

X, K = Spec("x"), Spec("k", "int64", (), required=False)


def test_an_example_is_taken_by_name_in_order_or_alone() -> None:
    x, k = np.ones((2, 3), np.float32), np.array(3)
    for example in ({"k": k, "x": x}, [x, k], (x, k)):
        found = Inputs(example).arrays([X, K])
        assert list(found) == ["x", "k"]
        assert found["x"] is x
    assert list(Inputs(x).arrays([X, K])) == ["x"]
    assert Inputs([["a"], ["b"]]).arrays([Spec("a"), Spec("b")])["b"].tolist() == ["b"]


def test_inputs_are_made_up_the_same_each_time() -> None:
    inputs = Inputs(shapes={"x": (2, 3)}, dtypes={"x": "int32"}, ranges={"x": (5, 7)}, fixed={"k": 16000})
    found = inputs.arrays([X, K])
    assert (found["x"].dtype, found["x"].shape) == (np.int32, (2, 3))
    assert set(found["x"].reshape(-1).tolist()) <= {5, 6, 7}
    assert (found["k"].dtype, found["k"].item()) == (np.int64, 16000)
    np.testing.assert_array_equal(found["x"], inputs.arrays([X, K])["x"])
    assert list(Inputs(shapes={"x": (2,)}).arrays([X, K])) == ["x"]


def test_an_open_first_axis_is_two_rows() -> None:
    assert Inputs().arrays([Spec("x", "float16", (None, 4))])["x"].shape == (2, 4)
    assert Inputs().arrays([Spec("x", "float16", (None, 4))])["x"].dtype == np.float16


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (Inputs(shapes={"z": (1,)}), "there is no input 'z'; the inputs are x, k"),
        (Inputs(dynamic={"z": {0: "batch"}}), "there is no input 'z'"),
        (Inputs({"x": 1, "z": 1}), "there is no input 'z'"),
        (Inputs({"k": np.array(1)}), "the example has no input 'x'; the model needs x, k"),
        (Inputs([1, 2, 3]), "the example has 3 inputs and the model has 2: x, k"),
        (Inputs([object()]), "holds a object that is no array"),
        (Inputs([1], {"x": (1,)}), "exclude each other"),
        (Inputs(), "input 'x' has no example and no shape"),
        (Inputs(shapes={"x": (1,)}, dtypes={"x": "int7"}), "there is no element type 'int7'; there are float32"),
        (Inputs(shapes={"x": (1,)}, dtypes={"x": "str"}), "input 'x' holds strings, which cannot be made up"),
    ],
)
def test_wrong_examples(inputs: Inputs, message: str) -> None:
    with pytest.raises(LowerError, match=message):
        inputs.arrays([X, K])


def test_an_open_inner_axis_must_be_said() -> None:
    with pytest.raises(LowerError, match="axis 1 of input 'ids' may have any extent"):
        Inputs().arrays([Spec("ids", "int64", (None, None))])


def test_dynamic_dims_have_one_extent_each() -> None:
    example = {"x": np.ones((2, 5)), "y": np.ones((3, 5))}
    assert check_dims(example, {"x": {0: "a", 1: "n"}, "y": {0: "b", 1: "n"}}) == {"a": 2, "n": 5, "b": 3}
    with pytest.raises(LowerError, match="'a' is 2 and 3 in the example"):
        check_dims(example, {"x": {0: "a"}, "y": {0: "a"}})
    with pytest.raises(LowerError, match="input 'x' has 2 axes, so its axis 2 cannot be dynamic"):
        check_dims(example, {"x": {2: "a"}})


def test_an_example_is_resized_by_repeating_it() -> None:
    example = {"x": np.array([[1, 2], [3, 4]]), "y": np.array([5])}
    found = resized(example, {"x": {0: "n"}}, {"n": 3})
    assert found["x"].tolist() == [[1, 2], [3, 4], [1, 2]]
    assert found["y"] is example["y"]
    assert resized(example, {"x": {0: "n", 1: "n"}}, {"n": 1})["x"].tolist() == [[1]]


def test_drawn_values_are_the_examples_own() -> None:
    example = {"x": np.arange(100).reshape(10, 10), "s": np.array(["a", "b"], object), "k": np.array(7)}
    found = drawn(example, np.random.default_rng(0))
    assert found["x"].shape == (10, 10)
    assert not np.array_equal(found["x"], example["x"])
    assert set(found["x"].reshape(-1).tolist()) <= set(range(100))
    assert set(found["s"].tolist()) <= {"a", "b"}
    assert found["k"] is example["k"]


def test_bounds_of_integers_are_those_of_the_example() -> None:
    example = {"ids": np.array([3, 9]), "x": np.ones(3, np.float32), "k": np.array([1, 2])}
    assert Inputs(ranges={"k": (0, 5)}).bounds(example) == {"ids": (3, 9), "k": (0, 5)}


def test_other_extents_differ_from_each_other() -> None:
    for extent in (1, 2, 3, 224):
        found = list(other_extents(extent))
        assert len(set(found)) == len(found)
        assert all(candidate >= 1 for candidate in found)
