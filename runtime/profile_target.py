"""Measuring, once for a machine, what decides between kernels: the times of convolutions on codes, by their shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from planish import ir, passes
from planish.ir import Graph
from planish.ir.dim import product
from planish.ir.ops.cost import extent
from planish.passes.kernels import kernels_for
from planish.runtime.bindings import Binding, Symbols
from planish.runtime.conv_times import ConvShape, ConvTimes, frequent_shapes, may_pay, shape_for
from planish.runtime.progress import Progress, silent
from planish.runtime.providers import Target
from planish.runtime.report import table


@dataclass(frozen=True)
class Profile:
    times: Mapping[ConvShape, tuple[float, float]]
    """Seconds with weights whose zero point is 0, and 1."""
    known: int
    """Of those, how many were known before."""
    unknown: int
    """Convolutions of images whose extents no shape tells."""
    file: Path | None

    def as_dict(self) -> dict[str, object]:
        return {
            "file": None if self.file is None else str(self.file),
            "known_before": self.known,
            "of_unknown_shape": self.unknown,
            "convolutions": [
                {"shape": shape.key, "zero_point_0": plain, "zero_point_1": shifted}
                for shape, (plain, shifted) in self.times.items()
            ],
        }

    def __str__(self) -> str:
        header = ("channels", "filters", "kernel", "strides", "image", "ms with 0", "ms with 1", "faster")
        rows = [_row(shape, *pair) for shape, pair in self.times.items()]
        lines = [table(header, rows), f"{len(rows)} shapes, {self.known} of them known before"]
        if self.unknown:
            lines.append(f"{self.unknown} convolutions are of images of unknown size: give --shape INPUT=D,D,...")
        return "\n".join([*lines, f"kept in {self.file}" if self.file else "kept nowhere: there is no cache"])


def _row(shape: ConvShape, plain: float, shifted: float) -> tuple[str, ...]:
    pairs = ("x".join(map(str, pair)) for pair in (shape.kernel, shape.strides, shape.image))
    ratio = plain / shifted
    return str(shape.channels), str(shape.filters), *pairs, f"{1e3 * plain:.3f}", f"{1e3 * shifted:.3f}", f"{ratio:.2f}"


def profile_target(
    models: Sequence[tuple[Path, Binding]] = (),
    target: Target | None = None,
    cache: Path | None = None,
    *,
    again: bool = False,
    progress: Progress = silent,
) -> Profile:
    """Measure the convolutions of models, with the shapes of their inputs; without models those of well-known nets.

    cache: the folder where times are kept, as `quantize` looks for them. again: what is known is measured again, too.
    Raises GraphError for a model that is not valid, or a shape that is not one of an input's, and SessionError where
    ONNX Runtime cannot run what is measured.
    """
    target = target or Target(threads=1)
    shapes, unknown = (dict.fromkeys(frequent_shapes()), 0) if not models else _shapes(models, target)
    times = ConvTimes(target, cache)
    known = {shape: pair for shape in shapes if (pair := times.known(shape)) is not None}
    found: dict[ConvShape, tuple[float, float]] = {}
    for place, shape in enumerate(shapes):
        progress(f"measuring {shape.key}", place / len(shapes))
        found[shape] = times.measure(shape) if again or shape not in known else known[shape]
    progress("done", 1.0)
    return Profile(found, len(known), unknown, times.kept.path)


def _shapes(models: Sequence[tuple[Path, Binding]], target: Target) -> tuple[dict[ConvShape, None], int]:
    """Of the convolutions that quantization would meet, and how many have no known shape."""
    found: dict[ConvShape, None] = {}
    unknown = 0
    for path, binding in models:
        graph = ir.load(path)
        extents = Symbols(graph).of(binding)
        passes.run(graph, "simplify,fuse", kernels=kernels_for(target.provider, target.domains))
        shapes = list(_of_graph(graph, extents))
        found |= dict.fromkeys([shape for shape in shapes if shape is not None])
        unknown += shapes.count(None)
    return found, unknown


def _of_graph(graph: Graph, extents: Mapping[str, int]) -> Sequence[ConvShape | None]:
    found: list[ConvShape | None] = []
    for node in filter(may_pay, graph.walk()):
        x = node.operands[0]
        shape = None if x is None else x.shape
        count = 0 if not shape else extent(product(shape[1:]), extents, 0)
        found.append(shape_for(node, count) if count else None)
    return found
