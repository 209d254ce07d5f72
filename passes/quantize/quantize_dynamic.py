"""Matrix products work on 8-bit codes of their activations, whose range is found at each run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from planish.ir import DType, Graph, Node, Value
from planish.ir.graph import constant
from planish.ir.infer import inherit
from planish.ir.tensor import SPOOL_BYTES
from planish.ir.types import Array
from planish.passes.errors import PipelineError
from planish.passes.manager import Pass
from planish.passes.opset import Opsets
from planish.passes.quantize.activation_codes import ActivationCodes, Writer, by_row, plain, smoothed, two_terms
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.linear_product import LinearProduct, linear_product
from planish.passes.quantize.ranges import min_max
from planish.passes.quantize.rounding.bias_correction import bias_correction, centred
from planish.passes.quantize.rounding.least_output_error import Rounded, least_output_error
from planish.passes.quantize.scaling import smoothing
from planish.passes.quantize.scheme import Doubles, Floats, Scheme, dequantize, parameters, quantize
from planish.passes.quantize.selection import is_named
from planish.passes.replacing import erase_dead, erase_unread, merge_origins
from planish.passes.run import Run

_SCHEME = Scheme(DType.INT8, symmetric=True, axis=1, narrow=True)
_MOST_ROWS = (2**31 - 1) // (255 * 128)
"""As long a sum of products of codes fits an int32."""
_LEAST_GAIN = 2.0
"""By which smoothing must lessen the squared error that the activations' codes are expected to make."""


@dataclass(frozen=True)
class QuantizeDynamic(Pass):
    """Let products with constant matrices, MatMul and Gemm, multiply 8-bit codes: DynamicQuantizeLinear of the
    activation, once for all that read it, and MatMulInteger with signed codes of the weight, a scale for each column.

    The spelling is the one that ONNX Runtime makes one kernel of, with the bias. Approximate: activations are rounded
    to 256 steps of the range that they have in each run, weights to 254 of that of their column. On x86 processors
    without VNNI sums of two products saturate at 16 bits.
    """

    name: ClassVar[str] = "quantize-dynamic"
    lossy: ClassVar[bool] = True

    only: str = "*"
    """Patterns of the products to quantize, joined by |: of their names, operators, weights or results."""
    exclude: str = ""
    ranges: Calibration | None = None
    """What was observed of the tensors of this very graph, for `smooth` and `rounding=gram`."""
    smooth: float = 0.0
    """The exponent, 0 to 1, by which outliers of the activations' channels move into the weights, where that is
    expected to help: SmoothQuant's alpha. 0 for none."""
    rows: str = ""
    """Patterns of the products whose activations are divided by the largest magnitude of each row first: no token
    with outliers spoils the others."""
    smoothed: str = "*"
    """Patterns of the products that `smooth` is for."""
    terms: str = ""
    """Patterns of the products whose activations are the sum of two 8-bit terms: nearly as exact as float activations,
    at twice the work."""
    rounding: Literal["nearest", "gram"] = "nearest"
    """gram: the codes of weights of the least error at the output, by the Gram matrices of `ranges`."""
    least: int = 4096
    """A matrix of fewer weights stays as it is."""

    def __post_init__(self) -> None:
        if not 0 <= self.smooth <= 1:
            raise PipelineError(f"quantize-dynamic takes smooth from 0 to 1, not {self.smooth}")
        if self.ranges is None and (self.smooth or self.rounding == "gram"):
            raise PipelineError("quantize-dynamic needs ranges=FILE, made by planish calibrate, for smooth and gram")

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        if run.allows("APPROXIMATE"):
            _Quantizer(self, graph, run).quantize()

    def wants(self, node: Node) -> bool:
        return is_named(node, self.only) and not is_named(node, self.exclude)


@dataclass
class _Weight:
    codes: Value
    scale: Value
    correction: Doubles
    """What to add to the bias, [N]."""


@dataclass
class _Quantizer:
    """One run of the pass over one graph."""

    options: QuantizeDynamic
    graph: Graph
    run: Run
    fronts: dict[tuple[Value, str], ActivationCodes] = field(default_factory=dict[tuple[Value, str], ActivationCodes])
    factors: dict[Value, Doubles | None] = field(default_factory=dict[Value, "Doubles | None"])
    weights: dict[tuple[Value, bool, float, bytes], _Weight] = field(
        default_factory=dict[tuple[Value, bool, float, bytes], _Weight]
    )

    def quantize(self) -> None:
        for node in self.graph.nodes:
            for nested in node.graphs:
                _Quantizer(self.options, nested, self.run, weights=self.weights).quantize()
            if self.run.exhausted:
                return
            if node.graph is self.graph and node not in self.graph.refused:
                product = self.wanted(node)
                if product is not None:
                    self.replace(product)

    def wanted(self, node: Node) -> LinearProduct | None:
        found = linear_product(node)
        if isinstance(found, str):
            if found and self.options.wants(node):
                self.run.note(f"{node.label}: {found}")
            return None
        rows, columns = found.shape
        if not self.options.wants(node) or rows * columns < self.options.least or rows > _MOST_ROWS:
            return None
        if found.x.producer is not None and found.x.producer.op == "DequantizeLinear":
            self.run.note(f"{node.label}: what it takes is quantized already")
            return None
        return found

    def replace(self, product: LinearProduct) -> None:
        matrix = product.matrix()
        if matrix is None:
            self.run.note(f"{product.node.label}: not all of its weights are finite")
            return
        sources = list(dict.fromkeys((product.node, product.last)))
        write = Writer(self.graph)
        kind, factors = self.kind(product)
        key = (product.x, kind)
        front = self.fronts.get(key) or self.front(write, product.x, kind, factors)
        write.before(product.node)
        new = _product(write, front, self.weight(product, matrix, factors), product.bias)
        obstacle = Opsets(self.run.kernels, self.run.newest_opset).obstacle(write.created, sources)
        if obstacle:
            write.undo()
            self.run.note(f"{product.node.label}: {obstacle}")
            return
        self.fronts[key] = front
        self.finish(write, product.last, new, sources)

    def finish(self, write: Writer, last: Node, new: Value, sources: Sequence[Node]) -> None:
        origin = merge_origins(sources)
        for node in write.created:
            node.origin = origin
        old = last.result
        new.name = old.name
        inherit(new, old)
        self.graph.replace_all_uses_with(old, new)
        self.run.log.extend(write.created)
        self.run.log.extend(new.users)
        self.run.record(f"quantize-{sources[0].op.lower()}", origin, new.name)
        read = [operand for node in sources for operand in node.operands[1:] if operand is not None]
        erase_dead(last)
        erase_unread(read)

    def kind(self, product: LinearProduct) -> tuple[str, Doubles | None]:
        """How the activation becomes codes, and the factors of its channels."""
        if is_named(product.node, self.options.terms, taken=True):
            return "two terms", None
        if is_named(product.node, self.options.rows, taken=True):
            return "by row", None
        if not is_named(product.node, self.options.smoothed, taken=True):
            return "plain", None
        if self.options.smooth and product.x not in self.factors:
            self.factors[product.x] = self.smoothing(product)
        factors = self.factors.get(product.x)
        return ("plain", None) if factors is None else ("smoothed", factors)

    def front(self, write: Writer, x: Value, kind: str, factors: Doubles | None) -> ActivationCodes:
        write.behind(x)
        if factors is not None:
            alone = all(user in self.smooth_readers(x) for user in x.users)
            return smoothed(write, x, factors, alone=alone)
        return {"plain": plain, "by row": by_row, "two terms": two_terms}[kind](write, x)

    def smooth_readers(self, x: Value) -> dict[Node, LinearProduct]:
        """The products that take an activation smoothed."""
        found: dict[Node, LinearProduct] = {}
        for user in x.users:
            product = self.wanted(user) if user.graph is self.graph and user.operand(0) is x else None
            other = any(is_named(user, patterns, taken=True) for patterns in (self.options.terms, self.options.rows))
            if product is not None and not other and is_named(user, self.options.smoothed, taken=True):
                found[user] = product
        return found

    def smoothing(self, product: LinearProduct) -> Doubles | None:
        """Factors for all that read an activation; None where none are known to help."""
        x = product.x
        seen = None if self.options.ranges is None else self.options.ranges.of(x)
        magnitudes = None if seen is None or x.rank is None else seen.channels.get(x.rank - 1)
        matrices = [each.matrix() for each in self.smooth_readers(x).values()]
        known = [matrix for matrix in matrices if matrix is not None]
        if magnitudes is None or len(known) < len(matrices) or len(magnitudes) != product.shape[0]:
            self.run.note(f"{product.node.label}: the channels of {x} were not observed, so that it is not smoothed")
            return None
        largest = np.max([np.abs(matrix).max(axis=1, initial=0) for matrix in known], axis=0).astype(np.float64)
        factors = smoothing(magnitudes, largest, exponent=self.options.smooth)
        energy = np.sum([np.square(matrix, dtype=np.float64).sum(axis=1) for matrix in known], axis=0)
        before = magnitudes.max(initial=0) ** 2 * energy.sum()
        after = (magnitudes / factors).max(initial=0) ** 2 * (energy * factors**2).sum()
        return factors if before > _LEAST_GAIN * after else None

    def weight(self, product: LinearProduct, matrix: Floats, factors: Doubles | None) -> _Weight:
        """The codes of a matrix whose rows are multiplied by the factors; those that are there already, if so."""
        scaled = matrix if factors is None else (matrix * factors[:, None]).astype(np.float32)
        tail = b"" if factors is None else factors.tobytes()
        key = (product.weight, product.transposed, product.factor, tail)
        if key not in self.weights:
            found, correction = self.rounded(product, scaled, factors)
            name = product.weight.name
            self.weights[key] = _Weight(
                self.constant(np.ascontiguousarray(found.codes), f"{name}_codes" if name else ""),
                self.constant(found.parameters.scale, f"{name}_scale" if name else ""),
                correction,
            )
        return self.weights[key]

    def rounded(self, product: LinearProduct, matrix: Floats, factors: Doubles | None) -> tuple[Rounded, Doubles]:
        nothing = np.zeros(matrix.shape[1])
        gram = (
            self.options.ranges.gram(product.node) if self.options.ranges and self.options.rounding == "gram" else None
        )
        if gram is None:
            if self.options.rounding == "gram":
                self.run.note(f"{product.node.label}: no Gram matrix was kept of it: its weights round to nearest")
            chosen = parameters(_SCHEME, *min_max(matrix, _SCHEME))
            return Rounded(quantize(matrix, chosen), chosen), nothing
        inverse = np.ones(len(matrix)) if factors is None else 1 / factors
        squares, means = gram.matrix[0] * np.outer(inverse, inverse), gram.mean[0] * inverse
        if product.bias is None:
            return least_output_error(matrix, squares, _SCHEME), nothing
        found = least_output_error(matrix, centred(squares, means, gram.count), _SCHEME)
        return found, bias_correction(matrix, dequantize(*found), means)

    def constant(self, array: Array, name: str) -> Value:
        spool = self.graph.root.spool
        return constant(spool.put(array) if spool is not None and array.nbytes >= SPOOL_BYTES else array, name)


def _product(write: Writer, front: ActivationCodes, weight: _Weight, bias: Floats | None) -> Value:
    """The sum over terms of x W, and the bias: behind the first term, whose kernel takes it, unless rows are scaled."""
    row = None if bias is None else constant((bias + weight.correction).astype(np.float32))
    total: Value | None = None
    for codes, scale, zero_point in ((term.codes, term.scale, term.zero_point) for term in front.terms):
        whole = write.add("MatMulInteger", (codes, weight.codes, zero_point)).result
        real = write.add("Cast", (whole,), attributes={"to": int(DType.FLOAT)}).result
        step = write.add("Mul", (scale, weight.scale)).result
        part = write.add("Mul", (real, step)).result
        if total is None and row is not None and front.rows is None:
            part = write.add("Add", (part, row)).result
        total = part if total is None else write.add("Add", (total, part)).result
    if total is None:
        raise ValueError("an activation has no terms")
    if front.rows is not None:
        total = write.add("Mul", (total, front.rows)).result
        total = total if row is None else write.add("Add", (total, row)).result
    return total
