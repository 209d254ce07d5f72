"""Patterns by which an option of a pass names nodes."""

from __future__ import annotations

from fnmatch import fnmatchcase

from planish.ir import Node


def is_named(node: Node, patterns: str, *, taken: bool = False) -> bool:
    """Whether one of the patterns, joined by |, is that of the node's name or operator, or of a value that it gives, or
    of a constant that it takes; with `taken`, of any value that it takes.
    """
    operands = [value for value in node.operands if value is not None and (taken or value.constant is not None)]
    names = [node.name, node.op, *(value.name for value in (*operands, *node.results))]
    return any(fnmatchcase(name, pattern) for pattern in patterns.split("|") if pattern for name in names if name)
