"""Which outputs of a product a pruned model kept, told from the weights, which are slices of the original's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from planish.ir import Node
from planish.ir.ops.channels.atoms import Ids
from planish.ir.types import Array

_MATRIX = 2
Bytes = NDArray[np.void]


def kept_outputs(original: Node, pruned: Node) -> Ids | None:
    """Indices of the original's output channels that the pruned product makes, in order; None where that is not clear.

    Of a product whose outputs are all there the weights may be other ones.
    """
    w, p = _filters(original), _filters(pruned)
    if w is None or p is None or original.op != pruned.op or w.dtype != p.dtype or w.shape[2] != p.shape[2]:
        return None
    if len(w) == len(p):
        return np.arange(len(w), dtype=np.int64)
    before, after = (node.get_int("group") if node.op == "Conv" else 1 for node in (original, pruned))
    if before != after:  # whole groups went
        return _rows(w, p) if w.shape[1] == p.shape[1] else None
    found: list[Ids] = []
    for group, (part, left) in enumerate(zip(np.split(w, before), np.split(p, before), strict=True)):
        rows = _rows(part, left) if part.shape[1] == left.shape[1] else _block(part, left)
        if rows is None:
            return None
        found.append(rows + group * len(part))
    return np.concatenate(found)


def _filters(node: Node) -> Array | None:
    """[outputs, inputs, kernel] of a product's weight."""
    w = node.operand(1)
    if w is None or w.constant is None or len(w.constant.shape) < _MATRIX:
        return None
    array = w.constant.array()
    if node.op == "Conv":
        return array.reshape(*array.shape[:2], -1)
    if len(array.shape) != _MATRIX:
        return None
    return (array if node.op == "Gemm" and node.get_int("transB") else array.T)[:, :, None]


def _rows(w: Array, p: Array) -> Ids | None:
    """Where the rows of p stand among those of w, in their order."""
    return _subsequence(_bytes(w.reshape(len(w), -1)), _bytes(p.reshape(len(p), -1)))


def _block(w: Array, p: Array) -> Ids | None:
    """The same where inputs went, too: these are told from the row that says most, at each place where it may be."""
    blocks = _bytes(p.reshape(-1, p.shape[2])).reshape(p.shape[:2])
    if not blocks.size or len(p) > len(w) or p.shape[1] > w.shape[1]:
        return None
    telling = max(range(len(p)), key=lambda row: len(set(blocks[row].tolist())))
    whole = _bytes(w.reshape(-1, w.shape[2])).reshape(w.shape[:2])
    return next(_candidates(whole, blocks, telling), None)


def _candidates(whole: Bytes, blocks: Bytes, telling: int) -> Iterator[Ids]:
    for row in whole:
        inputs = _subsequence(row, blocks[telling])
        outputs = None if inputs is None else _rows(whole[:, inputs, None], blocks[:, :, None])
        if outputs is not None:
            yield outputs


def _bytes(rows: Array) -> Bytes:
    """One scalar a row, equal where all bits are."""
    rows = np.ascontiguousarray(rows)
    return rows.view(np.dtype((np.void, max(rows.dtype.itemsize * rows.shape[1], 1)))).reshape(-1)


def _subsequence(whole: Bytes, wanted: Bytes) -> Ids | None:
    """The first places of `whole` at which `wanted` stands, in order."""
    numbers: dict[bytes, int] = {}
    codes = [numbers.setdefault(item, len(numbers)) for item in whole.tolist()]
    places: list[int] = []
    place = 0
    for item in wanted.tolist():
        code = numbers.get(item, -1)
        while place < len(codes) and codes[place] != code:
            place += 1
        if place == len(codes):
            return None
        places.append(place)
        place += 1
    return np.array(places, np.int64)
