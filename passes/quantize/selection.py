"""Patterns by which an option of a pass names nodes."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from planish.ir import Node


def is_named(node: Node, patterns: str) -> bool:
    """Whether one of the patterns, joined by |, is that of the node's name or operator, or of a value that it takes or
    gives; a constant weight is one that it takes.
    """
    return _fits(
        (node.name, node.op, *[value.name for value in (*node.operands, *node.results) if value is not None]), patterns
    )


def is_called(node: Node, patterns: str) -> bool:
    """Whether one of the patterns, joined by |, is that of the node's name or operator, or of a value that it gives."""
    return _fits((node.name, node.op, *[value.name for value in node.results]), patterns)


def _fits(names: Iterable[str], patterns: str) -> bool:
    named = [name for name in names if name]
    return any(fnmatchcase(name, pattern) for pattern in patterns.split("|") if pattern for name in named)
