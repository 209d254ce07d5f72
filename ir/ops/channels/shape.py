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
            if operand is not value:
                continue
            moved = _moved(user, position, places)
            if moved is None or (moved and _is_read(user.result, moved)):
                return True
    return False


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


_KEEPING = frozenset(("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"))
CHANNELS: dict[str, Channels] = {"Shape": Channels(_track_shape)}
