"""Which operators a target can run: asked before a rewrite may add a node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from planish.ir import Node
from planish.ir.ops.schema import STANDARD_DOMAINS, is_function, parse_key, since, type_variables

_FOREVER = 1 << 30
Types = tuple[tuple[str, str], ...]


class Kernel(NamedTuple):
    """One kernel: the versions of its operator that it covers, and the element types of each type variable.

    ONNX Runtime takes one without a last version for its first alone: it cannot know what later ones mean.
    """

    first: int
    last: int
    types: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Kernels:
    """The kernels of a target for standard operators; `domains` are the others whose operators it has.

    An operator without a kernel of its own that ONNX defines as a function runs as the function's body, in float.
    """

    name: str
    table: Mapping[str, Sequence[Kernel]] = field(repr=False)
    domains: frozenset[str] = frozenset()
    _answers: dict[tuple[str, int, Types], bool] = field(default_factory=dict[tuple[str, int, Types], bool], repr=False)

    def runs(self, node: Node, opset: int) -> bool:
        """Whether there is a kernel for the node, written in that opset; types that are not known may be any.

        A node of another domain that was loaded is taken to run.
        """
        domain, op_type, *_ = parse_key(node.op)
        if domain not in STANDARD_DOMAINS:
            return domain in self.domains or node.source is not None
        if domain or not opset:
            return True
        key = (op_type, opset, _types(node, op_type, opset))
        found = self._answers.get(key)
        if found is None:
            found = self._answers[key] = self._has(op_type, since(op_type, opset), key[2])
        return found

    def _has(self, op: str, version: int, types: Types) -> bool:
        for kernel in self.table.get(op, ()):
            covers = kernel.first == version or kernel.first < version <= kernel.last < _FOREVER
            if covers and all(name not in kernel.types or dtype in kernel.types[name] for name, dtype in types):
                return True
        return is_function(op, version) and all(dtype == "float" for _, dtype in types)


def _types(node: Node, op_type: str, opset: int) -> Types:
    """The element type behind each type variable of the operator, where it is known."""
    found: dict[str, str] = {}
    for names, values in zip(type_variables(op_type, opset), (node.operands, node.results), strict=True):
        for index, value in enumerate(values):
            if names and value is not None and value.dtype is not None:
                found.setdefault(names[min(index, len(names) - 1)], value.dtype.name.lower())
    return tuple(found.items())


@cache
def cpu() -> Kernels:
    """ONNX Runtime's CPU provider, as its registry lists it."""
    table: dict[str, list[Kernel]] = {}
    for line in (files("planish.passes") / "kernels_cpu.txt").read_text().splitlines():
        op, versions, *types = line.split()
        first, _, last = versions.partition("-")
        named = (part.partition("=") for part in types)
        kernel = Kernel(
            int(first), int(last or _FOREVER), {name: frozenset(found.split(",")) for name, _, found in named}
        )
        table.setdefault(op, []).append(kernel)
    return Kernels("cpu", table)
