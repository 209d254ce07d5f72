"""A model calibrated, quantized statically, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir, passes, runtime
from planish.ir import Graph
from planish.ir.text import text
from planish.ir.types import Array
from planish.passes import PassRecord
from planish.passes.quantize.plan import Prediction, predictions
from planish.passes.quantize.quantize_static import QuantizeStatic
from planish.runtime.coverage import Coverage, prove
from planish.runtime.providers import Target
from planish.runtime.session import Session
from tests.equivalence import PLAIN

ONE_THREAD = Target(threads=1)


@dataclass(frozen=True)
class Static:
    before: onnx.ModelProto
    after: onnx.ModelProto
    graph: Graph
    """After."""
    record: PassRecord
    expected: Sequence[Prediction]
    feeds: Sequence[Mapping[str, Array]]

    @property
    def ops(self) -> list[str]:
        return [node.op for node in self.graph.walk() if node.op != "Constant"]

    @property
    def text(self) -> str:
        return text(self.graph)

    def coverage(self, **config: str) -> Coverage:
        """`config`: entries of the session's, without their prefix `session.`."""
        entries = {f"session.{key}": value for key, value in config.items()}
        return prove(self.after.SerializeToString(), self.expected, ONE_THREAD, entries)

    def error(self) -> float:
        """Relative to the float model's results, in the Euclidean norm, with the kernels that the runtime makes."""
        before, after = (
            np.concatenate([_all(model, feed) for feed in self.feeds]) for model in (self.before, self.after)
        )
        norm = float(np.linalg.norm(before))
        return float(np.linalg.norm(after - before)) / norm if norm else float(np.linalg.norm(after))


def _all(model: onnx.ModelProto, feed: Mapping[str, Array]) -> NDArray[np.float64]:
    target = replace(PLAIN, optimization="all")
    found = Session(model.SerializeToString(), target).run(feed)
    return np.concatenate([np.asarray(result, np.float64).reshape(-1) for result in found])


def quantized(
    graph: Graph | onnx.ModelProto,
    feeds: Sequence[Mapping[str, Array]],
    options: QuantizeStatic | None = None,
    *,
    first: str = "",
    limit: int | None = None,
) -> Static:
    """`first`: the pipeline that the float model went through. A second run must change nothing, if no limit is set."""
    loaded = ir.load(graph) if isinstance(graph, onnx.ModelProto) else graph
    if first:
        passes.run(loaded, first)
    before = ir.emit(loaded)
    loaded = ir.load(before)
    options = replace(options or QuantizeStatic(), ranges=runtime.calibrate(ir.load(before), feeds, target=PLAIN))
    expected = predictions(options.plan(loaded))
    (record,) = passes.run(loaded, (options,), limit=limit)
    after = ir.emit(loaded)
    check_model(after, full_check=True)
    if limit is None:
        again = ir.load(after)
        (second,) = passes.run(again, (options,))
        assert not second.rewrites
        assert ir.emit(again).SerializeToString() == after.SerializeToString()
    return Static(before, after, loaded, record, expected, feeds)
