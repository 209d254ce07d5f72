"""The pattern language: a picture of the nodes that a rule rewrites, whose parts are the keys of the match.

    x, w = Var("x"), Const("w")
    conv = Op("Conv", (x, w))
    relu = Op("Relu", (conv,))          # Relu(Conv(x, w))

`match[x]` and `match[w]` are values, `match[conv]` is a node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import overload

from planish.ir import Node, Value


class Var:
    """Any value. Where one Var stands twice in a picture, both must be the same value."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def accepts(self, value: Value) -> bool:
        """Whether the value may stand here."""
        return True

    def __repr__(self) -> str:
        return self.name


class Const(Var):
    """A value that is known when the model is compiled. An overridable initializer is none."""

    __slots__ = ()

    def accepts(self, value: Value) -> bool:
        return value.constant is not None


class Maybe:
    """An operand that may be omitted."""

    __slots__ = ("part",)

    def __init__(self, part: Var) -> None:
        self.part = part


class Op:
    """A node that applies one of `ops` to the given operands; `operands=None` takes any.

    Inside a picture a node must have no reader outside of it (a graph output is a reader), unless `shared` is set: then
    it stays in the graph beside what the rule makes. `commutes` tries both orders of two operands. `where` is a quick
    test of the node that is made first. An empty `ops` stands for every operator.
    """

    __slots__ = (
        "_depth", "_inner", "_needed", "_strict", "_wants_constant", "commutes", "operands", "ops", "shared", "where",
    )  # fmt: skip

    def __init__(
        self,
        ops: str | Sequence[str],
        operands: Sequence[Var | Maybe | Op] | None = None,
        *,
        commutes: bool = False,
        shared: bool = False,
        where: Callable[[Node], bool] | None = None,
    ) -> None:
        self.ops: frozenset[str] = frozenset((ops,) if isinstance(ops, str) else ops)
        self.operands = None if operands is None else tuple(operands)
        self.commutes = commutes
        self.shared = shared
        self.where = where
        self._wants_constant = any(isinstance(part, Const) for part in self.operands or ())
        inner = [part for part in self.operands or () if isinstance(part, Op)]
        self._depth: int = 1 + max([part.depth for part in inner], default=0)
        self._strict = tuple(
            [
                (index, part.ops if isinstance(part, Op) else None)
                for index, part in enumerate(self.operands or ())
                if isinstance(part, (Op, Const))
            ]
        )
        """The operands that must be constants (None) or made by one of these operators."""
        self._inner = tuple([part.ops for part in inner if part.ops])
        needed = [self.ops] if self.ops else []
        self._needed: tuple[frozenset[str], ...] = (*needed, *(ops for part in inner for ops in part._needed))

    def may_match(self, node: Node) -> bool:
        """A quick test of a node whose operator is right; most places fail here, before anything is bound."""
        if self.where is not None and not self.where(node):
            return False
        operands, parts = node.operands, self.operands
        if parts is None:
            return True
        if len(operands) > len(parts):
            return False
        if self.commutes:
            if self._wants_constant and True not in [o is not None and o.constant is not None for o in operands]:
                return False
            if not self._inner:
                return True
            makers = [o.producer.op for o in operands if o is not None and o.producer is not None]
            return True not in [ops.isdisjoint(makers) for ops in self._inner]
        for index, ops in self._strict:
            operand = operands[index] if index < len(operands) else None
            if operand is None:
                return False
            if ops is None:
                if operand.constant is None:
                    return False
            elif operand.producer is None or (ops and operand.producer.op not in ops):
                return False
        return True

    def may_stand_among(self, ops: Set[str]) -> bool:
        """Whether a graph with these operators may hold the picture: a quick test of a whole graph."""
        return True not in map(ops.isdisjoint, self._needed)

    @property
    def depth(self) -> int:
        """Nodes on the longest path of the picture."""
        return self._depth

    def __repr__(self) -> str:
        inside = "..." if self.operands is None else ", ".join(map(_picture, self.operands))
        return f"{'|'.join(sorted(self.ops)) or '*'}({inside})"


class Bindings:
    """What the parts of a picture stand for."""

    __slots__ = ("_nodes", "_values")

    def __init__(self) -> None:
        self._nodes: dict[Op, Node] = {}
        self._values: dict[Var, Value] = {}

    @overload
    def __getitem__(self, key: Var) -> Value: ...
    @overload
    def __getitem__(self, key: Op) -> Node: ...
    def __getitem__(self, key: Var | Op) -> Value | Node:
        return self._nodes[key] if isinstance(key, Op) else self._values[key]

    def get(self, key: Var) -> Value | None:
        """The value behind a part that may be omitted."""
        return self._values.get(key)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The matched nodes, the root first."""
        return tuple(self._nodes.values())

    def match(self, pattern: Op, node: Node) -> bool:
        """Bind a picture whose root is `node`; whether it fits. What it bound on the way is kept only when it does."""
        if (pattern.ops and node.op not in pattern.ops) or not pattern.may_match(node):
            return False
        return self.bind(pattern, node)

    def bind(self, pattern: Op, node: Node) -> bool:
        """The same for a node that has passed the quick test."""
        bound = self._nodes.get(pattern)
        if bound is not None:
            return bound is node
        self._nodes[pattern] = node
        if pattern.operands is None:
            return True
        if pattern.commutes and len(node.operands) == len(pattern.operands):
            for operands in (node.operands, node.operands[::-1]):
                saved = dict(self._nodes), dict(self._values)
                if self._operands(pattern, node, operands):
                    return True
                self._nodes, self._values = saved
        elif self._operands(pattern, node, node.operands):
            return True
        self._nodes.pop(pattern, None)
        return False

    def _operands(self, pattern: Op, node: Node, operands: Sequence[Value | None]) -> bool:
        parts = pattern.operands or ()
        if len(operands) > len(parts):
            return False
        for index, part in enumerate(parts):
            operand = operands[index] if index < len(operands) else None
            if isinstance(part, Maybe):
                if operand is not None and not self._value(part.part, operand):
                    return False
            elif operand is None or not self.part(part, operand, node):
                return False
        return True

    def part(self, part: Var | Op, operand: Value, user: Node) -> bool:
        """Bind a part of a picture to an operand of `user`; whether it fits."""
        if isinstance(part, Var):
            return self._value(part, operand)
        producer = operand.producer
        if producer is None or operand.index or producer.op not in part.ops or producer.graph is not user.graph:
            return False
        if not part.shared and (not operand.has_one_use or any(other.is_used for other in producer.results[1:])):
            return False
        return self.match(part, producer)

    def _value(self, part: Var, operand: Value) -> bool:
        bound = self._values.get(part)
        if bound is not None:
            return bound is operand
        if not part.accepts(operand):
            return False
        self._values[part] = operand
        return True


def _picture(part: Var | Maybe | Op) -> str:
    return f"[{part.part!r}]" if isinstance(part, Maybe) else repr(part)
