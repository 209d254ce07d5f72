"""Nodes that compute the same thing from the same operands become one."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import DType, Graph, Node, Value
from planish.ir.graph import Attribute, OpaqueAttribute
from planish.ir.infer import inherit
from planish.ir.ops import schema
from planish.ir.ops.table import is_pure
from planish.ir.tensor import Tensor
from planish.passes.manager import Pass
from planish.passes.replacing import erase_dead, merge_origins
from planish.passes.run import Run

_SMALL = 4096
_COMMUTATIVE = frozenset(("Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Equal", "Mul", "Or", "Xor"))
_COMMUTATIVE_ON_INTEGERS = frozenset(("Max", "Min"))
"""On floats the order decides which sign a zero gets."""
_TURNS = 16


@dataclass(frozen=True)
class MergeCommonSubexpressions(Pass):
    """Merge nodes with the same operator, attributes and operands, and shape arithmetic that gives the same dims; a
    nested graph sees what the graphs around it have made, and what both branches of an If compute moves before it.

    Exact, but for which of two NaNs a sum or product of both gives.
    Nodes that are random, have state, effects or nested graphs, or are unknown are never merged.
    """

    name: ClassVar[str] = "merge-common-subexpressions"

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        self._graph(graph, run, {})

    def _graph(self, graph: Graph, run: Run, seen: dict[Hashable, Node]) -> None:
        added: list[Hashable] = []
        for node in graph.nodes:
            if run.exhausted:
                break
            if node.graphs:
                for nested in node.graphs:
                    self._graph(nested, run, seen)
                if node.op == "If" and len(node.graphs) == 2:
                    hoisted = _hoist(node, run)
                    seen.update(hoisted)
                    added += hoisted
                continue
            if not is_pure(node):
                continue
            keys = [key for key in (_key(node), _holds(node)) if key is not None]
            first = next((found for key in keys if (found := seen.get(key)) and found.graph is not None), None)
            if first is None:
                seen.update(dict.fromkeys(keys, node))
                added += keys
            elif not _returns_captured(node, first):
                _merge(first, node, run)
        for key in added:
            seen.pop(key, None)


def _hoist(owner: Node, run: Run) -> dict[Hashable, Node]:
    """Move what both branches of an If compute before it, for one of them runs either way; what moved."""
    graph = owner.graph
    moved: dict[Hashable, Node] = {}
    for _ in range(_TURNS):
        ready = dict(_movable(owner.graphs[0]))
        common = [(key, node) for key, node in _movable(owner.graphs[1]) if key in ready]
        for key, node in common:
            if graph is None or run.exhausted:
                return moved
            if key not in moved:
                moved[key] = ready[key]
                graph.insert(ready[key], before=owner)
            _merge(ready[key], node, run)
        if not common:
            break
    return moved


def _movable(branch: Graph) -> Iterator[tuple[Hashable, Node]]:
    """The nodes that need nothing of the branch, and that it does not give back, with their keys."""
    for node in branch.nodes:
        if node.graphs or not is_pure(node) or any(o is not None and o.graph is branch for o in node.operands):
            continue
        key = _key(node)
        if key is not None and not any(branch.returns in result.readers for result in node.results):
            yield key, node


def _merge(first: Node, second: Node, run: Run) -> None:
    graph = second.graph
    if graph is None:
        return
    sources = merge_origins((first, second))
    for kept, gone in zip(first.results, second.results, strict=True):
        readers = gone.users
        inherit(kept, gone)
        graph.replace_all_uses_with(gone, kept)
        run.log.extend(readers)
    first.origin = sources
    run.log.append(first)
    run.record("merge", sources, first.results[0].name)
    erase_dead(second)


def _returns_captured(node: Node, first: Node) -> bool:
    """Whether a graph gives back the node's result and could give back `first`'s only through a copy."""
    return any(
        user.graph is not None
        and user is user.graph.returns
        and (first.graph is not user.graph or _returned(kept, user))
        for kept, result in zip(first.results, node.results, strict=True)
        for user in result.users
    )


def _returned(value: Value, returns: Node) -> bool:
    return value in returns.operands


def _key(node: Node) -> Hashable | None:
    """Equal for nodes that compute the same; None for one that cannot be compared."""
    if not node.operands:
        return None
    operands = _in_order(node)
    if not node.attributes:
        return (node.op, operands, len(node.results), ())
    defaults = schema.defaults(node.op)
    attributes: list[tuple[str, Hashable]] = []
    for name, value in node.attributes.items():
        plain = _comparable(value)
        if plain is None:
            return None
        if name not in defaults or plain != _comparable(defaults[name]):
            attributes.append((name, plain))
    return (node.op, operands, len(node.results), tuple(sorted(attributes, key=lambda item: item[0])))


def _holds(node: Node) -> Hashable | None:
    """Equal for nodes whose one result is the same vector of dims, or the same dim, however it is worked out."""
    if len(node.results) != 1 or node.op == "Constant" or node.result.elements is None:
        return None
    return (node.result.dtype, node.result.rank, node.result.elements)


def _in_order(node: Node) -> tuple[Hashable, ...]:
    """The operands, in one order where theirs does not matter; small constants that no graph holds by their bytes.

    Of these, one that the model writes as an attribute stays apart from an equal one that a pass made.
    """
    operands = tuple([_operand(value) for value in node.operands])
    if len(operands) != 2 or (node.op not in _COMMUTATIVE and node.op not in _COMMUTATIVE_ON_INTEGERS):
        return operands
    dtype = node.result.dtype
    if node.op in _COMMUTATIVE_ON_INTEGERS and (dtype is None or not dtype.is_integer):
        return operands
    return operands if hash(operands[0]) < hash(operands[1]) else operands[::-1]


def _operand(value: Value | None) -> Hashable:
    if value is None or value.graph is not None or value.constant is None:
        return value
    return _comparable(value.constant) or value


def _comparable(value: Attribute) -> Hashable | None:
    """Numbers with their kind, so that 1 and 1.0, 0.0 and -0.0 stay apart; small tensors by their bytes."""
    if isinstance(value, Tensor):
        if not value.in_memory or value.nbytes > _SMALL or value.dtype is DType.STRING:
            return None
        return (value.dtype, value.shape, value.raw())
    if isinstance(value, (Graph, OpaqueAttribute)):
        return None
    return (value.__class__, value) if isinstance(value, (int, str, bytes)) else (value.__class__, repr(value))
