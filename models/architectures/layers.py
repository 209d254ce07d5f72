"""Layers as the two exporters of PyTorch spell them: TorchScript at opset 17 unfolded, dynamo at opset 20 unoptimized.

The spellings are those of PyTorch 2.13. TorchScript works shapes out by Shape, Gather, Unsqueeze and Concat of Constant
nodes; dynamo gives every convolution without a bias one made of zeros by Shape, CastLike and Expand, has one Constant
for each number, and transposes the weight of every linear layer on three or more axes at run time, as TorchScript does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from planish.ir import Builder, DType, Graph, Value
from planish.ir.types import Array

Exporter = Literal["torchscript", "dynamo"]
Extent = int | str
OPSETS: dict[Exporter, int] = {"torchscript": 17, "dynamo": 20}
LAST = 2**63 - 1
_FIRST = -(2**63) + 1


class Layers:
    """A Builder with layers; weights come from one generator, in the order of the layers, and are scaled so that
    activations stay near 1 (He et al. 2015)."""

    def __init__(self, name: str, exporter: Exporter, seed: int) -> None:
        self.b = Builder(name, opset=OPSETS[exporter])
        self.random = np.random.default_rng(seed)
        self.dynamo = exporter == "dynamo"
        self._names = 0
        self._zero: Value | None = None

    def graph(self, **outputs: Value) -> Graph:
        for name, value in outputs.items():
            self.b.output(name, value)
        return self.b.graph()

    # Constants and shapes

    def floats(self, name: str, array: Array) -> Value:
        self._names += 1
        return self.b.initializer(f"{name}.{self._names}", array.astype(np.float32))

    def weight(self, name: str, shape: Sequence[int], fan_in: int) -> Value:
        return self.floats(name, self.random.standard_normal(tuple(shape)) * math.sqrt(1 / fan_in))

    def vector(self, name: str, size: int, middle: float = 0.0) -> Value:
        return self.floats(name, middle + 0.1 * self.random.standard_normal(size))

    def constant(self, value: float | Sequence[float], dtype: DType = DType.INT64) -> Value:
        """A Constant node."""
        return self.b.node("Constant", (), {"value": np.asarray(value, dtype.numpy)})

    def number(self, value: float) -> Value:
        return self.constant(value, DType.FLOAT)

    def extent(self, x: Value, axis: int) -> Value:
        """The extent of an axis, a scalar."""
        if self.dynamo:
            shape = self.b.node("Shape", (x,), {"start": axis, "end": axis + 1})
            return self.b.node("Squeeze", (shape,))
        return self.b.node("Gather", (self.b.node("Shape", (x,)), self.constant(axis)), {"axis": 0})

    def vectors(self, dims: Sequence[Value | int]) -> Value:
        """Extents one by one, put together."""
        parts: list[Value] = []
        for dim in dims:
            if self.dynamo:
                one = self.constant((-1,))
                parts.append(self.constant((dim,)) if isinstance(dim, int) else self.b.node("Reshape", (dim, one)))
            else:
                scalar = self.constant(dim) if isinstance(dim, int) else dim
                parts.append(self.b.node("Unsqueeze", (scalar, self.constant((0,)))))
        return self.b.node("Concat", parts, {"axis": 0})

    def reshape(self, x: Value, *dims: Value | int) -> Value:
        return self.b.node("Reshape", (x, self.vectors(dims)), {"allowzero": int(self.dynamo)})

    def transpose(self, x: Value, *order: int) -> Value:
        return self.b.node("Transpose", (x,), {"perm": order})

    # Convolutions

    def conv(self, name: str, x: Value, channels: tuple[int, int], *, kernel: int = 1, stride: int = 1, group: int = 1,
             pad: int | None = None, bias: bool = False) -> Value:  # fmt: skip
        """From channels[0] to channels[1]; padded to keep the extents at stride 1 unless `pad` says otherwise."""
        shape = (channels[1], channels[0] // group, kernel, kernel)
        w = self.weight(f"{name}.weight", shape, math.prod(shape[1:]) if group == 1 else kernel * kernel)
        operands = [x, w]
        if bias:
            operands.append(self.vector(f"{name}.bias", channels[1]))
        elif self.dynamo:
            operands.append(self._zeros_like_channels(x, w))
        pads = (kernel // 2 if pad is None else pad,) * 4
        attributes = {"dilations": (1, 1), "group": group, "kernel_shape": (kernel, kernel), "pads": pads}
        return self.b.node("Conv", operands, {**attributes, "strides": (stride, stride)})

    def _zeros_like_channels(self, x: Value, w: Value) -> Value:
        shape = self.b.node("Expand", (self.b.node("Shape", (w,), {"start": 0, "end": 1}), self.constant((1,))))
        self._zero = self._zero or self.number(0.0)
        return self.b.node("Expand", (self.b.node("CastLike", (self._zero, x)), shape))

    def batch_norm(self, name: str, x: Value, channels: int) -> Value:
        operands = [
            x,
            self.vector(f"{name}.weight", channels, 1.0),
            self.vector(f"{name}.bias", channels),
            self.vector(f"{name}.running_mean", channels),
            self.floats(f"{name}.running_var", self.random.uniform(0.5, 1.5, channels)),
        ]
        return self.b.node("BatchNormalization", operands, {"epsilon": 1e-5, "momentum": 0.9})

    def max_pool(self, x: Value, kernel: int, stride: int, pad: int) -> Value:
        attributes = {"kernel_shape": (kernel, kernel), "strides": (stride, stride), "pads": (pad,) * 4}
        return self.b.node("MaxPool", (x,), attributes)

    def axes(self, *axes: int) -> Value:
        """Of a reduction: an attribute at opset 17, and a Constant reshaped to what it is by dynamo."""
        if not self.dynamo:
            return self.b.constant(np.asarray(axes, np.int64))
        return self.b.node("Reshape", (self.constant(axes), self.constant((-1,))))

    def global_mean(self, x: Value) -> Value:
        """The mean of each channel."""
        if not self.dynamo:
            return self.b.node("GlobalAveragePool", (x,))
        return self.b.node("ReduceMean", (x, self.axes(-1, -2)), {"keepdims": 1})

    def flatten(self, x: Value, channels: int, *, view: bool = False) -> Value:
        """All but the batch on one axis; `view` by torch's view rather than its flatten."""
        if not self.dynamo and not view:
            return self.b.node("Flatten", (x,))
        batch = x.shape[0] if x.shape else None
        return self.reshape(x, batch if isinstance(batch, int) else self.extent(x, 0), channels)

    def classify(self, x: Value, channels: int, classes: int, *, view: bool = False) -> Value:
        """The head of a convolutional net: global mean, flatten, linear."""
        return self.gemm("head", self.flatten(self.global_mean(x), channels, view=view), (channels, classes))

    # Linear layers

    def gemm(self, name: str, x: Value, features: tuple[int, int]) -> Value:
        w = self.weight(f"{name}.weight", (features[1], features[0]), features[0])
        return self.b.node("Gemm", (x, w, self.vector(f"{name}.bias", features[1])), {"transB": 1})

    def linear(self, name: str, x: Value, features: tuple[int, int], *, bias: bool = True) -> Value:
        """On three or more axes: the weight is transposed at run time, and TorchScript adds the bias first."""
        w = self.transpose(self.weight(f"{name}.weight", (features[1], features[0]), features[0]), 1, 0)
        y = self.b.node("MatMul", (x, w))
        if not bias:
            return y
        offset = self.vector(f"{name}.bias", features[1])
        return self.b.node("Add", (y, offset) if self.dynamo else (offset, y))

    def layer_norm(self, name: str, x: Value, width: int) -> Value:
        operands = (x, self.vector(f"{name}.weight", width, 1.0), self.vector(f"{name}.bias", width))
        return self.b.node("LayerNormalization", operands, {"axis": -1, "epsilon": 1e-6})

    # Activations

    def relu(self, x: Value) -> Value:
        return self.b.node("Relu", (x,))

    def relu6(self, x: Value) -> Value:
        bounds = (self.number(0.0), self.number(6.0))
        if self.dynamo:
            bounds = (self.b.node("CastLike", (bounds[0], x)), self.b.node("CastLike", (bounds[1], x)))
        return self.b.node("Clip", (x, *bounds))

    def hard_swish(self, x: Value) -> Value:
        return self.b.node("HardSwish", (x,))

    def hard_sigmoid(self, x: Value) -> Value:
        return self.b.node("HardSigmoid", (x,), {"alpha": 1 / 6, "beta": 0.5})

    def swish(self, x: Value) -> Value:
        return self.b.node("Mul", (x, self.b.node("Sigmoid", (x,))))

    def gelu(self, x: Value) -> Value:
        if self.dynamo:
            return self.b.node("Gelu", (x,), {"approximate": "none"})
        erf = self.b.node("Erf", (self.b.node("Div", (x, self.number(math.sqrt(2)))),))
        doubled = self.b.node("Mul", (x, self.b.node("Add", (erf, self.number(1.0)))))
        return self.b.node("Mul", (doubled, self.number(0.5)))

    # Attention

    def add(self, x: Value, y: Value) -> Value:
        return self.b.node("Add", (x, y))

    def mlp(self, name: str, x: Value, width: int, factor: int = 4) -> Value:
        hidden = self.gelu(self.linear(f"{name}.fc1", x, (width, factor * width)))
        return self.linear(f"{name}.fc2", hidden, (factor * width, width))

    def softmax(self, x: Value) -> Value:
        return self.b.node("Softmax", (x,), {"axis": -1})

    def split_three(self, x: Value) -> tuple[Value, Value, Value]:
        """Queries, keys and values, which lie one behind the other on the first axis."""
        if self.dynamo:
            spans = [((i,), (i + 1,), (0,)) for i in range(3)]
            parts = [self.b.node("Slice", (x, *map(self.constant, span))) for span in spans]
        else:
            parts = self.b.nodes("Split", (x, self.constant((1, 1, 1))), {"axis": 0}, results=3)
        a, b, c = (self.b.node("Squeeze", (part, self.constant((0,)))) for part in parts)
        return a, b, c

    def scaled_products(self, query: Value, key: Value) -> Value:
        """Scores of torch's scaled_dot_product_attention: both sides are scaled by the root of the scale."""
        b, shape = self.b, self.b.node("Shape", (query,))
        if self.dynamo:
            size = b.node("CastLike", (b.node("Gather", (shape, self.constant((-1,))), {"axis": 0}), query))
            one = b.node("CastLike", (self.number(1.0), query))
            scale = b.node("CastLike", (b.node("Div", (one, b.node("Sqrt", (size,)))), query))
            turned = self._last_two_turned(key)
            root = b.node("CastLike", (b.node("Sqrt", (scale,)), turned))
        else:
            size = b.node("Slice", (shape, self.constant((-1,)), self.constant((LAST,))))
            root = b.node("Sqrt", (b.node("Cast", (size,), {"to": int(DType.FLOAT)}),))
            scale = b.node("Div", (self.constant((1.0,), DType.FLOAT), root))
            scale = b.node("Cast", (scale,), {"to": int(DType.FLOAT)})
            turned, root = self.transpose(key, 0, 1, 3, 2), b.node("Sqrt", (scale,))
        left = b.node("Mul", (query, b.node("Sqrt", (scale,))))
        return b.node("MatMul", (left, b.node("Mul", (turned, root))))

    def _last_two_turned(self, x: Value) -> Value:
        """dynamo's transpose of keys, by way of three axes."""
        b, shape = self.b, self.b.node("Shape", (x,), {"start": 0})
        last = b.node("Slice", (shape, self.constant((-1,)), self.constant((LAST,))))
        other = b.node("Slice", (shape, self.constant((-2,)), self.constant((-1,))))
        outer = b.node("Slice", (shape, self.constant((_FIRST,)), self.constant((-2,))))
        flat = b.node("Reshape", (x, b.node("Concat", (self.constant((-1,)), other, last), {"axis": 0})))
        return b.node("Reshape", (self.transpose(flat, 0, 2, 1), b.node("Concat", (outer, last, other), {"axis": 0})))

    def broadcast_to(self, x: Value, dims: Value) -> Value:
        """Expand; in TorchScript -1 in the shape stands for 1."""
        if self.dynamo:
            return self.b.node("Expand", (x, dims))
        flat = self.b.node("Reshape", (dims, self.constant((-1,))))
        ones = self.b.node("ConstantOfShape", (self.b.node("Shape", (flat,)),), {"value": np.ones(1, np.int64)})
        open_ = self.b.node("Equal", (flat, self.b.node("Mul", (ones, self.constant(-1)))))
        return self.b.node("Expand", (x, self.b.node("Where", (open_, ones, flat))))

    def pads(self, x: Value, pairs: Value, counted: Value | None = None) -> Value:
        """Pad by torch's list of pairs, the last axis first, which TorchScript turns round at run time.

        counted: the pairs once more, where they are made at run time.
        """
        b = self.b
        size = b.node("Gather", (b.node("Shape", (counted or pairs,)), self.constant((0,))), {"axis": 0})
        twice = b.node("Mul", (self.constant(x.rank or 0), self.constant(2)))
        zeros = b.node("ConstantOfShape", (b.node("Sub", (twice, size)),), {"value": np.zeros(1, np.int64)})
        full = b.node("Concat", (b.node("Cast", (pairs,), {"to": int(DType.INT64)}), zeros), {"axis": 0})
        rows = b.node("Reshape", (full, self.constant((-1, 2))))
        bounds = ((-1,), (_FIRST,), (0,), (-1,))
        back = b.node("Slice", (rows, *(self.constant(bound) for bound in bounds)))
        flat = b.node("Reshape", (self.transpose(back, 1, 0), self.constant((-1,))))
        return b.node("Pad", (x, b.node("Cast", (flat,), {"to": int(DType.INT64)})), {"mode": "constant"})
