"""The form in which a model is pruned, and how much of it must go for a part of what it costs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from planish import ir, passes
from planish.ir import Graph
from planish.passes.kernels import kernels_for
from planish.passes.prune.importance import Importance
from planish.passes.prune.prune_channels import PruneChannels
from planish.passes.prune.unit_cost import parameter_cost
from planish.runtime.compile import ModelPath
from planish.runtime.inspect import inspect
from planish.runtime.providers import Target

_STEPS = 10
_MOST = 0.98
"""The greatest ratio that is tried."""
Shapes = Mapping[str, tuple[int, ...]]
"""Of the inputs of a run."""


def in_form(source: ModelPath, importance: Importance, target: Target) -> Graph:
    """bn-scale needs normalizations as they are; for other criteria they are folded into the weights first."""
    graph = ir.load(source)
    form = "simplify" if importance == "bn-scale" else "simplify,fuse"
    passes.run(graph, form, kernels=kernels_for(target.provider, target.domains))
    return graph


def macs(model: ModelPath, shapes: Shapes) -> int | None:
    """Multiply-accumulates of a run; None where extents that data decide leave them open."""
    found = inspect(model, shapes).total_macs
    return found if isinstance(found, int) else None


def parameters(model: ModelPath) -> int:
    """Elements of the constants of floats, and of codes of at most 8 bits."""
    return int(parameter_cost(ir.load(model), {})({}))


def ratio_for(part: float, form: ModelPath, pruning: PruneChannels, shapes: Shapes | None) -> float | None:
    """The least ratio that leaves no more than that part of the multiply-accumulates, or without shapes of the
    parameters; None where none does."""
    whole = parameters(form) if shapes is None else macs(form, shapes)
    if whole is None:
        return None
    with tempfile.TemporaryDirectory(prefix="planish-") as folder:
        path = Path(folder) / "counted.onnx"

        def fits(ratio: float) -> bool:
            graph = ir.load(form)
            passes.run(graph, (replace(pruning, ratio=ratio, ratios=None),))
            ir.save(graph, path)
            found = parameters(path) if shapes is None else macs(path, shapes)
            return found is not None and found <= part * whole

        if not fits(_MOST):
            return None
        low, high = 0.0, _MOST
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        return high
