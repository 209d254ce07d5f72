"""Weights of products become zero where that costs least."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from planish.ir import Graph, Node, Value
from planish.ir.graph import constant
from planish.ir.load_tensor import SparseTensor, sparse_tensor
from planish.ir.types import Array
from planish.passes.errors import PipelineError
from planish.passes.manager import RulePass
from planish.passes.pattern import Op
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.gram import PRODUCTS
from planish.passes.quantize.scheme import Doubles, Floats
from planish.passes.quantize.selection import is_named
from planish.passes.replacing import erase_unread
from planish.passes.rewrite import Contract, Match, Rule, rewrite
from planish.passes.run import Run
from planish.passes.sparsify.constant_weight import ConstantWeight, constant_weight
from planish.passes.sparsify.layer import Layer, Update, layer_of
from planish.passes.sparsify.pattern import Pattern
from planish.passes.sparsify.thinning import above_threshold, n_of_m, with_share

_NEEDS = "weights that the results hardly depend on; measure the results"
_HALF = 0.5
_BIAS = 2
_PLACE_BYTES = 8
"""Of an element in a sparse tensor, besides the element."""
_SPARSE_SINCE = 11


class _Made(NamedTuple):
    """What replaces a weight."""

    value: Value
    shift: Doubles | None
    """What to add to the bias of the node that reads it."""


@dataclass
class _Weights:
    """Those that one run of the pass has met."""

    options: Sparsify
    made: dict[Value, _Made | str] = field(default_factory=dict[Value, _Made | str])
    """By weight: what replaces it, or why nothing does."""
    results: set[Value] = field(default_factory=set[Value])
    chosen: dict[Value, Floats] | None = None
    """Matrices with zeros, where all weights were looked at together."""

    def product(self, m: Match) -> Value | None:
        """MatMul(x, w) -> MatMul(x, w with zeros), and so for Gemm and Conv, whose bias keeps the outputs' means"""
        node = m.root
        weight = constant_weight(node, self.options.wants)
        if isinstance(weight, str):
            return _left(m, weight)
        if weight.value in self.results:
            return None
        if weight.value not in self.made:
            self.made[weight.value] = self.make(m, weight)
        found = self.made[weight.value]
        if isinstance(found, str):
            return _left(m, found)
        operands = [found.value if operand is weight.value else operand for operand in node.operands]
        bias = node.operand(_BIAS)
        if found.shift is not None and bias is not None:
            shifted = (m.array(bias).astype(np.float64) + found.shift).astype(np.float32)
            operands[_BIAS] = m.constant(shifted, bias.name)
        return m.add_node(Node(node.op, operands, node.attributes, 1, node.name)).result

    def make(self, m: Match, weight: ConstantWeight) -> _Made | str:
        options = self.options
        if weight.value.constant is None or weight.value.constant.size < options.least:
            m.decline("the weights are few; sparsify{least=...} says how many there must be")
            return ""
        layer = layer_of(weight, options.shape, options.ranges, options.update)
        if isinstance(layer, str):
            return layer
        found = self.globally(m, layer) if options.scope == "global" else options.zeroed(layer)
        same = found is None or np.array_equal(found, layer.matrix)
        array = layer.stored(layer.matrix if found is None else found)
        sparse = options.storage == "sparse" and _may_be_sparse(m) and _is_smaller_sparse(array)
        if same and (not sparse or isinstance(weight.value.constant, SparseTensor)):
            m.decline("as many weights are zero as are asked for")
            return ""
        name = weight.value.name
        made = constant(sparse_tensor(array), name) if sparse else m.constant(array, name)
        self.results.add(made)
        return _Made(made, None if found is None or same else layer.bias_shift(found))

    def globally(self, m: Match, layer: Layer) -> Floats | None:
        if self.chosen is None:
            layers = self.options.layers(m.graph.root)
            found = with_share(list(layers.values()), self.options.shape, self.options.share) or []
            self.chosen = dict(zip(layers, found, strict=False))
        return self.chosen.get(layer.weight.value)


def _left(m: Match, why: str) -> None:
    if why:
        m.run.note(f"{m.root.label}: {why}")
        m.decline(why)


def _may_be_sparse(m: Match) -> bool:
    """Opset 11 brought Constant's sparse_value."""
    return m.graph.root.opset_imports.get("", 0) >= _SPARSE_SINCE


def _is_smaller_sparse(array: Array) -> bool:
    """ONNX's sparse tensors have a place of 64 bits for each element other than zero."""
    return int(np.count_nonzero(array)) * (array.itemsize + _PLACE_BYTES) < array.nbytes


@dataclass(frozen=True)
class Sparsify(RulePass):
    """Set weights of MatMul, Gemm and Conv to zero, those first that matter least: the file compresses better.

    It runs as fast as before: no kernel of ONNX Runtime's CPU provider leaves out zeros. Without `ranges` what matters
    is a weight's magnitude. With the Gram matrices of `ranges` it is what the layer's outputs lose, and the weights
    that stay make up for those that go, a few at a time, as far as they can on the inputs that the matrices are of; a
    constant bias keeps the outputs' means. Zeros stay zeros.

    A weight that a product and something else read stays; so does one that is not finite. One that has as many zeros as
    are asked for stays, too, so that a second run changes nothing.
    """

    name: ClassVar[str] = "sparsify"
    lossy: ClassVar[bool] = True

    ratio: float | None = None
    """The part of all elements, of one weight or of all, that becomes zero, or up to one unit less; half of them where
    nothing is said."""
    threshold: float | None = None
    """Instead: units whose importance is below. It is the root mean square, over a unit, of |w|; with `ranges`, of what
    the output loses, as a root mean square over its rows."""
    pattern: str = "unstructured"
    """The unit: a single weight (unstructured), all of one input (row), all of one output channel (column), a block.
    N:M keeps N of every M weights along the inputs, 2:4 for example, and takes neither ratio nor threshold."""
    block: str = ""
    """Inputs x output channels of a block: 4x4."""
    scope: Literal["local", "global"] = "local"
    """Whether the ratio is that of each weight, or of all together, the least important first."""
    update: Update = "obs"
    """obs: with Gram matrices, the others make up for what becomes zero; none: they stay as they are."""
    storage: Literal["dense", "sparse"] = "dense"
    """sparse: Constants with a sparse_value where these are smaller, from two thirds of zeros on, and the model's opset
    is at least 11. ONNX Runtime makes them dense when it opens the model."""
    only: str = "*"
    """Patterns of the nodes, joined by |: of their names, operators, weights or results."""
    exclude: str = ""
    ranges: Calibration | None = None
    least: int = 256
    """A weight of fewer elements stays as it is."""

    def __post_init__(self) -> None:
        shape = self.shape
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise PipelineError(f"sparsify takes ratio above 0 and up to 1, not {self.ratio}")
        if self.threshold is not None and not 0 < self.threshold < math.inf:
            raise PipelineError(f"sparsify takes threshold above 0, not {self.threshold}")
        asked = [name for name in ("ratio", "threshold") if getattr(self, name) is not None]
        if shape.of and asked:
            raise PipelineError(f"sparsify: the pattern {self.pattern} says how many weights go; leave out {asked[0]}")
        if len(asked) > 1:
            raise PipelineError("sparsify takes either ratio or threshold, not both")
        if self.block and self.pattern != "block":
            raise PipelineError(f"sparsify takes block with pattern=block, not with pattern={self.pattern}")
        if self.scope == "global" and (self.threshold is not None or shape.of):
            raise PipelineError(
                "sparsify takes scope=global with a ratio; a threshold and N:M are the same for all weights"
            )

    @property
    def shape(self) -> Pattern:
        return Pattern.parse(self.pattern, self.block)

    @property
    def share(self) -> float:
        return _HALF if self.ratio is None else self.ratio

    def wants(self, node: Node) -> bool:
        return is_named(node, self.only) and not is_named(node, self.exclude)

    def zeroed(self, layer: Layer) -> Floats | None:
        """A layer's matrix with the zeros that are asked for; None where it has them."""
        if self.threshold is not None:
            return above_threshold(layer, self.shape, self.threshold)
        if self.shape.of:
            return n_of_m(layer, self.shape)
        found = with_share([layer], self.shape, self.share)
        return None if found is None else found[0]

    def layers(self, graph: Graph) -> dict[Value, Layer]:
        found: dict[Value, Layer] = {}
        for node in graph.walk():
            weight = constant_weight(node, self.wants) if node.op in PRODUCTS and self.wants(node) else ""
            if isinstance(weight, str) or weight.value in found:
                continue
            tensor = weight.value.constant
            if tensor is not None and tensor.size >= self.least:
                layer = layer_of(weight, self.shape, self.ranges, self.update)
                if isinstance(layer, Layer):
                    found[weight.value] = layer
        return found

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        weights = _Weights(self)
        rewrite(graph, self.rules_of(weights), run, start)
        erase_unread(weights.made)

    def rules(self) -> Sequence[Rule]:
        return self.rules_of(_Weights(self))

    def rules_of(self, weights: _Weights) -> Sequence[Rule]:
        """A rule that makes one weight for all nodes that read it."""
        root, apply = Op(PRODUCTS, where=self.wants), weights.product
        return (Rule("zeros", root, Contract.APPROXIMATE, apply, apply.__doc__ or "", _NEEDS),)
