"""The kernels that the installed ONNX Runtime registers, as the text that passes ship.

python -m tests.passes.registered_kernels > passes/kernels_cpu.txt
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Protocol, cast

_FOREVER = 2**31 - 1
_CONTRIB = "com.microsoft"
Types = dict[str, frozenset[str]]


class Kernel(Protocol):
    """What ONNX Runtime tells of a kernel."""

    provider: str
    domain: str
    op_name: str
    version_range: tuple[int, int]
    type_constraints: dict[str, tuple[str, ...]]


class Formal(Protocol):
    """An operand, as ONNX Runtime declares it."""

    typeStr: str  # noqa: N815


class Schema(Protocol):
    """What ONNX Runtime tells of an operator."""

    domain: str
    name: str
    inputs: list[Formal]


def registered(provider: str = "CPUExecutionProvider") -> str:
    """One line a kernel: `Gemm 13- T=double,float`, first and last version of the operator, and element types.

    Behind an operator of `com.microsoft` stand the type variables of its operands: `com.microsoft::BiasGelu(T,T)`.
    Kernels that differ in one set of types alone share a line. Only element types of tensors count.
    """
    module = vars(import_module("onnxruntime.capi.onnxruntime_pybind11_state"))  # a compiled module without stubs
    listed = cast("Callable[[], list[Kernel]]", module["get_all_opkernel_def"])
    formals = _formals(cast("Callable[[], list[Schema]]", module["get_all_operator_schema"])())
    merged: dict[tuple[str, int, int], list[Types]] = {}
    for kernel in listed():
        if kernel.provider == provider and kernel.domain in ("", "ai.onnx", _CONTRIB):
            key = f"{_CONTRIB}::{kernel.op_name}" if kernel.domain == _CONTRIB else kernel.op_name
            types = {name: frozenset(_elements(found)) for name, found in kernel.type_constraints.items()}
            _merge(merged.setdefault((key + formals.get(key, ""), *kernel.version_range), []), types)
    return "\n".join(sorted(_lines(merged))) + "\n"


def _formals(schemas: list[Schema]) -> dict[str, str]:
    found: dict[str, str] = {}
    for schema in schemas:
        if schema.domain == _CONTRIB and schema.inputs:
            variables = ["" if "(" in formal.typeStr else formal.typeStr for formal in schema.inputs]
            found[f"{_CONTRIB}::{schema.name}"] = f"({','.join(variables)})"
    return found


def _elements(types: tuple[str, ...]) -> Iterator[str]:
    for name in types:
        if name.startswith("tensor("):
            yield name.removeprefix("tensor(").removesuffix(")")


def _merge(variants: list[Types], new: Types) -> None:
    for place, old in enumerate(variants):
        differing = [name for name in new if old.get(name) != new[name]]
        if old.keys() == new.keys() and len(differing) <= 1:
            variants[place] = {name: old[name] | new[name] for name in new}
            return
    variants.append(new)


def _lines(merged: dict[tuple[str, int, int], list[Types]]) -> Iterator[str]:
    for (op, first, last), variants in merged.items():
        versions = f"{first}-" if last == _FOREVER else f"{first}-{last}"
        for variant in variants:
            types = (f"{name}={','.join(sorted(found))}" for name, found in sorted(variant.items()))
            yield " ".join((op, versions, *types))


if __name__ == "__main__":
    print(registered(), end="")
