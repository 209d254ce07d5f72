"""Weights are stored as codes of 4 or 8 bits with scales; the arithmetic stays in float."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np

from planish.ir import DType, Graph, Node, Value
from planish.ir.types import Array
from planish.passes.errors import PipelineError
from planish.passes.kernels import CONTRIB
from planish.passes.manager import RulePass
from planish.passes.pattern import Op
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.gather_block_quantized import OP as GATHER
from planish.passes.quantize.gather_block_quantized import attributes_of, is_gathered_alone, table_operands
from planish.passes.quantize.matmul_n_bits import LEAST_BLOCK, OP, block_of, packed_operands
from planish.passes.quantize.rounding.least_output_error import Rounded
from planish.passes.quantize.scheme import Doubles, Floats
from planish.passes.quantize.selection import is_named
from planish.passes.quantize.stored_weights import (
    Rounding,
    StoredWeight,
    bias_shift,
    operand_of,
    rounded,
    scheme_for,
    stored_weight,
)
from planish.passes.replacing import erase_unread
from planish.passes.rewrite import Contract, Match, Rule, rewrite
from planish.passes.run import Run

_BITS = (4, 8)
_NEEDS = "weights that so few steps stand for; measure the results"
_EMBEDDING_BITS = 8
_BIAS = 2


@dataclass
class _Shared:
    """The codes of a weight, and the constants that hold them, for all nodes that read it."""

    found: Rounded
    is_table: bool
    """Whether rows are looked up in it, too: 8 bits and a scale for each."""
    is_packed_table: bool = False
    """Whether nothing but GatherBlockQuantized reads it: any number of bits, blocks of each row."""
    shift: Doubles | None = None
    """What to add to the bias of the node that reads it."""
    codes: Value | None = None
    parameters: dict[str, tuple[Value, Value]] = field(default_factory=dict[str, tuple[Value, Value]])
    """Scales and zero points, by the form that they are shaped for."""
    packed: tuple[Value | None, Value | None, Value | None] | None = None


@dataclass
class _Weights:
    """Those that one run of the pass has met."""

    options: QuantizeWeights
    known: dict[Value, _Shared] = field(default_factory=dict[Value, _Shared])

    def product(self, m: Match) -> Value | None:
        """MatMul(x, w) -> MatMul(x, (Cast(codes) - Cast(zero points)) * scales), and so for Gemm and Conv

        Or with DequantizeLinear, or as MatMulNBits. Blocks of so many rows share a scale; of Conv, of so many numbers
        of a filter, and each filter in the form dq.
        """
        weight = stored_weight(m.root)
        found = None if weight is None else self.shared(m, weight)
        if weight is None or found is None:
            return None
        contrib = self.options.form in ("auto", "matmulnbits") and CONTRIB in m.run.kernels.domains
        if contrib and m.root.op == "MatMul" and not found.is_table:
            return self.n_bits(m, weight, found)
        if self.options.form == "matmulnbits":
            return m.decline("the target does not allow MatMulNBits of com.microsoft here: see --allow, or form=auto")
        write = self.dequantized if self.options.form == "dq" else self.folded
        real = write(m, weight, found)
        operands = [real if place == weight.position else o for place, o in enumerate(m.root.operands)]
        if found.shift is not None:
            operands[_BIAS] = self.bias(m, found.shift)
        return m.add_node(Node(m.root.op, operands, m.root.attributes, 1, m.root.name)).result

    def embedding(self, m: Match) -> Value | None:
        """Gather(table, i) -> Cast(Gather(codes, i)) * Gather(scales, i): 8 bits, a scale for each row

        DequantizeLinear would say the same; on ONNX Runtime's CPU provider it takes five times as long here. Where the
        target allows com.microsoft, and nothing else reads the table: GatherBlockQuantized(codes, i, scales).
        """
        weight = stored_weight(m.root)
        found = None if weight is None else self.shared(m, weight)
        indices = m.root.operand(1)
        if weight is None or found is None or indices is None:
            return None
        if found.is_packed_table:
            codes, scale, zero_point = self.packed(m, weight, found)
            operands = (codes, indices, scale) + (() if zero_point is None else (zero_point,))
            return m.add(GATHER, operands, attributes_of(found.found))
        table, (scales, _) = self.blocks(m, weight, found)
        codes = m.add("Gather", (table, indices), {"axis": 0})
        real = m.add("Cast", (codes,), {"to": int(DType.FLOAT)})
        return m.add("Mul", (real, m.add("Gather", (scales, indices), {"axis": 0})))

    def shared(self, m: Match, weight: StoredWeight) -> _Shared | None:
        operand = operand_of(m.root, weight)
        if operand not in self.known:
            why = self.obstacle(m, operand, weight)
            array = None if why else m.array(operand)
            if array is None or not np.isfinite(array).all():
                return m.decline(why or "not all weights are finite")
            matrix = weight.matrix(array)
            is_table = any(user.op == "Gather" for user in operand.users)
            packed = is_table and self.packs_table(m, operand)
            if is_table and not packed:
                found = rounded(matrix, scheme_for(_EMBEDDING_BITS, weight.rows, 0, symmetric=True), "nearest", None)
                self.known[operand] = _Shared(found, is_table)
            else:
                found = self.rounded(m, weight, matrix)
                found.is_table = found.is_packed_table = packed
                self.known[operand] = found
        return self.known[operand]

    def packs_table(self, m: Match, table: Value) -> bool:
        """With 8 bits what is standard is as small, and on ONNX Runtime's CPU provider twice as fast."""
        options = self.options
        packs = options.form == "matmulnbits" or (options.form == "auto" and options.bits < _EMBEDDING_BITS)
        return packs and is_gathered_alone(table, options.bits, m.run.kernels)

    def rounded(self, m: Match, weight: StoredWeight, matrix: Floats) -> _Shared:
        options = self.options
        block = options.block_of(weight)
        scheme = scheme_for(options.bits, weight.rows, block, symmetric=options.symmetric)
        gram = options.ranges.gram(m.root) if options.ranges is not None and options.rounding == "gram" else None
        if options.rounding == "gram" and gram is None and m.root.op != "Gather":
            m.run.note(f"{m.root.label}: no Gram matrix was kept of it: its weights round to nearest")
        has_bias = gram is not None and has_own_bias(m.root, weight)
        found = rounded(matrix, scheme, options.rounding, gram, has_bias=has_bias)
        return _Shared(found, is_table=False, shift=bias_shift(matrix, found, gram) if gram and has_bias else None)

    def bias(self, m: Match, shift: Doubles) -> Value | None:
        old = m.root.operands[_BIAS]
        if old is None:
            return None
        return m.constant((m.array(old).astype(np.float64) + shift).astype(np.float32), old.name)

    def obstacle(self, m: Match, operand: Value, weight: StoredWeight) -> str:
        size = 0 if operand.constant is None else operand.constant.size
        if size < self.options.least:
            return "the weights are few; quantize-weights{least=...} says how many there must be"
        is_table = any(user.op == "Gather" for user in operand.users) and not self.packs_table(m, operand)
        bits = _EMBEDDING_BITS if is_table else self.options.bits
        block = 0 if is_table else self.options.block_of(weight)
        if size * bits // 8 + size // max(min(block or weight.rows, weight.rows), 1) * 4 >= size * 4:
            return "the codes and their scales would be as large as the weights"
        for user in operand.users:
            other = stored_weight(user)
            if other is None or user.operands[other.position] is not operand or not self.options.wants(user):
                return "another node reads the weights as they are, so that they would be stored twice"
            if other != replace(weight, position=other.position):
                return "two nodes read the weights in two layouts"
        return ""

    def dequantized(self, m: Match, weight: StoredWeight, shared: _Shared) -> Value:
        chosen = weight.as_stored(shared.found.parameters)
        scheme = chosen.scheme
        # Counted from the end: an axis that is not written, 1, is what opsets without scales by channel take for none.
        attributes = {"axis": (scheme.axis or 0) - len(weight.shape)}
        attributes |= {"block_size": scheme.block} if scheme.block else {}
        codes = self.codes(m, weight, shared, weight.stored(shared.found.codes))
        scale, zero_point = self.parameters(m, weight, shared, "dq", (chosen.scale, chosen.zero_point))
        return m.add("DequantizeLinear", (codes, scale, *(() if scheme.symmetric else (zero_point,))), attributes)

    def folded(self, m: Match, weight: StoredWeight, shared: _Shared) -> Value:
        """What DequantizeLinear says, in operators that a runtime works out when it opens the model."""
        codes, (scale, zero_point) = self.blocks(m, weight, shared)
        scheme = shared.found.parameters.scheme
        real = m.add("Cast", (codes,), {"to": int(DType.FLOAT)})
        if not scheme.symmetric:
            real = m.add("Sub", (real, m.add("Cast", (zero_point,), {"to": int(DType.FLOAT)})))
        real = m.add("Mul", (real, scale))
        if not scheme.block:
            return real
        if weight.rows % scheme.block == 0:
            return m.add("Reshape", (real, _ints(m, *weight.shape)))
        real = m.add("Reshape", (real, _ints(m, *weight.blocked_shape(shared.found))))
        axis = 1 if weight.channels_first else 0
        real = m.add("Slice", (real, _ints(m, 0), _ints(m, weight.rows), _ints(m, axis)))
        return m.add("Reshape", (real, _ints(m, *weight.shape))) if weight.is_image else real

    def blocks(self, m: Match, weight: StoredWeight, shared: _Shared) -> tuple[Value, tuple[Value, Value]]:
        """Codes, scales and zero points that meet by broadcasting."""
        codes, *parameters = weight.in_blocks(shared.found)
        held = self.parameters(m, weight, shared, "folded", (parameters[0], parameters[1]))
        return self.codes(m, weight, shared, codes), held

    def codes(self, m: Match, weight: StoredWeight, shared: _Shared, codes: Array) -> Value:
        if shared.codes is None:
            shared.codes = m.constant(codes, _named(operand_of(m.root, weight), "codes"))
        return shared.codes

    def parameters(
        self, m: Match, weight: StoredWeight, shared: _Shared, form: str, arrays: tuple[Array, Array]
    ) -> tuple[Value, Value]:
        if form not in shared.parameters:
            operand = operand_of(m.root, weight)
            scale, zero_point = arrays
            shared.parameters[form] = (
                m.constant(scale, _named(operand, "scale")),
                m.constant(zero_point, _named(operand, "zero_point")),
            )
        return shared.parameters[form]

    def n_bits(self, m: Match, weight: StoredWeight, shared: _Shared) -> Value:
        rows, columns = shared.found.codes.shape
        attributes = {"K": rows, "N": columns, "bits": self.options.bits, "block_size": block_of(shared.found)}
        codes, scale, zero_point = self.packed(m, weight, shared)
        operands = (m.root.operands[0], codes, scale) + (() if zero_point is None else (zero_point,))
        return m.add(
            OP, operands, attributes | ({"accuracy_level": self.options.accuracy} if self.options.accuracy else {})
        )

    def packed(
        self, m: Match, weight: StoredWeight, shared: _Shared
    ) -> tuple[Value | None, Value | None, Value | None]:
        """Codes, scales and, where there are some, zero points."""
        if not shared.packed:
            pack = table_operands if shared.is_packed_table else packed_operands
            operand = operand_of(m.root, weight)
            codes, scale, zeros = pack(shared.found)
            zero_point = None if zeros is None else m.constant(zeros, _named(operand, "zero_point"))
            made = m.constant(codes, _named(operand, "packed")), m.constant(scale, _named(operand, "scale"))
            shared.packed = (*made, zero_point)
        return shared.packed


def has_own_bias(node: Node, weight: StoredWeight) -> bool:
    """Whether a product has a constant bias by channel, and its weight no other reader, so that a shift is for it."""
    operand, bias = operand_of(node, weight), node.operand(_BIAS) if node.op in ("Conv", "Gemm") else None
    if bias is None or bias.constant is None or len(operand.uses) > 1:
        return False
    channels = weight.shape[0] if weight.channels_first else weight.shape[1]
    scales = (node.get_float("alpha"), node.get_float("beta")) if node.op == "Gemm" else (1.0, 1.0)
    return bias.constant.shape == (channels,) and scales == (1.0, 1.0)


def _ints(m: Match, *numbers: int) -> Value:
    return m.constant(np.array(numbers, np.int64))


def _named(operand: Value | None, what: str) -> str:
    return f"{operand.name}_{what}" if operand is not None and operand.name else ""


@dataclass(frozen=True)
class QuantizeWeights(RulePass):
    """Store the weights of MatMul, Gemm and Conv, and tables of embeddings, as codes of few bits with scales.

    The file shrinks; the arithmetic stays in float, and in the form `folded` the model runs as fast as before and takes
    as much memory. In the form `dq` ONNX Runtime dequantizes what stands before a Conv in each run, and makes of
    DequantizeLinear before a MatMul its MatMulNBits, which rounds activations to 8 bits as well; both only while its
    session.disable_quant_qdq is not set. MatMulNBits of com.microsoft, written where the target allows
    that domain, rounds none unless `accuracy` is 4. A table of embeddings has 8 bits and a scale for each row.
    GatherBlockQuantized of com.microsoft has `bits` and `block`, too; it gives 0 for an index beyond the table, where
    Gather fails.
    """

    name: ClassVar[str] = "quantize-weights"
    lossy: ClassVar[bool] = True

    bits: int = 4
    block: int = 32
    """So many rows of a column, and numbers of a filter, share a scale: a power of two, from 16 on.
    0 for one scale a column, and a filter."""
    form: Literal["auto", "folded", "dq", "matmulnbits"] = "auto"
    """folded: arithmetic that ONNX Runtime works out when it opens the model, and fold-constants would, which must not
    come behind. matmulnbits: that, and GatherBlockQuantized for tables.
    auto: matmulnbits where the target allows it, of tables with 4 bits; else folded."""
    rounding: Rounding = "nearest"
    """gram: least error at the output, by the Gram matrices of `ranges`; hqq: zero points without data."""
    symmetric: bool = False
    """Whether codes are signed and zero points left out."""
    embeddings: bool = True
    only: str = "*"
    """Patterns of the nodes, joined by |: of their names, operators, weights or results."""
    exclude: str = ""
    ranges: Calibration | None = None
    accuracy: int = 0
    """accuracy_level of MatMulNBits."""
    least: int = 1024
    """A weight of fewer elements stays as it is."""

    def __post_init__(self) -> None:
        if self.bits not in _BITS:
            raise PipelineError(f"quantize-weights takes bits=4 or 8, not {self.bits}")
        if self.block and (self.block < LEAST_BLOCK or self.block & (self.block - 1)):
            raise PipelineError(f"quantize-weights takes a block of 16, 32, 64, ..., or 0, not {self.block}")
        if self.rounding == "gram" and self.ranges is None:
            raise PipelineError("quantize-weights needs ranges=FILE, made by planish calibrate --grams, for gram")
        if self.rounding == "hqq" and self.symmetric:
            raise PipelineError("quantize-weights: hqq finds zero points, which a symmetric scheme has not")

    def block_of(self, weight: StoredWeight) -> int:
        """Of a convolution's window, flattened, too, but for DequantizeLinear, which has blocks of one axis alone."""
        return 0 if weight.is_image and self.form == "dq" else self.block

    def wants(self, node: Node) -> bool:
        if node.op == "Gather" and not self.embeddings:
            return False
        return is_named(node, self.only) and not is_named(node, self.exclude)

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        weights = _Weights(self)
        rewrite(graph, self.rules_of(weights), run, start)
        erase_unread(weights.known)

    def rules(self) -> Sequence[Rule]:
        return self.rules_of(_Weights(self))

    def rules_of(self, weights: _Weights) -> Sequence[Rule]:
        """Rules that share the codes of a weight which several nodes read."""
        kinds = {
            "embeddings": (("Gather",), weights.embedding),
            "weights": (("MatMul", "Gemm", "Conv"), weights.product),
        }
        return tuple(
            Rule(name, Op(ops, where=self.wants), Contract.APPROXIMATE, apply, apply.__doc__ or "", _NEEDS)
            for name, (ops, apply) in kinds.items()
        )
