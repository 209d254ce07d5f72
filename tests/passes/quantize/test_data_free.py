"""Ranges without data: those of BatchNormalizations by the formula, and what follows contains what a run gives."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from planish import ir, passes
from planish.ir import DType
from planish.models.tasks.digits import Digits
from planish.models.trained import TRAINED
from planish.passes.errors import CalibrationError
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.data_free import data_free_ranges
from planish.runtime.calibrate import calibrate

EPSILON = 1e-3
OPERATORS = {
    "Relu": "y = Relu (x)",
    "Sigmoid": "y = Sigmoid (x)",
    "Tanh": "y = Tanh (x)",
    "Erf": "y = Erf (x)",
    "Softplus": "y = Softplus (x)",
    "HardSigmoid": "y = HardSigmoid <alpha = 0.3, beta = 0.4> (x)",
    "falling HardSigmoid": "y = HardSigmoid <alpha = -0.3> (x)",
    "HardSwish": "y = HardSwish (x)",
    "Gelu": "y = Gelu (x)",
    "Gelu by tanh": 'y = Gelu <approximate = "tanh"> (x)',
    "Mish": "y = Mish (x)",
    "LeakyRelu": "y = LeakyRelu <alpha = 0.2> (x)",
    "Clip": "l = Constant <value_float = -0.5> () h = Constant <value_float = 1.5> () y = Clip (x, l, h)",
    "Clip above": "h = Constant <value_float = 1.5> () y = Clip (x, , h)",
    "Neg": "y = Neg (x)",
    "Add": "a = Relu (x) y = Add (a, x)",
    "Sub": "a = Relu (x) y = Sub (a, x)",
    "Mul": "a = Sigmoid (x) y = Mul (x, a)",
    "a square": "y = Mul (x, x)",
    "with channels": "k = Constant <value = float[1, 2, 1] {-2, 0.5}> () y = Mul (x, k)",
    "with a number for each place": "k = Constant <value = float[3] {-2, 0.5, 4}> () y = Add (x, k)",
    "Max": "a = Neg (x) y = Max (x, a)",
    "Min": "a = Neg (x) y = Min (x, a)",
    "Concat": "a = Neg (x) b = Relu (x) y = Concat <axis = 1> (a, b)",
    "Softmax": "y = Softmax (x)",
    "MaxPool": "y = MaxPool <kernel_shape = [2], pads = [1, 0]> (x)",
    "AveragePool": "y = AveragePool <kernel_shape = [2], pads = [1, 0]> (x)",
    "AveragePool with zeros": """a = Softplus (x)
        y = AveragePool <kernel_shape = [2], pads = [1, 0], count_include_pad = 1> (a)""",
    "Pad": "a = Softplus (x) p = Constant <value_ints = [0, 0, 1, 0, 0, 0]> () y = Pad (a, p)",
    "Transpose": "y = Transpose <perm = [2, 0, 1]> (x)",
    "Split": "a, y = Split <axis = 1, num_outputs = 2> (x)",
    "ReduceMean": "y = ReduceMean (x)",
}
UNKNOWN = {
    "Clip by a tensor": "h = ReduceMax <keepdims = 0> (z) y = Clip (x, , h)",
    "Exp": "y = Exp (x)",
    "another input": "y = Add (x, z)",
    "Resize by a cubic": 's = Constant <value_floats = [1.0, 1.0, 2.0]> () y = Resize <mode = "cubic"> (x, , s)',
}


def load(body: str) -> ir.Graph:
    """y of unknown rank, made of x and z."""
    interface = "(float[n, 2, 3] x, float[n, 2, 3] z) => (float[] y)"
    proto = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> net {interface} {{ {body} }}')
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    return ir.load(proto)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("ends", [(-3.0, 3.0), (0.5, 2.0), (-2.0, -1.0), (-0.5, -0.25), (0.0, 0.0)])
def test_what_a_run_gives_lies_within(name: str, ends: tuple[float, float]) -> None:
    graph = load(OPERATORS[name])
    found = data_free_ranges(graph, inputs={"x": ends}).tensors["y"].range
    assert found is not None
    x = np.random.default_rng(0).uniform(*ends, (400, 2, 3)).astype(np.float32)
    x[0, :, 0], x[1, :, 0] = ends
    run = calibrate(graph, [{"x": x, "z": x}], tensors=("y",)).tensors["y"].observed
    assert run is not None
    slack = 1e-5 * max(map(abs, found))
    assert found[0] - slack <= run[0] <= run[1] <= found[1] + slack
    if name not in ("Sub", "Add", "Mul", "a square", "Concat", "Softmax", "ReduceMean", "AveragePool", "Split") and (
        "with" not in name and name not in ("Max", "Min")
    ):  # those depend on their operand in one way alone, so that the interval is reached
        width = max(found[1] - found[0], 1e-6)
        assert run[0] - found[0] <= 0.05 * width + slack
        assert found[1] - run[1] <= 0.05 * width + slack


@pytest.mark.parametrize("name", UNKNOWN)
def test_nothing_is_said_of_what_is_not_known(name: str) -> None:
    assert "y" not in data_free_ranges(load(UNKNOWN[name]), inputs={"x": (-1.0, 1.0)}).tensors


def normalized() -> ir.Graph:
    b = ir.Builder()
    x = b.input("x", DType.FLOAT, ("n", 3, 8, 8))
    conv = b.node("Conv", (x, b.initializer("w", np.ones((2, 3, 1, 1), np.float32))), result="conv")
    values = {"gamma": [2.0, -1.0], "beta": [1.0, -3.0], "mean": [5.0, 0.0], "variance": [4.0, 0.25]}
    parameters = [b.initializer(name, np.asarray(numbers, np.float32)) for name, numbers in values.items()]
    bn = b.node("BatchNormalization", (conv, *parameters), {"epsilon": EPSILON}, result="bn")
    b.output("y", b.node("Relu", (bn,), result="y"))
    return b.graph()


def test_a_batch_normalization_tells_of_what_it_takes_and_gives() -> None:
    found = data_free_ranges(normalized())
    assert list(found.tensors) == ["conv", "bn", "y"]
    assert found.tensors["bn"].range == (-11.0, 13.0)
    assert found.tensors["bn"].channels[1].tolist() == [13.0, 9.0]
    assert found.tensors["y"].range == (0.0, 13.0)
    assert found.tensors["y"].channels[1].tolist() == [13.0, 3.0]
    spread = 6 * np.sqrt(np.asarray([4.0, 0.25]) + EPSILON)
    assert found.tensors["conv"].range == pytest.approx((5 - spread[0], 5 + spread[0]), rel=1e-6)
    assert found.tensors["bn"].count == 0
    assert data_free_ranges(normalized(), sigmas=1).tensors["bn"].range == (-4.0, 3.0)


def test_the_ranges_outlive_folding_under_the_names_of_results() -> None:
    graph = normalized()
    found = data_free_ranges(graph)
    passes.run(graph, "fuse")
    assert [node.op for node in graph.nodes] == ["Conv", "Relu"]
    assert found.of(graph.nodes[0].result) is found.tensors["bn"]


def test_a_trained_net_lies_within() -> None:
    """In the shipped net the guess of 6 deviations holds for every BatchNormalization, on fifty of its digits."""
    graph = ir.load(TRAINED["digits-cnn"])
    guessed, seen = data_free_ranges(graph), calibrate(TRAINED["digits-cnn"], Digits(), limit=50)
    norms = [node.result.name for node in graph.nodes if node.op == "BatchNormalization"]
    assert norms
    for name in norms:
        assert _inside(seen, guessed, name)


def _inside(seen: Calibration, guessed: Calibration, name: str) -> bool:
    a, b = seen.tensors[name].observed, guessed.tensors[name].range
    return a is not None and b is not None and b[0] <= a[0] <= a[1] <= b[1]


def test_wrong_inputs_are_told() -> None:
    with pytest.raises(CalibrationError, match="the model has no input 'image': its inputs are x"):
        data_free_ranges(normalized(), inputs={"image": (0.0, 1.0)})
    with pytest.raises(CalibrationError, match=r"no range of finite numbers"):
        data_free_ranges(normalized(), inputs={"x": (1.0, 0.0)})
