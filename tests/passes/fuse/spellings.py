"""Whether a fused model means what its spelled-out one meant, within a bound that the test states."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir, passes
from planish.ir import DType
from planish.passes.run import Fp
from planish.runtime.errors import SessionError
from planish.runtime.session import Session
from tests.equivalence import PLAIN, Array, Bound, Inputs, differences, feeds_for, inputs_of, model, op_types, untouched
from tests.hostile import Kind, Limits


@dataclass(frozen=True)
class Fused:
    """A model after a pipeline: its operators, the rules that fired, and the opset that it ended on."""

    after: onnx.ModelProto
    rules: tuple[str, ...]

    @property
    def op_types(self) -> list[str]:
        return op_types(self.after.graph)

    @property
    def opset(self) -> int:
        return next(entry.version for entry in self.after.opset_import if not entry.domain)


def net(nodes: str, constants: str, shape: str = "N,3,4", dtype: str = "float", outputs: str = "") -> str:
    """A model of x that gives y, of the same type, and further outputs of it."""
    others = "".join(f", {dtype}[{shape}] {name}" for name in outputs.split())
    return f"g ({dtype}[{shape}] x) => ({dtype}[{shape}] y{others}) <{constants}> {{ {nodes} }}"


def of(value: str, nodes: str) -> str:
    """The nodes with another value in place of x."""
    return re.sub(r"\bx\b", value, nodes)


def steps(*, of_one: float = 0.0, of_result: float = 0.0) -> Bound:
    """So many steps of the last bit of 1, and of the result."""

    def bound(expected: Array) -> NDArray[np.float64]:
        epsilon = Limits.of(DType.of(expected)).epsilon
        return epsilon * (of_one + of_result * np.abs(expected.astype(np.float64)))

    return bound


def kept(text: str, pipeline: str, *, opset: int = 18, fp: Fp = "default") -> None:
    """Raises AssertionError unless a pipeline leaves a model of that opset alone, to the byte."""
    untouched(model(text, opset), pipeline, fp=fp)


def fused(
    source: onnx.ModelProto | str,
    pipeline: str,
    bound: Bound,
    *,
    opset: int = 17,
    inputs: Inputs | None = None,
    kinds: Sequence[Kind] = ("ordinary",),
    fp: Fp = "default",
) -> Fused:
    """Run a pipeline over a model; raises AssertionError unless the result means what the model meant.

    Inputs and outputs must be the same, a second run must change nothing, and ONNX Runtime must find the same results
    on inputs of these kinds, within the bound. (ONNX Runtime 1.31 itself fails on empty tensors where axes are reduced
    and not kept.)
    """
    before = model(source, opset) if isinstance(source, str) else source
    graph = ir.load(before)
    records = passes.run(graph, pipeline, fp=fp)
    after = ir.emit(graph)
    check_model(after, full_check=True)
    assert inputs_of(after) == inputs_of(before)
    assert list(after.graph.output) == list(before.graph.output)
    assert not [str(again) for record in passes.run(ir.load(after), pipeline, fp=fp) for again in record.rewrites]
    old, new = (Session(proto.SerializeToString(), PLAIN) for proto in (before, after))
    given = inputs or Inputs(refusals="keepdims = 0" in str(source))
    for feeds in feeds_for(before, given, kinds):
        try:
            aims = old.run(feeds)
        except SessionError:
            assert given.refusals, f"the model refuses {feeds}"
            continue
        for found, expected in zip(new.run(feeds), aims, strict=True):
            wrong = list(differences(found, expected, bound))
            assert not wrong, f"{op_types(after.graph)} at {feeds}: {'; '.join(wrong)}"
    return Fused(after, tuple(rewrite.rule for record in records for rewrite in record.rewrites))
