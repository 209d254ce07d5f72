"""A constant weight and all products that read it, which change together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from planish.ir import DType, Node, Value
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.gram import PRODUCTS, Gram
from planish.passes.quantize.scheme import Floats
from planish.passes.quantize.stored_weights import StoredWeight, operand_of, stored_weight


@dataclass(frozen=True)
class ConstantWeight:
    value: Value
    stored: StoredWeight
    readers: tuple[Node, ...]

    def matrix(self) -> Floats | str:
        """[K, N], not to be written to; else why there is none."""
        tensor = self.value.constant
        if tensor is None or not tensor.size:
            return ""
        array = tensor.array()
        return self.stored.matrix(array) if np.isfinite(array).all() else "not all weights are finite"

    def gram(self, ranges: Calibration | None) -> Gram | str | None:
        """Summed over the readers; None where none is asked for, else why there is none."""
        if ranges is None:
            return None
        grams = [ranges.gram(reader) for reader in self.readers]
        found = [gram for gram in grams if gram is not None]
        if len(found) < len(grams):
            return "no Gram matrix was kept of it; planish calibrate --grams keeps them"
        shape = (self.stored.groups, self.stored.rows, self.stored.rows)
        if any(gram.matrix.shape != shape or not _is_sound(gram) for gram in found):
            return "its Gram matrix is of other weights, or not finite; calibrate again"
        return found[0] if len(found) == 1 else _sum(found)


def constant_weight(node: Node, wants: Callable[[Node], bool]) -> ConstantWeight | str:
    """What a node multiplies by; else why it is to be left, empty where nobody need ask."""
    stored = stored_weight(node) if node.op in PRODUCTS else None
    if stored is None:
        weight = node.operand(1) if node.op in PRODUCTS else None
        other = weight is not None and weight.constant is not None and weight.dtype is not DType.FLOAT
        return "its weights are not of float32" if other else ""
    value = operand_of(node, stored)
    for use in value.uses:
        other = stored_weight(use.user) if use.user.op in PRODUCTS and wants(use.user) else None
        if other is None or use.position != other.position:
            return "another node reads the weights as they are, so that they would be stored twice"
        if replace(other, position=stored.position) != stored:
            return "two nodes read the weights in two layouts"
    return ConstantWeight(value, stored, value.users)


def _is_sound(gram: Gram) -> bool:
    diagonal = np.einsum("gkk->gk", gram.matrix)
    return gram.count > 0 and bool(np.isfinite(gram.matrix).all()) and bool((diagonal >= 0).all())


def _sum(grams: Iterable[Gram]) -> Gram:
    first, *others = grams
    for gram in others:
        count = first.count + gram.count
        mean = (first.mean * first.count + gram.mean * gram.count) / count
        first = Gram(first.matrix + gram.matrix, mean, count, first.skipped + gram.skipped)
    return first
