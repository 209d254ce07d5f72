"""How graphs run: optimizing files, comparing and timing models on ONNX Runtime.

    result = runtime.optimize("model.onnx", "out.onnx", pipeline="simplify,fuse")
    report = runtime.compare("model.onnx", "out.onnx")

Names load what they need on first use, so that `planish --help` waits for neither onnx nor ONNX Runtime.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planish.runtime.agreement import CompareReport
    from planish.runtime.benchmark import benchmark, benchmark_creation
    from planish.runtime.bindings import Binding
    from planish.runtime.block_importance import block_importance
    from planish.runtime.calibrate import calibrate
    from planish.runtime.compare import compare
    from planish.runtime.compile import OptimizeResult, optimize
    from planish.runtime.compress import CompressResult, compress
    from planish.runtime.errors import SessionError, TaskError
    from planish.runtime.evaluate import Evaluation, evaluate
    from planish.runtime.importance import importance
    from planish.runtime.inspect import Inspection, inspect
    from planish.runtime.providers import Target
    from planish.runtime.prune import PruneResult, prune
    from planish.runtime.quantize import QuantizeResult, quantize
    from planish.runtime.reconstruct import ReconstructResult, reconstruct
    from planish.runtime.session import Session
    from planish.runtime.task import Metric, Outputs, Run, Sample, Samples, Task

__all__ = [
    "Binding",
    "CompareReport",
    "CompressResult",
    "Evaluation",
    "Inspection",
    "Metric",
    "OptimizeResult",
    "Outputs",
    "PruneResult",
    "QuantizeResult",
    "ReconstructResult",
    "Run",
    "Sample",
    "Samples",
    "Session",
    "SessionError",
    "Target",
    "Task",
    "TaskError",
    "benchmark",
    "benchmark_creation",
    "block_importance",
    "calibrate",
    "compare",
    "compress",
    "evaluate",
    "importance",
    "inspect",
    "optimize",
    "prune",
    "quantize",
    "reconstruct",
]

_HOMES = {
    "Binding": "bindings",
    "CompareReport": "agreement",
    "CompressResult": "compress",
    "Evaluation": "evaluate",
    "Inspection": "inspect",
    "Metric": "task",
    "OptimizeResult": "compile",
    "Outputs": "task",
    "PruneResult": "prune",
    "QuantizeResult": "quantize",
    "ReconstructResult": "reconstruct",
    "Run": "task",
    "Sample": "task",
    "Samples": "task",
    "Session": "session",
    "SessionError": "errors",
    "Target": "providers",
    "Task": "task",
    "TaskError": "errors",
    "benchmark": "benchmark",
    "benchmark_creation": "benchmark",
    "block_importance": "block_importance",
    "calibrate": "calibrate",
    "compare": "compare",
    "compress": "compress",
    "evaluate": "evaluate",
    "importance": "importance",
    "inspect": "inspect",
    "optimize": "compile",
    "prune": "prune",
    "quantize": "quantize",
    "reconstruct": "reconstruct",
}


class _Package(ModuleType):
    """`compare` is a function and the module that holds it: the function wins, whoever imports the module first."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and _HOMES.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'planish.runtime' has no attribute {name!r}")
    return getattr(import_module(f"planish.runtime.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
