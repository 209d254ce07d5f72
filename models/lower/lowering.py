"""The whole walk: export, load, verify, hold against the framework, write."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from planish import ir
from planish.ir import Graph, GraphError
from planish.ir.emit_file import ExternalData, check_target
from planish.models.lower.check import Agreement, agreement, other_sizes
from planish.models.lower.errors import ExportError, LowerError
from planish.models.lower.framework import Lowering, reason, without_triton
from planish.models.lower.inputs import Array, Dims, Inputs, Shape
from planish.models.lower.interface import set_interface
from planish.models.lower.named import open_source
from planish.runtime.errors import SessionError
from planish.runtime.feeds import Bounds
from planish.runtime.progress import Progress, silent

AUTO = "auto"
_FAR = 1e-2
"""Relative L2 beyond which a difference is no matter of rounding."""


@dataclass(frozen=True)
class LowerResult:
    """What became of a framework's model."""

    graph: Graph
    target: Path | None
    framework: str
    """With its version."""
    exporter: str
    agreement: Agreement
    notes: tuple[str, ...]
    """What was mended, which exporters were of no use and why, and what limits the proof."""
    seconds: float

    def as_dict(self) -> dict[str, object]:
        return {
            "target": None if self.target is None else str(self.target),
            "framework": self.framework,
            "exporter": self.exporter,
            "inputs": {value.name: str(value.type) for value in self.graph.inputs},
            "outputs": [output.as_dict() for output in self.agreement.outputs],
            "runs": [run.as_dict() for run in self.agreement.runs],
            "notes": list(self.notes),
            "seconds": self.seconds,
        }


@without_triton()
def lower(
    source: object,
    target_path: str | os.PathLike[str] | None = None,
    *,
    example: object = None,
    shapes: Mapping[str, Shape] | None = None,
    dtypes: Mapping[str, str] | None = None,
    ranges: Mapping[str, Bounds] | None = None,
    fixed: Mapping[str, float] | None = None,
    dynamic: Dims | None = None,
    output_names: Sequence[str] = (),
    opset: int | None = None,
    exporter: str = AUTO,
    external_data: ExternalData = "auto",
    trust_pickle: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> LowerResult:
    """Lower a framework's model to ONNX, and write it to `target_path` once it was seen to compute the same.

    Framework and file run on the example, on other values of its shapes, and with other extents of the dynamic dims;
    they may differ by what rounding explains. The first exporter that comes through is taken.

    Args:
        source: a model of PyTorch, scikit-learn or Keras, or the path of a file that holds one.
        example: input arrays by name or in order; without it inputs are made up to `shapes` and `dtypes`, or to what
            the model itself says of them.
        ranges: the least and the greatest value of inputs; integers else keep to those of the example.
        fixed: values that inputs must hold, such as a sampling rate.
        dynamic: names of the dims that may have any extent, by input and axis, beyond those that the model declares.
        output_names: in the order of the model's outputs; by default those that it has for them.
        opset: of the standard operators; None keeps the exporter's choice.
        exporter: the only one to try.
        trust_pickle: whether a file may be unpickled, which runs whatever code is in it.

    Raises:
        LowerError: the model, the example or an option is not right, or every exporter failed or gave a model that
            computes something else: names the output, the largest difference and the exporter. Nothing is written then.
        GraphError: `target_path` cannot be written, or `opset` cannot express the model.
    """
    begin = time.perf_counter()
    if target_path is not None:
        check_target(Graph(), target_path)
    inputs = Inputs(example, shapes or {}, dtypes or {}, ranges or {}, fixed or {}, dynamic or {}, seed)
    progress("opening the model", 0.0)
    lowering = open_source(source, inputs, output_names, trust_pickle=trust_pickle)
    try:
        lowering.run(lowering.example)
    except SessionError as error:
        raise LowerError(
            f"the model does not take the example inputs ({_shapes(lowering.example)}): {error}"
        ) from error
    others = other_sizes(lowering)
    notes, failures = list(lowering.notes), list[str]()
    with tempfile.TemporaryDirectory(prefix="planish-lower-") as scratch:
        for name in _chosen(lowering, exporter):
            progress(f"exporting with {name}", 0.2)
            try:
                attempt = _Attempt(lowering, name, Path(scratch) / name, opset)
                found = attempt.checked(inputs, others, progress)
            except ExportError as error:
                failures.append(f"{name}: {error}")
                continue
            notes += [f"not used: {failure}" for failure in failures]
            notes += [*attempt.notes, *found.notes]
            if target_path is not None:
                ir.save(attempt.graph, target_path, opset=opset, external_data=external_data)
            progress("done", 1.0)
            target = None if target_path is None else Path(target_path)
            spent = time.perf_counter() - begin
            return LowerResult(attempt.graph, target, lowering.framework, name, found, tuple(notes), spent)
    raise LowerError(f"no exporter of {lowering.framework} gave a model that computes the same: {'; '.join(failures)}")


class _Attempt:
    """What one exporter makes of a model."""

    def __init__(self, lowering: Lowering, exporter: str, folder: Path, opset: int | None) -> None:
        """Raises ExportError where it fails or its model is not valid."""
        folder.mkdir()
        exported, self._path = folder / "exported.onnx", folder / "model.onnx"
        self._lowering = lowering
        try:
            inputs = lowering.export(exporter, exported, opset)
        except (ExportError, LowerError):
            raise
        except Exception as error:  # exporters raise what they like
            raise ExportError(reason(error)) from error
        try:
            self.graph = ir.load(exported, functions="inline")
            mended = set_interface(self.graph, lowering, inputs)
            ir.verify(self.graph)
            ir.save(self.graph, self._path, opset=opset)
        except GraphError as error:
            raise ExportError(error.message) from error
        self.notes = (*self.graph.notes, *mended)

    def checked(self, inputs: Inputs, others: Sequence[Mapping[str, Array]], progress: Progress) -> Agreement:
        """Raises ExportError where it computes something else than the framework."""
        progress(f"comparing with {self._lowering.framework}", 0.5)
        found = agreement(ir.load(self._path), self._path, self._lowering, inputs, others)
        if found.reason:
            far = any(output.worst.mismatch or output.worst.relative_l2 > _FAR for output in found.outputs)
            equal = found.runs[0].verdict == "equal"
            hint = "; the example itself agrees, so it took something of it for a constant" if equal and far else ""
            raise ExportError(f"{found.reason}{hint}")
        return found


def _chosen(lowering: Lowering, exporter: str) -> Sequence[str]:
    if exporter == AUTO:
        return lowering.exporters
    if exporter not in lowering.exporters:
        there = ", ".join(lowering.exporters)
        raise LowerError(f"there is no exporter {exporter!r} for this model of {lowering.framework}; there is {there}")
    return (exporter,)


def _shapes(example: Mapping[str, Array]) -> str:
    return ", ".join(f"{name}: {array.dtype}{list(array.shape)}" for name, array in example.items()) or "none"
