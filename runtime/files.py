"""Models as files that ONNX Runtime can open: graphs in memory, and files that are mended at load, are written out."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

from planish import ir
from planish.ir import Graph

Model = str | os.PathLike[str] | Graph


def at_path(stack: ExitStack, model: Model, name: str) -> Path:
    """The file of a model; a graph is written as `name` to a folder that goes with the stack."""
    return _written(stack, model, name) if isinstance(model, Graph) else Path(model)


def repaired(stack: ExitStack, path: Path, graph: Graph) -> Path:
    """The file of a model, or of what loading made of one that is not valid as it is."""
    return _written(stack, graph, path.name) if graph.notes else path


def _written(stack: ExitStack, graph: Graph, name: str) -> Path:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="planish-")))
    ir.save(graph, folder / name)
    return folder / name
