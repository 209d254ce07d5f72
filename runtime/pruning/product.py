"""A product of a pruned model that can be fitted: what it takes, what it is to give, and where its weights stand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from planish.ir import DType, Graph, Node, Value
from planish.ir.graph import constant
from planish.ir.tensor import ArrayTensor
from planish.passes.prune.carried import Addition, Place, add_to_biases
from planish.passes.quantize.gram import Window, gram_key
from planish.passes.replacing import erase_dead
from planish.runtime.cut import may_cross, outer_reads
from planish.runtime.patches import Rows
from planish.runtime.pruning.distributions import Affine
from planish.runtime.pruning.fitting import Change, Doubles

_FLOATS: Mapping[DType, float] = {
    DType.FLOAT16: 65504.0,
    DType.FLOAT: float(np.finfo(np.float32).max),
    DType.DOUBLE: float(np.finfo(np.float64).max),
}
"""The largest number of each."""
_MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class Product:
    """Conv, Gemm or MatMul of an activation with a constant weight that nothing else reads.

    wanted: the result that is to be as it was: the product's own, that of an addition of its bias or, in a residual
    block, the sum, so that the product makes up for what the skip lost, too. bias: where it has one or may get one.
    """

    node: Node
    x: Value
    weight: Value
    wanted: Value
    bias: Place | None
    level: int
    """So many products must be fitted before it, one after the other."""

    @property
    def rows(self) -> Rows:
        return Rows(self.node.op == "Gemm" and bool(self.node.get_int("transA")), Window.of(self.node))

    @property
    def groups(self) -> int:
        return self.node.get_int("group") if self.node.op == "Conv" else 1

    @property
    def channel(self) -> int:
        """The axis of the result that the outputs lie on."""
        return 1 if self.node.op == "Conv" else -1

    @property
    def feeds_softmax(self) -> bool:
        """Whether its outputs are the logits of a softmax, and nothing else."""
        logits = self.node.result if self.bias is None else self.bias.node.result
        if self.node.op == "Conv" or self.wanted is not logits or not logits.has_one_use:
            return False
        user, rank = logits.users[0], logits.rank
        return user.op == "Softmax" and rank is not None and user.get_int("axis") in (-1, rank - 1)

    @property
    def affine(self) -> Affine | None:
        """What it computes of a row, where it is no convolution."""
        tensor, bias = self.weight.constant, None if self.bias is None else self.bias.node.operand(self.bias.position)
        if tensor is None or self.node.op == "Conv" or self.bias is None:
            return None
        weight = tensor.array().astype(np.float64)
        weight = weight.T if self.node.op == "Gemm" and self.node.get_int("transB") else weight
        weight = weight * (self.node.get_float("alpha") if self.node.op == "Gemm" else 1.0)
        old = np.zeros(1) if bias is None or bias.constant is None else bias.constant.array().astype(np.float64)
        return Affine(weight, self.bias.factor * np.broadcast_to(old.reshape(-1), weight.shape[1]))

    def apply(self, change: Change) -> None:
        """Change the weights and the biases; the node may be another one afterwards."""
        graph, tensor = self.node.graph, self.weight.constant
        if graph is None or tensor is None:
            return
        array = tensor.array()
        new = (array.astype(np.float64) + _as_weight(self.node, change.weight, array.shape)).astype(array.dtype)
        home = self.weight.graph
        if home is not None and self.weight in home.initializers:
            graph.set_operand(self.node, 1, home.add_initializer(self.weight.name, ArrayTensor(new)))
            home.erase(self.weight)
        else:
            graph.set_operand(self.node, 1, constant(new, self.weight.name))
            if self.weight.producer is not None:
                erase_dead(self.weight.producer)
        if self.bias is not None:
            add_to_biases([Addition(self.bias, change.bias.reshape(-1))])

    def rounded(self, change: Change) -> Change | None:
        """The change of the weights as their element type can hold it; None where that is not finite."""
        tensor = self.weight.constant
        if tensor is None:
            return None
        array = tensor.array().astype(np.float64)
        with np.errstate(over="ignore"):
            new = (array + _as_weight(self.node, change.weight, array.shape)).astype(tensor.dtype.numpy)
        made = _from_weight(self.node, new.astype(np.float64) - array, change.weight.shape)
        factor = 1.0 if self.bias is None else abs(self.bias.factor)
        holds = np.isfinite(made).all() and np.abs(change.bias).max(initial=0) / factor < _FLOATS[tensor.dtype] / 4
        return Change(made, change.bias) if holds else None


def products(graph: Graph) -> tuple[list[Product], Mapping[str, str]]:
    """Those of a graph, and why others are left as they are, by the name of their result."""
    levels = _levels(graph)
    found: list[Product] = []
    left: dict[str, str] = {}
    for node in graph.nodes:
        if gram_key(node) is None:
            continue
        made = _product(node, levels)
        if isinstance(made, str):
            left[node.result.name] = made
        else:
            found.append(made)
    return found, left


def _levels(graph: Graph) -> dict[Value, int]:
    levels: dict[Value, int] = {}
    for node in graph.nodes:
        level = max((levels.get(value, 0) for value in outer_reads(node, graph)), default=0)
        level += gram_key(node) is not None
        levels.update(dict.fromkeys(node.results, level))
    return levels


def _product(node: Node, levels: Mapping[Value, int]) -> Product | str:
    x, w = node.operand(0), node.operand(1)
    if x is None or w is None or w.constant is None:
        return "its weight is no constant"
    shape = w.constant.shape
    if not may_cross(node.result):
        return "the type of its result is not known"
    if len(w.users) > 1:
        return "other nodes read its weight, too"
    if w.constant.dtype not in _FLOATS:
        return f"its weight is {w.constant.dtype.name.lower()}"
    if node.op != "Conv" and len(shape) != len(("rows", "columns")):
        return "its weight is no matrix"
    if node.op == "Gemm" and not node.get_float("alpha"):
        return "its alpha is 0"
    if _bytes(node, shape) > _MOST_BYTES:
        return f"its sums would take more than {_MOST_BYTES >> 20} MiB"
    bias, wanted = _bias(node, shape)
    return Product(node, x, w, _sum(wanted, levels), bias, levels[node.result])


def _bytes(node: Node, shape: tuple[int, ...]) -> int:
    """Of the sums over both kinds of samples."""
    if node.op == "Conv":
        k, outputs, groups = math.prod(shape[1:]), shape[0], node.get_int("group")
    else:
        k, outputs = shape[::-1] if node.op == "Gemm" and node.get_int("transB") else shape
        groups = 1
    return 2 * 8 * (groups * k * k + k * outputs)


def _bias(node: Node, shape: tuple[int, ...]) -> tuple[Place | None, Value]:
    """Where a bias is or may be written, and the value behind it."""
    outputs = shape[0 if node.op == "Conv" or (node.op == "Gemm" and node.get_int("transB")) else -1]
    result = node.result
    if node.op == "Conv":
        return (Place(node, 2, 1.0) if _is_row(node.operand(2), outputs, empty=True) else None), result
    if node.op == "Gemm" and (node.operand(2) is not None or not _adder(result, outputs)):
        beta = node.get_float("beta")
        return (Place(node, 2, beta) if beta and _is_row(node.operand(2), outputs, empty=True) else None), result
    adder = _adder(result, outputs)
    return (None, result) if adder is None else (adder, adder.node.result)


def _adder(value: Value, outputs: int) -> Place | None:
    """The addition of a constant row that alone reads a value."""
    if not value.has_one_use or value.users[0].op != "Add":
        return None
    node = value.users[0]
    position = int(node.operand(0) is value)
    return Place(node, position, 1.0) if _is_row(node.operand(position), outputs, empty=False) else None


def _is_row(value: Value | None, outputs: int, *, empty: bool) -> bool:
    if value is None:
        return empty
    if value.constant is None:
        return False
    shape = value.constant.shape
    return value.constant.size == 1 or (value.constant.size == outputs and shape[-1:] == (outputs,))


def _sum(value: Value, levels: Mapping[Value, int]) -> Value:
    """The sum of a value and of a skip that was fitted before; the value itself where there is none."""
    if not value.has_one_use or value.users[0].op != "Add":
        return value
    node = value.users[0]
    skip = node.operand(int(node.operand(0) is value))
    if skip is None or skip.constant is not None or skip.shape is None or skip.shape != value.shape:
        return value
    return node.result if levels.get(skip, 0) < levels[value] else value


def _as_weight(node: Node, change: Doubles, shape: tuple[int, ...]) -> Doubles:
    """[groups, k, outputs] as the weight has it."""
    if node.op == "Conv":
        return change.transpose(0, 2, 1).reshape(shape)
    matrix = change[0] / (node.get_float("alpha") if node.op == "Gemm" else 1.0)
    return matrix.T if node.op == "Gemm" and node.get_int("transB") else matrix


def _from_weight(node: Node, change: Doubles, shape: tuple[int, ...]) -> Doubles:
    if node.op == "Conv":
        return change.reshape(shape[0], shape[2], shape[1]).transpose(0, 2, 1)
    matrix = change.T if node.op == "Gemm" and node.get_int("transB") else change
    return matrix[None] * (node.get_float("alpha") if node.op == "Gemm" else 1.0)
