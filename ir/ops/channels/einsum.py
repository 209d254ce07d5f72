"""Einsum: axes of one letter are one; a letter that the result lacks is summed over."""

from __future__ import annotations

from planish.ir.graph import Node, Value
from planish.ir.ops.channels.atoms import Ids
from planish.ir.ops.channels.tracker import Channels, Tracker

_BROADCAST = "axes of one letter may be broadcast"


def _terms(node: Node) -> tuple[list[str], str] | None:
    """The letters of each operand, and those of the result; None with dots, or a letter twice in one term."""
    equation = node.get_str("equation").replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if not arrow:
        letters = "".join(terms)
        right = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    fits = all(
        operand is not None and operand.rank == len(term) for term, operand in zip(terms, node.operands, strict=False)
    )
    if "." in equation or len(terms) != len(node.operands) or not fits:
        return None
    return (terms, right) if all(len(set(term)) == len(term) for term in (*terms, right)) else None


def _track_einsum(node: Node, t: Tracker) -> None:
    found = _terms(node)
    if found is None:
        return
    terms, right = found
    axes: dict[str, list[tuple[Value, int]]] = {}
    for term, operand in zip(terms, node.operands, strict=True):
        for axis, letter in enumerate(term):
            if operand is not None:
                axes.setdefault(letter, []).append((operand, axis))
    computed = [operand for operand in node.operands if operand is not None and operand.constant is None]
    for letter, places in axes.items():
        ids = _one(places, t)
        if letter in right:
            t.give(node.result, right.index(letter), ids)
            t.add_heads(ids if len(computed) > 1 and len(places) > 1 else None)


def _one(places: list[tuple[Value, int]], t: Tracker) -> Ids | None:
    parts = [t.ids(value, axis) for value, axis in places]
    dims = [None if value.shape is None else value.shape[axis] for value, axis in places]
    if any(dim != dims[0] for dim in dims):
        for part in parts:
            t.freeze(part, _BROADCAST)
        return None
    return t.unite(*parts)


CHANNELS: dict[str, Channels] = {"Einsum": Channels(_track_einsum)}
