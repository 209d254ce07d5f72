"""Products by a large matrix become two by thin ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from planish.ir import Graph, Node, Value
from planish.passes.errors import PipelineError
from planish.passes.manager import RulePass
from planish.passes.pattern import Op
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.gram import PRODUCTS, aim_of
from planish.passes.quantize.quantize_weights import has_own_bias
from planish.passes.quantize.rounding.bias_correction import bias_correction
from planish.passes.quantize.scheme import Doubles, Floats
from planish.passes.quantize.selection import is_named
from planish.passes.quantize.stored_weights import StoredWeight
from planish.passes.replacing import erase_unread
from planish.passes.rewrite import Contract, Match, Rule, rewrite
from planish.passes.run import Run
from planish.passes.sparsify.constant_weight import ConstantWeight, constant_weight
from planish.passes.sparsify.factor_pair import is_factor
from planish.passes.sparsify.splitting import Split, Splitting, channel_split, matrix_split, spatial_split

_QUARTER = 0.25
_NEEDS = "weights of nearly low rank; measure the results"


@dataclass
class _Weights:
    """Those that one run of the pass has met."""

    options: Factorize
    known: dict[Value, Splitting | str] = field(default_factory=dict[Value, Splitting | str])
    shifts: dict[Value, Doubles] = field(default_factory=dict[Value, Doubles])
    """By weight, what to add to the bias of the node that reads it."""
    constants: dict[Value, tuple[Value, Value]] = field(default_factory=dict[Value, tuple[Value, Value]])

    def product(self, m: Match) -> Value | None:
        """MatMul(x, w) -> MatMul(MatMul(x, left), right), and so for Gemm and Conv; a bias stays on the second"""
        if is_factor(m.root):
            return m.decline("it is one of two factors already")
        weight = constant_weight(m.root, self.options.wants)
        if isinstance(weight, str):
            return _left(m, weight)
        if weight.value not in self.known:
            self.known[weight.value] = self.splitting(m, weight)
        found = self.known[weight.value]
        split = found if isinstance(found, str) else found.split_of(m.root)
        if isinstance(split, str):
            return _left(m, split)
        return self.two(m, weight.value, split)

    def splitting(self, m: Match, weight: ConstantWeight) -> Splitting | str:
        """How a weight is split, for all nodes that read it; else why it is not."""
        options, stored = self.options, weight.stored
        matrix, gram = weight.matrix(), weight.gram(options.ranges)
        if isinstance(matrix, str):
            return matrix
        if matrix.size < options.least:
            m.decline("the weights are few; factorize{least=...} says how many there must be")
            return ""
        if stored.groups != 1:
            return "a grouped convolution has a matrix for each group"
        if isinstance(gram, str):
            return gram
        if gram is None:
            return options.split(stored, matrix, None)
        has_bias = has_own_bias(weight.readers[0], stored)
        found = options.split(stored, matrix, aim_of(gram, 0, has_bias=has_bias) / gram.count)
        if has_bias and isinstance(found, Splitting):
            self.shifts[weight.value] = bias_correction(matrix, found.matrix, gram.mean[0])
        return found

    def two(self, m: Match, weight: Value, split: Split) -> Value:
        node = m.root
        if weight not in self.constants:
            names = [f"{weight.name}_{side}" if weight.name else "" for side in ("left", "right")]
            self.constants[weight] = m.constant(split.left, names[0]), m.constant(split.right, names[1])
        left, right = self.constants[weight]
        between = m.add(node.op, (node.operands[0], left), split.first)
        bias = node.operand(2)
        if bias is not None and weight in self.shifts:
            bias = m.constant((m.array(bias).astype(np.float64) + self.shifts[weight]).astype(np.float32), bias.name)
        second = Node(node.op, (between, right, *([] if bias is None else [bias])), split.second, 1, node.name)
        return m.add_node(second).result


def _left(m: Match, why: str) -> None:
    if why:
        m.run.note(f"{m.root.label}: {why}")
        m.decline(why)


@dataclass(frozen=True)
class Factorize(RulePass):
    """Write weights of MatMul, Gemm and Conv as products of two thin matrices, by singular values: fewer numbers, fewer
    multiply-accumulates.

    With the Gram matrices of `ranges` it is the outputs that change least, else the weights. A node is rewritten where
    that saves multiply-accumulates; two products take their time to start, so measure whether it is faster. A bias
    stays on the second, and with `ranges` a constant one keeps the outputs' means. Grouped convolutions stay, and so
    does what is two factors already: a product without bias that only another one reads, where both cost less than one
    in place of them would.
    """

    name: ClassVar[str] = "factorize"
    lossy: ClassVar[bool] = True

    rank: float | None = None
    """The rank, as a part of the largest that the matrix may have; a quarter of it where nothing is said."""
    error: float | None = None
    """Instead: how far the outputs of a node may move, as a part of their norm, less their means where a bias keeps
    these; without `ranges`, how far its weights may."""
    conv: Literal["channel", "spatial"] = "channel"
    """channel: a convolution to fewer channels, then one of 1 x 1 (Zhang et al. 2015, arXiv 1505.06798). spatial: of
    k x 1, then of 1 x k (Jaderberg et al. 2014, arXiv 1405.3866), of 2-D convolutions that are not dilated."""
    only: str = "*"
    """Patterns of the nodes, joined by |: of their names, operators, weights or results."""
    exclude: str = ""
    ranges: Calibration | None = None
    least: int = 1024
    """A weight of fewer elements stays as it is."""

    def __post_init__(self) -> None:
        for name, number in (("rank", self.rank), ("error", self.error)):
            if number is not None and not 0 < number < 1:
                raise PipelineError(f"factorize takes {name} between 0 and 1, not {number}")
        if self.rank is not None and self.error is not None:
            raise PipelineError("factorize takes either rank or error, not both")

    def wants(self, node: Node) -> bool:
        return is_named(node, self.only) and not is_named(node, self.exclude)

    def split(self, stored: StoredWeight, matrix: Floats, gram: Doubles | None) -> Splitting | str:
        error = self.error or 0.0
        rank = 0.0 if error else self.rank or _QUARTER
        if not stored.is_image:
            return matrix_split(matrix, gram, rank, error)
        kind = channel_split if self.conv == "channel" else spatial_split
        return kind(stored.shape, matrix, gram, rank, error)

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        weights = _Weights(self)
        rewrite(graph, self.rules_of(weights), run, start)
        erase_unread(weights.known)

    def rules(self) -> Sequence[Rule]:
        return self.rules_of(_Weights(self))

    def rules_of(self, weights: _Weights) -> Sequence[Rule]:
        """A rule that makes one pair of factors for all nodes that read a weight."""
        root, apply = Op(PRODUCTS, where=self.wants), weights.product
        return (Rule("factors", root, Contract.APPROXIMATE, apply, apply.__doc__ or "", _NEEDS),)
