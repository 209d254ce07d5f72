"""How much a residual block matters, by its weights alone: how much its branch may add to what goes on.

Layers by the norms of their weights are in Elkerdawy et al. 2020 (arXiv 2007.05667); here only the last ones count,
in which the branch is linear, and a normalization or a factor behind them takes their place or multiplies them.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from planish.ir import Node, Value
from planish.ir.ops.channels.tracker import Doubles
from planish.ir.ops.table import lookup
from planish.passes.prune.residual import Block, has_weights

BlockImportance = Literal["l1", "l2", "random"]
_SCALE = 1

_ALONG: Mapping[str, Callable[[Doubles], Doubles]] = {
    "l1": lambda rows: np.abs(rows).sum(axis=1),
    "l2": lambda rows: np.sqrt(np.square(rows).sum(axis=1)),
}


def block_score(block: Block, importance: BlockImportance, seed: int = 0) -> float:
    """The mean, over the outputs of the branch, of the norm of the weights that make them; times factors behind.

    Of a branch that ends in a normalization, of its scales. Infinite where it ends in neither, or is not finite, and of
    layers without a skip, of which the largest may be nearest to doing nothing.
    """
    if importance == "random":
        return float(np.random.default_rng((seed, zlib.crc32(block.name.encode()))).random())
    with np.errstate(all="ignore"):
        found = _gain(block, _ALONG[importance])
    return found if math.isfinite(found) else math.inf


def _gain(block: Block, along: Callable[[Doubles], Doubles]) -> float:
    value, factor, nodes = block.branch, 1.0, set(block.nodes)
    while value is not None and (node := value.producer) is not None and node in nodes:
        scales = _scales(node)
        if scales is not None:
            return factor * float(scales.mean())
        if has_weights(node):
            rows = _rows(node)
            return math.inf if rows is None else factor * float(along(rows).mean())
        computed = [operand for operand in node.operands if operand is not None and operand.constant is None]
        if len(computed) != 1:
            return math.inf
        factor *= _factor(node, computed[0])
        value = computed[0]
    return math.inf


def _scales(node: Node) -> Doubles | None:
    scale = node.operand(_SCALE) if node.op.endswith("Normalization") else None
    return None if scale is None or scale.constant is None else np.abs(scale.constant.array().astype(np.float64))


def _rows(node: Node) -> Doubles | None:
    """[outputs, weights of each]."""
    rule = lookup(node.op).channels
    found = None if rule is None or rule.filters is None else rule.filters(node)
    weight = None if found is None else node.operands[found.weight]
    if found is None or weight is None or weight.constant is None:
        return None
    array = np.moveaxis(weight.constant.array().astype(np.float64), found.axis, 0)
    return array.reshape(len(array), -1)


def _factor(node: Node, computed: Value) -> float:
    """What a node multiplies with."""
    others = [operand for operand in node.operands if operand is not computed]
    constant = others[0].constant if len(others) == 1 and others[0] is not None else None
    if constant is None or node.op not in ("Div", "Mul"):
        return 1.0
    mean = float(np.abs(constant.array().astype(np.float64)).mean())
    return mean if node.op == "Mul" else 1 / mean if mean else math.inf
