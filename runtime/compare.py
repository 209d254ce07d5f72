"""Whether two models compute the same: proven by running both on inputs that are hostile to wrong rewrites."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from planish import ir
from planish.ir import Graph, OptionalType, SequenceType, TensorType, Type, Value
from planish.runtime.agreement import CompareReport, OutputReport, RunReport
from planish.runtime.benchmark import MIN_FEEDS, benchmark
from planish.runtime.bindings import WANTED, Binding, Symbols, complete, find_bindings
from planish.runtime.difference import is_float
from planish.runtime.errors import SessionError
from planish.runtime.feeds import KINDS, NONFINITE, NORMAL, Bounds, Input, Kind, Set, boundary_values, large, make
from planish.runtime.judge import Judge, Results, finite
from planish.runtime.latency import LatencyReport
from planish.runtime.progress import Progress, silent
from planish.runtime.providers import Target
from planish.runtime.ranges import Ranges, boundaries
from planish.runtime.session import Feed, Session

Model = str | os.PathLike[str] | Graph
LEVEL = "disabled"
"""What ONNX Runtime may do to either model when results are compared: its own rewrites would hide those under test."""

_MAGNITUDES = (1e6, 1e4, 1e2, 1e1)
_TIMING_SHARE = 0.5


def compare(
    a: Model,
    b: Model,
    *,
    target: Target | None = None,
    bindings: Sequence[Binding] = (),
    fixed: Mapping[str, float] | None = None,
    ranges: Mapping[str, Bounds] | None = None,
    exact: bool = False,
    seed: int = 0,
    latency_seconds: float | None = None,
    progress: Progress = silent,
) -> CompareReport:
    """Run A and B on the same inputs and hold their results against each other.

    Inputs are normal, shifted, negative, tiny, denormal and large numbers, zeros of both signs, ties, the boundary
    values in A's own constants, and overridden initializers, at WANTED bindings of the symbolic dims and an empty one.

    Args:
        target: the provider and threads of all runs.
        bindings: shapes to try; without any, those that A accepts are searched for.
        fixed: values that inputs must hold, such as a sampling rate.
        ranges: the least and the greatest value of inputs; integers are else bounded by what A does with them.
        exact: compare bits, NaN and infinite inputs too. Otherwise floats may differ by what rounding explains: a bound
            from element type and reduction lengths, or A's own noise where that is more.
        latency_seconds: also time B against A for so long.

    Raises:
        GraphError: a model is not valid, or an input that was named is not there.
        SessionError: ONNX Runtime cannot open a model, the provider does not run it, or A accepts no input at all.
    """
    begin = time.perf_counter()
    target = target or Target()
    with ExitStack() as stack:
        paths = _at_paths(stack, a, b)
        graph = ir.load(paths[0], functions="inline")
        names = (_name(a, paths[0]), _name(b, paths[1]))
        reason = _disagreement(graph, ir.load(paths[1]))
        if reason:
            return CompareReport(
                *names, "differs", reason, exact, target, (), (), (), (), None, time.perf_counter() - begin
            )
        plain = replace(target, optimization=LEVEL)
        sessions = Session(paths[0], plain), Session(paths[1], plain)
        trial = _Trial(graph, sessions[0], fixed or {}, ranges or {}, seed)
        found = tuple(complete(_with(binding, fixed or {}), graph) for binding in bindings) or trial.bindings(progress)
        judge = Judge(graph, sessions, exact=exact)
        runs = tuple(_runs(trial, judge, found, exact, progress, 1.0 if latency_seconds is None else _TIMING_SHARE))
        if all(run.verdict == "refused" for run in runs):
            raise SessionError(f"{names[0]} accepts none of the inputs that were tried: {runs[0].reason}")
        outputs = judge.outputs()
        latency = None
        if latency_seconds is not None:
            latency = _latency(paths, trial, runs, target, latency_seconds, progress)
    progress("done", 1.0)
    wrong = next((run.reason for run in runs if run.verdict == "differs"), "")
    return CompareReport(
        a=names[0],
        b=names[1],
        verdict="differs" if wrong else "equal",
        reason=wrong,
        exact=exact,
        target=target,
        bindings=found,
        outputs=outputs,
        runs=runs,
        notes=(*judge.notes(), *_limits(found, bool(bindings), trial)),
        latency=latency,
        seconds=time.perf_counter() - begin,
    )
