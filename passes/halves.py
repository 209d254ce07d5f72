"""Numbers of half precision on a target that works in single: where it rounds to half is part of the result.

ONNX Runtime's CPU provider has few kernels of half precision. Around all else it casts to single and back, and leaves
the casts out between two such nodes: what lies between them is not rounded, and does not overflow.
"""

from __future__ import annotations

from collections.abc import Iterable

from planish.ir import DType, Node, Value
from planish.passes.kernels import Kernels

HALF = (DType.FLOAT16, DType.BFLOAT16)


def is_half(node: Node) -> bool:
    """Whether a node gives numbers of half precision."""
    return any(result.dtype in HALF for result in node.results)


def moves_rounding(sources: Iterable[Node], results: Iterable[Value], kernels: Kernels, opset: int) -> bool:
    """Whether nodes that are rewritten, or what stands beside them, work in single what is of half precision."""
    nodes = dict.fromkeys(sources)
    if not any(is_half(node) for node in nodes):
        return False
    if any(node.graphs for node in nodes):
        return True
    beside = [o.producer for node in nodes for o in node.operands if o is not None and o.producer is not None]
    readers = [reader for result in results for reader in result.readers]
    return any(is_half(node) and not kernels.runs(node, opset) for node in (*nodes, *beside, *readers))
