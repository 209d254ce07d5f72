"""How long a target takes for an operator: measured by itself, by its shapes, and kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from planish import ir
from planish.ir import DType, Value
from planish.ir.build import Builder
from planish.ir.errors import GraphError
from planish.passes.prune.operator_call import EMPTY_RUN, Call
from planish.runtime.errors import SessionError
from planish.runtime.providers import Target
from planish.runtime.session import Session
from planish.runtime.times_file import TimesFile, best_seconds

_LEAST = 1e-8
"""What is faster than an empty run counts as this."""


class OperatorTimes:
    """Seconds of operators, for one target on this machine."""

    def __init__(self, target: Target, folder: Path | None = None) -> None:
        """folder: where times are kept between runs; None keeps none."""
        self.target = target
        self.kept = TimesFile("operator-times", 1, target, folder)

    def seconds(self, call: Call) -> float:
        """Of one run, without what any run takes; 0 for what ONNX Runtime cannot run by itself."""
        return max(self._known(call.key, lambda: _model(call)) - self._known(EMPTY_RUN, _nothing), 0.0)

    def _known(self, key: str, make: Callable[[], ir.Graph]) -> float:
        found = self.kept.seconds.get(key)
        if found is None:
            try:
                found = (max(self._measured(make()), _LEAST),)
            except (GraphError, SessionError):
                found = (_LEAST,)
            self.kept.keep(key, found)
        return found[0]

    def _measured(self, graph: ir.Graph) -> float:
        with tempfile.TemporaryDirectory(prefix="planish-") as folder:
            path = Path(folder) / "operator.onnx"
            shapes = {value.name: value.shape or () for value in graph.inputs}
            ir.save(graph, path)
            random = np.random.default_rng(0)
            feeds = {
                name: random.standard_normal([dim for dim in shape if isinstance(dim, int)], np.float32)
                for name, shape in shapes.items()
            }
            return best_seconds(Session(path, self.target), feeds)


def _model(call: Call) -> ir.Graph:
    b = Builder("operator", opset=call.opset)
    random = np.random.default_rng(0)
    operands: list[Value | None] = []
    for place, (shape, fixed) in enumerate(zip(call.operands, call.constants, strict=True)):
        if shape is None:
            operands.append(None)
        elif fixed:
            operands.append(b.constant(np.abs(random.standard_normal(shape, np.float32)) / 8))
        else:
            operands.append(b.input(f"x{place}", DType.FLOAT, shape))
    b.output("y", b.node(call.op, operands, dict(call.attributes)))
    return b.graph()


def _nothing() -> ir.Graph:
    b = Builder("operator")
    b.output("y", b.node("Neg", (b.input("x", DType.FLOAT, (1,)),)))
    return b.graph()
