"""Shape: an extent that something is worked out from stays."""

from __future__ import annotations

from collections.abc import Iterator, Set

from planish.ir.graph import Node, Value
from planish.ir.ops.channels.tracker import Channels, Tracker
from planish.ir.ops.indexing import slice_bounds, window
from planish.ir.ops.shape import constant_ints


def _track_shape(node: Node, t: Tracker) -> None:
    x, result = node.operands[0], node.result
    if x is None or x.shape is None or not result.shape or not isinstance(result.shape[0], int):
        return
    start = node.attribute("start")
    first = start if isinstance(start, int) else 0
    first = max(first + len(x.shape), 0) if first < 0 else first
    for axis in range(len(x.shape)):
        place = axis - first
        if not 0 <= place < result.shape[0] or not _is_read(result, {place}):
            t.ids(x, axis)


def _is_read(value: Value, places: Set[int]) -> bool:
    """Whether a node makes something of these elements of a vector, rather than to move them or leave them out."""
    for user in value.users:
        for position, operand in enumerate(user.operands):
            if operand is not value or _is_tied(user, position):
                continue
            moved = _moved(user, position, places)
            if moved is None or (moved and _is_read(user.result, moved)):
                return True
    return False


def _is_tied(node: Node, position: int) -> bool:
    """Whether the rule of Reshape ties the axes of its result to those of which its target takes the extents."""
    ranks = [None if value is None else value.rank for value in (*node.operands, *node.results)]
    return node.op == "Reshape" and position == 1 and None not in ranks


def _moved(node: Node, position: int, places: Set[int]) -> Set[int] | None:
    """Where these elements of an operand stand in a node's result; None where it does something else with them."""
    if not node.results or node.results[0].elements is None:
        return None
    if node.op in _KEEPING and position == 0:
        return places
    if node.op == "Gather" and position == 0:
        picked = constant_ints(node.operands[1])
        length = len(node.operands[0].elements or ()) if node.operands[0] is not None else 0
        return None if picked is None or not length else {i for i, p in enumerate(picked) if p % length in places}
    if node.op == "Slice" and position == 0:
        return _sliced(node, places)
    if node.op == "Concat":
        return set(_joined(node, position, places))
    return None


def _sliced(node: Node, places: Set[int]) -> Set[int] | None:
    bounds = slice_bounds(node, 1)
    length = len(node.operands[0].elements or ()) if node.operands[0] is not None else 0
    if bounds is None or not length:
        return None
    kept = list(range(length))
    for _, start, end, step in bounds:
        kept = kept[window(len(kept), start, end, step)]
    return {i for i, place in enumerate(kept) if place in places}


def _joined(node: Node, position: int, places: Set[int]) -> Iterator[int]:
    before = [operand.elements for operand in node.operands[:position] if operand is not None]
    start = sum(len(elements or ()) for elements in before)
    yield from (start + place for place in places)


def origins(value: Value | None) -> list[Origin | None]:
    """For each element of a vector of extents, the axis that it is the extent of; None where that is not known."""
    node = None if value is None else value.producer
    count = len(value.elements or ()) if value is not None else 0
    if node is None or not count or value is None or value.constant is not None:
        return [None] * count
    x = node.operands[0] if node.operands else None
    if node.op == "Shape" and x is not None and x.shape is not None:
        start = node.attribute("start")
        first = start if isinstance(start, int) else 0
        first = max(first + len(x.shape), 0) if first < 0 else first
        return [(x, first + place) for place in range(count)]
    if node.op == "Concat":
        return [origin for operand in node.operands for origin in origins(operand)]
    if node.op not in (*_KEEPING, "Gather", "Slice"):
        return [None] * count
    found: list[Origin | None] = [None] * count
    for place, origin in enumerate(origins(x)):
        for there in _moved(node, 0, {place}) or ():
            found[there] = origin
    return found


Origin = tuple[Value, int]
_KEEPING = frozenset(("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"))
CHANNELS: dict[str, Channels] = {"Shape": Channels(_track_shape)}
