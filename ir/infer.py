"""Keeping types up to date: once over a loaded graph, then only where a rewrite changed something."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from planish.ir.dim import Dim, Expr
from planish.ir.errors import GraphError
from planish.ir.graph import Graph, Node, Value
from planish.ir.ops import reference
from planish.ir.ops.operator import Operator
from planish.ir.ops.table import OPERATORS
from planish.ir.tensor import ELEMENTS
from planish.ir.types import DType, TensorType, Type, refine

_LIMITS = {DType.INT64: 2**63, DType.INT32: 2**31, DType.BOOL: 2}
_LARGEST_PRODUCTS = (1, 2**16, 2**24)
"""Of no extent, of one, and of two or more, as models hold them in memory."""

_PLAIN = Operator()


def infer(node: Node, *, may_never_run: bool = False) -> bool:
    """Bring the types and elements of a node's results up to date; whether anything new is known.

    Raises GraphError when the operands cannot be right for the operator, unless the node may never run: that of a
    nested graph may not.
    """
    entry = OPERATORS.get(node.op, _PLAIN)
    news = False
    for result, type in zip(node.results, _types(node, entry, may_never_run), strict=False):
        old = result.type
        if old is None:
            if type is not None:
                result.type = type
                news = True
        elif type is not None and type is not old:
            result.type = refine(old, type)
            news = news or result.type != old
    if entry.elements is not None and node.results:
        first = node.results[0]
        limit = _LIMITS.get(first.type.dtype) if isinstance(first.type, TensorType) else None
        if limit is not None:
            news = _learn(first, entry.elements(node), limit) or news
    return news


def _types(node: Node, entry: Operator, may_never_run: bool = False) -> Sequence[Type | None]:
    """By the operator's own rule. What could not run in a nested graph may never run: nothing is known of it then."""
    try:
        return reference.infer(node) if entry.infer is None else entry.infer(node)
    except GraphError:
        if node.graph is None or not (may_never_run or node.graph.owner is not None):
            raise
        node.graph.refused[node] = None
        return ()


def inferred(node: Node) -> Sequence[Type | None]:
    """The types of a node's results as they follow from its operands alone, whatever is recorded of them."""
    return _types(node, OPERATORS.get(node.op, _PLAIN))


def infer_graph(graph: Graph) -> None:
    """Types for every value of a graph and of those nested in it."""
    for node in graph.nodes:
        for nested in node.graphs:
            infer_graph(nested)
        infer(node)


def refresh(nodes: Iterable[Node]) -> list[Node]:
    """Bring the given nodes up to date and whatever reads what they change; the nodes about which more is known now."""
    queue = deque(nodes)
    changed: list[Node] = []
    while queue:
        node = queue.popleft()
        if node.graph is None or node is node.graph.returns:
            owner = node.graph.owner if node.graph is not None else None
            if owner is not None:
                queue.append(owner)
            continue
        if infer(node):
            changed.append(node)
            for result in node.results:
                queue.extend(result.users)
    return changed


def inherit(new: Value, old: Value) -> bool:
    """Tell `new` what is known of `old`, which it replaces; whether it knows more than `old` did."""
    old_type, old_elements = old.type, old.elements
    new.type = _join(new.type, old_type)
    if new.elements is None:
        new.elements = old_elements
    return new.type != old_type or new.elements != old_elements or new.constant is not None


def _join(known: Type | None, news: Type | None) -> Type | None:
    return refine(known, news)


def _learn(value: Value, elements: tuple[Dim, ...] | None, limit: int) -> bool:
    """Record what a value holds, where it fits its element type, whose numbers lie below `limit`."""
    if elements is None or elements == value.elements or len(elements) > ELEMENTS:
        return False
    if any(_may_wrap(dim, limit) for dim in elements):
        return False
    if value.elements is not None and len(value.elements) == len(elements):
        elements = tuple([a if isinstance(a, int) else b for a, b in zip(value.elements, elements, strict=True)])
        if elements == value.elements:
            return False
    value.elements = elements
    return True


def _may_wrap(dim: Dim, limit: int) -> bool:
    """Whether a number may leave its element type, where an extent is up to 2 ** 16 and a product up to 2 ** 24."""
    if isinstance(dim, int):
        return not -limit <= dim < limit
    most = sum(abs(factor) * _LARGEST_PRODUCTS[min(len(atoms), 2)] for atoms, factor in dim.terms.items())
    return most >= limit


def equal_extents(one: Type | None, other: Type | None) -> dict[str, Dim]:
    """What two types of one value tell of extents with made-up names: the later name is the other extent."""
    found: dict[str, Dim] = {}
    if not isinstance(one, TensorType) or not isinstance(other, TensorType) or one.shape is None or other.shape is None:
        return found
    for a, b in zip(one.shape, other.shape, strict=False):
        if a == b:
            continue
        late, early = (a, b) if _age(a) > _age(b) else (b, a)
        if isinstance(late, Expr) and late.is_fresh and len(one.shape) == len(other.shape):
            (name,) = late.symbols()
            if isinstance(early, int) or name not in early.symbols():
                found[name] = early
    return found


def _age(dim: Dim) -> int:
    return 0 if isinstance(dim, int) else dim.age


def replace_extents(graph: Graph, equal: Mapping[str, Dim]) -> list[Node]:
    """Write known extents for made-up ones in all types of a graph; the nodes whose results' types changed."""
    changed: list[Node] = []
    known: dict[Dim, Dim] = {}
    for node in graph.walk():
        inputs = [value for nested in node.graphs for value in nested.inputs]
        news = [_replace(value, equal, known) for value in (*node.results, *inputs)]
        if True in news:
            changed.append(node)
    return changed


def _replace(value: Value, equal: Mapping[str, Dim], known: dict[Dim, Dim]) -> bool:
    news = False
    if isinstance(value.type, TensorType) and value.type.shape is not None:
        shape = _replaced(value.type.shape, equal, known)
        if shape != value.type.shape:
            value.type, news = TensorType(value.type.dtype, shape), True
    if value.elements is not None:
        elements = _replaced(value.elements, equal, known)
        if elements != value.elements:
            value.elements, news = elements, True
    return news


def _replaced(dims: tuple[Dim, ...], equal: Mapping[str, Dim], known: dict[Dim, Dim]) -> tuple[Dim, ...]:
    """`known` keeps what became of each extent."""
    found: list[Dim] = []
    for dim in dims:
        if isinstance(dim, int):
            found.append(dim)
            continue
        if dim not in known:
            known[dim] = _without(dim, equal)
        found.append(known[dim])
    return tuple(found)


def _without(dim: Dim, equal: Mapping[str, Dim]) -> Dim:
    """The extent without the names, one of which may stand for another."""
    for _ in equal:
        if isinstance(dim, int) or equal.keys().isdisjoint(dim.symbols()):
            break
        dim = dim.substitute(equal)
    return dim


def check(node: Node) -> None:
    """Raise GraphError when what the operands say contradicts what is recorded of the results."""
    for result, type in zip(node.results, _types(node, OPERATORS.get(node.op, _PLAIN)), strict=False):
        if type != result.type and contradicts(result.type, type):
            raise GraphError(f"{result} is recorded as {result.type} and inferred as {type}", node)


def contradicts(a: Type | None, b: Type | None) -> bool:
    """Whether no value can be of both types."""
    if a is None or b is None:
        return False
    if not isinstance(a, TensorType) or not isinstance(b, TensorType):
        return type(a) is not type(b)
    if a.dtype != b.dtype:
        return True
    if a.shape is None or b.shape is None:
        return False
    if len(a.shape) != len(b.shape):
        return True
    return any(isinstance(x, int) and isinstance(y, int) and x != y for x, y in zip(a.shape, b.shape, strict=True))
