"""Whether two models compute the same: proven by running both on inputs that are hostile to wrong rewrites."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from planish import ir
from planish.ir import Graph, OptionalType, SequenceType, TensorType, Type
from planish.runtime.agreement import CompareReport, RunReport
from planish.runtime.benchmark import MIN_FEEDS, benchmark
from planish.runtime.bindings import WANTED, Binding, find_bindings
from planish.runtime.difference import is_float
from planish.runtime.errors import SessionError
from planish.runtime.feeds import KINDS, NONFINITE, NORMAL, Bounds, Feeds, Kind, Set, large
from planish.runtime.files import Model, at_path, repaired
from planish.runtime.isolated import Host
from planish.runtime.judge import Judge
from planish.runtime.latency import LatencyReport
from planish.runtime.progress import Progress, silent
from planish.runtime.providers import Target
from planish.runtime.session import Result
from planish.runtime.shaken import Shaken

LEVEL = "disabled"
"""What ONNX Runtime may do to either model when results are compared: its own rewrites would hide those under test."""

_MAGNITUDES = (1e6, 1e4, 1e2, 1e1)
_TIMING = 0.5
"""Where timing begins in the progress."""


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
    values in A's own constants, and overridden initializers, at three bindings of the symbolic dims and an empty one.

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
        paths = at_path(stack, a, "a.onnx"), at_path(stack, b, "b.onnx")
        graph, other = ir.load(paths[0], functions="inline"), ir.load(paths[1])
        paths = repaired(stack, paths[0], graph), repaired(stack, paths[1], other)
        repairs = (*(f"A: {note}" for note in graph.notes), *(f"B: {note}" for note in other.notes))
        report = CompareReport(
            a=_label(a, "A"),
            b=_label(b, "B"),
            verdict="differs",
            reason=interface_difference(graph, other),
            exact=exact,
            target=target,
            bindings=(),
            outputs=(),
            runs=(),
            notes=repairs,
            latency=None,
            seconds=time.perf_counter() - begin,
        )
        if report.reason:
            return report
        feeds = Feeds(graph, fixed or {}, ranges or {}, seed)
        host = stack.enter_context(Host())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="planish-")))
        comparison = _Comparison(host, paths, feeds, folder, target=target, exact=exact, progress=progress)
        found = tuple(feeds.complete(binding) for binding in bindings) or comparison.search()
        runs = comparison.run(found, 1.0 if latency_seconds is None else _TIMING)
        notes = (*repairs, *comparison.judge.notes())
        if not bindings and feeds.symbols.names and len(found) < WANTED:
            notes = (*notes, f"no more than {len(found)} bindings of the symbolic dims were found that A accepts")
        latency = None if latency_seconds is None else comparison.time(runs, latency_seconds)
        progress("done", 1.0)
    reason = next((run.reason for run in runs if run.verdict in ("differs", "failed")), "")
    return replace(
        report,
        verdict="differs" if reason else "equal",
        reason=reason,
        bindings=found,
        outputs=comparison.judge.outputs(),
        runs=runs,
        notes=notes,
        latency=latency,
        seconds=time.perf_counter() - begin,
    )


class _Comparison:
    """The sessions of one comparison and what runs on them."""

    def __init__(
        self,
        host: Host,
        paths: tuple[Path, Path],
        feeds: Feeds,
        folder: Path,
        *,
        target: Target,
        exact: bool,
        progress: Progress,
    ) -> None:
        self.paths = paths
        self.feeds = feeds
        self.target = target
        self.exact = exact
        self.progress = progress
        plain = replace(target, optimization=LEVEL)
        self.a, b = (host.open(path, plain) for path in paths)
        other = host.open(paths[0], replace(target, threads=2 if target.threads == 1 else 1))
        shaken = Shaken(host, paths[0], plain, folder)
        self.judge = Judge(feeds.graph, self.a, b, (other, shaken), exact=exact, tf32=target.memory == "cuda")
        self.refusal = ""

    def search(self) -> tuple[Binding, ...]:
        self.progress("looking for shapes that A accepts", 0.0)
        found = find_bindings(self.feeds.symbols, self.feeds.fixed, self.accepts)
        if not found:
            raise SessionError(
                f"{self.paths[0]} accepts none of the inputs that were tried; name shapes that it does. {self.refusal}"
            )
        return found

    def accepts(self, binding: Binding) -> bool:
        """Whether A runs, and gives something where it was given something."""
        try:
            results = self.a.run(self.feeds.make(NORMAL, binding).feeds)
        except SessionError as error:
            self.refusal = self.refusal or str(error)
            return False
        return binding.is_empty or not all(_is_empty(result) for result in results)

    def run(self, bindings: Sequence[Binding], share: float) -> tuple[RunReport, ...]:
        runs: list[RunReport] = []
        for index, binding in enumerate(bindings):
            extents = self.feeds.symbols.of(binding)
            sets = tuple(self.sets(binding))
            for number, inputs in enumerate(sets):
                part = share * (index + number / len(sets)) / len(bindings)
                self.progress(f"comparing on {inputs.name} inputs at {binding}", part)
                runs.append(self.judge.run(binding, extents, inputs))
        if all(run.verdict == "refused" for run in runs):
            raise SessionError(f"A accepts none of the inputs that were tried: {runs[0].reason}")
        return tuple(runs)

    def sets(self, binding: Binding) -> Iterator[Set]:
        """The sets of inputs for a binding; an empty one has nothing to vary."""
        yield self.feeds.make(NORMAL, binding)
        if binding.is_empty or not self.feeds.graph.inputs:
            return
        for kind in (*KINDS, self.feeds.boundaries, *((NONFINITE,) if self.exact else ())):
            yield self.feeds.make(kind, binding)
        yield self.feeds.make(self.largest(binding), binding)
        if self.feeds.graph.defaults:
            yield self.feeds.make(NORMAL, binding, overridden=True)

    def largest(self, binding: Binding) -> Kind:
        """Numbers as large as leave all that A gives finite."""
        for magnitude in _MAGNITUDES[:-1]:
            kind = large(magnitude)
            try:
                results = self.a.run(self.feeds.make(kind, binding).feeds)
            except SessionError:
                continue
            if all(_is_finite(result) for result in results):
                return kind
        return large(_MAGNITUDES[-1])

    def time(self, runs: Sequence[RunReport], seconds: float) -> LatencyReport | None:
        """On normal inputs of the first shapes that both models take; None when B takes none."""
        binding = next((run.binding for run in runs if run.verdict in ("equal", "differs")), None)
        if binding is None:
            return None
        feeds = [self.feeds.make(NORMAL, binding, turn=turn).feeds for turn in range(MIN_FEEDS)]
        return benchmark(
            *self.paths,
            feeds,
            target=self.target,
            budget_seconds=seconds,
            progress=lambda part: self.progress("timing", _TIMING + (1 - _TIMING) * part),
        )


def interface_difference(a: Graph, b: Graph) -> str:
    """In what the two models' inputs and outputs disagree, names, order and types; nothing where they agree."""
    for what, ours, theirs in (
        ("inputs", _signature(a, required=True), _signature(b, required=True)),
        ("overridable initializers", _signature(a, required=False), _signature(b, required=False)),
        ("outputs", _results(a), _results(b)),
    ):
        if [name for name, _ in ours] != [name for name, _ in theirs]:
            return f"the {what} are {_names(ours)} in A and {_names(theirs)} in B"
        for (name, one), (_, other) in zip(ours, theirs, strict=True):
            if not _agree(one, other):
                return f"{name} of the {what} is {one} in A and {other} in B"
    return ""


def _signature(graph: Graph, *, required: bool) -> list[tuple[str, Type | None]]:
    return [(value.name, value.type) for value in graph.inputs if (value not in graph.defaults) is required]


def _results(graph: Graph) -> list[tuple[str, Type | None]]:
    return [(name, value.type) for name, value in zip(graph.output_names, graph.outputs, strict=True)]


def _names(signature: Sequence[tuple[str, Type | None]]) -> str:
    return ", ".join(name for name, _ in signature) or "none"


def _agree(a: Type | None, b: Type | None) -> bool:
    """Whether two types can be of one value, as far as both are known."""
    if a is None or b is None:
        return True
    if isinstance(a, TensorType) and isinstance(b, TensorType):
        if a.dtype != b.dtype or a.shape is None or b.shape is None:
            return a.dtype == b.dtype
        fixed = [(x, y) for x, y in zip(a.shape, b.shape, strict=False) if isinstance(x, int) and isinstance(y, int)]
        return len(a.shape) == len(b.shape) and all(x == y for x, y in fixed)
    for kind in (SequenceType, OptionalType):
        if isinstance(a, kind) and isinstance(b, kind):
            return _agree(a.element, b.element)
    return a == b


def _label(model: Model, name: str) -> str:
    return f"graph {name}" if isinstance(model, Graph) else os.fspath(model)


def _is_empty(result: Result) -> bool:
    return isinstance(result, np.ndarray) and result.size == 0


def _is_finite(result: Result) -> bool:
    if isinstance(result, list):
        return all(map(_is_finite, result))
    if isinstance(result, dict):
        return all(map(_is_finite, result.values()))
    return not is_float(result) or bool(np.isfinite(np.asarray(result).astype(np.float64)).all())
