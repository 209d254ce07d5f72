"""Which operators a target can run: asked before a rewrite may add a node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from planish.ir import Node, Value
from planish.ir.ops.schema import STANDARD_DOMAINS, is_function, parse_key, since, type_variables

_FOREVER = 1 << 30
CONTRIB = "com.microsoft"
"""The domain of the operators that ONNX Runtime adds to the standard ones."""
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
    """The kernels of a target; `domains` are those besides the standard ones whose operators a pass may add.

    An operator without a kernel of its own that ONNX defines as a function runs as the function's body, in float.
    `formals` are the type variables of the operands, in order, of the operators that ONNX does not define.
    """

    name: str
    table: Mapping[str, Sequence[Kernel]] = field(repr=False)
    domains: frozenset[str] = frozenset()
    formals: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]], repr=False)
    _answers: dict[tuple[str, int, Types], bool] = field(default_factory=dict[tuple[str, int, Types], bool], repr=False)

    def runs(self, node: Node, opset: int) -> bool:
        """Whether there is a kernel for the node, written in that opset; types that are not known may be any.

        A node of another domain that was loaded is taken to run.
        """
        domain, op_type, *_ = parse_key(node.op)
        if domain not in STANDARD_DOMAINS:
            return node.source is not None or (domain in self.domains and self._adds(node))
        if domain or not opset:
            return True
        key = (op_type, opset, _types(node.operands + node.results, _variables(node, op_type, opset)))
        found = self._answers.get(key)
        if found is None:
            found = self._answers[key] = self._has(op_type, since(op_type, opset), key[2]) or (
                is_function(op_type, opset) and all(dtype == "float" for _, dtype in key[2])
            )
        return found

    @property
    def newest(self) -> int:
        """The newest opset that brought an operator for which there is a kernel."""
        return max((kernel.first for found in self.table.values() for kernel in found), default=0)

    def lack(self, node: Node) -> str:
        """Why the target does not run a node of which `runs` says so."""
        domain = parse_key(node.op).domain
        if domain in STANDARD_DOMAINS or domain in self.domains:
            return f"{self.name} has no kernel for {node.op} of these types"
        return f"the target does not allow operators of {domain}"

    def _adds(self, node: Node) -> bool:
        """Whether a node of an allowed domain has a kernel: in version 1, the only one of such an operator."""
        return self._has(node.op, 1, _types(node.operands, self.formals.get(node.op, ())))

    def _has(self, op: str, version: int, types: Types) -> bool:
        for kernel in self.table.get(op, ()):
            covers = kernel.first == version or kernel.first < version <= kernel.last < _FOREVER
            if covers and all(name not in kernel.types or dtype in kernel.types[name] for name, dtype in types):
                return True
        return False


def _variables(node: Node, op_type: str, opset: int) -> tuple[str, ...]:
    """The type variable of each operand and result; an empty one where the operator has none for it."""
    found: list[str] = []
    for names, values in zip(type_variables(op_type, opset), (node.operands, node.results), strict=True):
        found += [names[min(index, len(names) - 1)] if names else "" for index in range(len(values))]
    return tuple(found)


def _types(values: Sequence[Value | None], variables: Sequence[str]) -> Types:
    """The element type behind each type variable, where it is known."""
    found: dict[str, str] = {}
    for value, variable in zip(values, variables, strict=False):
        if variable and value is not None and value.dtype is not None:
            found.setdefault(variable, value.dtype.name.lower())
    return tuple(found.items())


@cache
def cpu() -> Kernels:
    """ONNX Runtime's CPU provider, as its registry lists it, allowed nothing but standard operators."""
    table: dict[str, list[Kernel]] = {}
    formals: dict[str, tuple[str, ...]] = {}
    for line in (files("planish.passes") / "kernels_cpu.txt").read_text().splitlines():
        head, versions, *types = line.split()
        op, _, variables = head.rstrip(")").partition("(")
        if variables:
            formals[op] = tuple(variables.split(","))
        first, _, last = versions.partition("-")
        named = (part.partition("=") for part in types)
        kernel = Kernel(
            int(first), int(last or _FOREVER), {name: frozenset(found.split(",")) for name, _, found in named}
        )
        table.setdefault(op, []).append(kernel)
    return Kernels("cpu", table, formals=formals)


def kernels_for(provider: str, domains: Iterable[str] = ()) -> Kernels:
    """What ONNX Runtime runs with a provider, where passes may add operators of `domains`, too.

    It runs on the CPU provider what another lacks, so that the standard kernels of that one count for each. What
    others have of further domains is not known here, and counts as nothing.
    """
    allowed = frozenset(domains) - {""}
    if provider == cpu().name:
        return replace(cpu(), domains=allowed) if allowed else cpu()
    table = {op: found for op, found in cpu().table.items() if not parse_key(op).domain}
    return Kernels(provider, table, allowed)
