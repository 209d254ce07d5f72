"""Nets of operators between DequantizeLinear and QuantizeLinear, laid node by node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.generic]
_RNG = np.random.default_rng(0)
_MIDDLE = {np.uint8: 128, np.int8: 0}


@dataclass
class Layers:
    """Nodes and constants of a net from x to y whose activations have codes of one type."""

    code: type[np.uint8] | type[np.int8] = np.uint8
    opset: int = 17

    def __post_init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}

    def add(self, op: str, inputs: Sequence[str], **attributes: object) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        made = helper.make_node(op, inputs, [name], name=f"n{name}")
        made.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(made)
        return name

    def constant(self, array: Array | float) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = array if isinstance(array, np.ndarray) else np.array(array, np.float32)
        return name

    def coded(self, x: str, scale: float = 0.05, zero: int | None = None) -> str:
        """x by way of codes."""
        return self.real(self.codes(x, scale, zero), scale, zero)

    def codes(self, x: str, scale: float = 0.05, zero: int | None = None) -> str:
        return self.add("QuantizeLinear", (x, self.constant(scale), self.zero(zero)))

    def real(self, codes: str, scale: float = 0.05, zero: int | None = None) -> str:
        return self.add("DequantizeLinear", (codes, self.constant(scale), self.zero(zero)))

    def zero(self, zero: int | None) -> str:
        return self.constant(np.array(_MIDDLE[self.code] if zero is None else zero, self.code))

    def weight(
        self, shape: tuple[int, ...], axis: int | None = 0, zero: Sequence[int] = (), code: type[np.generic] = np.int8
    ) -> str:
        codes = _RNG.integers(-100, 100, shape).astype(code)
        if axis is None:
            return self.add(
                "DequantizeLinear", (self.constant(codes), self.constant(0.01), self.constant(np.array(0, code)))
            )
        scales = self.constant((0.01 * (1 + np.arange(shape[axis]) / 7)).astype(np.float32))
        zeros = self.constant(np.array(zero or [0] * shape[axis], code))
        return self.add("DequantizeLinear", (self.constant(codes), scales, zeros), axis=axis)

    def bias(self, steps: Array, factor: float = 0.05, codes: Sequence[int] | None = None) -> str:
        """Codes in the steps of 0.05 times those of the weights."""
        count = np.arange(steps.size) if codes is None else np.array(codes)
        made = (count * 1000 - 1500).astype(np.int32)
        scale = self.constant((np.asarray(steps, np.float64) * factor).astype(np.float32))
        return self.add("DequantizeLinear", (self.constant(made), scale, self.constant(np.zeros_like(made))), axis=0)

    def model(self, y: str, shape: Sequence[int | str], rank: int | None = None) -> onnx.ModelProto:
        graph = helper.make_graph(
            [*self.nodes, helper.make_node("Identity", [y], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * (len(shape) if rank is None else rank))],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
