"""The main job: a real model through the pipeline `deploy`, proven equal, with what changed and what that is worth."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from planish import ir
from planish.models.builders import tutorial_cnn
from planish.models.zoo import ZOO, ZooError, fetch
from planish.runtime.agreement import CompareReport
from planish.runtime.benchmark import benchmark_creation
from planish.runtime.bindings import Binding
from planish.runtime.compare import compare
from planish.runtime.compile import OptimizeResult, optimize
from planish.runtime.latency import CreationReport
from planish.runtime.progress import Progress, silent
from planish.runtime.report import at_work, interval_text, milliseconds, size, table, verdict_text
from planish.runtime.statistics import Interval

MODEL = "text-recognition"
FALLBACK = "tutorial-cnn"
PIPELINE = "deploy"

_LATENCY_SECONDS = 20.0
_CREATIONS = 6
_COMPARED = 0.75
"""Where creating sessions begins in the progress."""


@dataclass(frozen=True)
class DemoReport:
    model: str
    """The zoo model's name, or the name of the net that stands in for it."""
    note: str
    """Why another net stands in, or nothing."""
    result: OptimizeResult
    comparison: CompareReport
    creation: CreationReport

    def as_dict(self) -> dict[str, object]:
        return {
            "model": self.model,
            "note": self.note,
            "optimize": self.result.as_dict(),
            "compare": self.comparison.as_dict(),
            "session_creation": self.creation.as_dict(),
        }


def demo(
    *, find: Callable[[str], Path] = fetch, progress: Progress = silent, seconds: float = _LATENCY_SECONDS
) -> DemoReport:
    """Optimize the text recogniser, or the tutorial CNN where it cannot be fetched, and hold the result against it.

    find: gives the file of a zoo model by name, or raises ZooError. seconds: for measuring latency.
    """
    with tempfile.TemporaryDirectory(prefix="planish-demo-") as scratch:
        name, source, note, bindings = _source(Path(scratch), find, progress)
        target = Path(scratch) / f"{name}-optimized.onnx"
        result = optimize(source, target, pipeline=PIPELINE)
        comparison = compare(
            source,
            target,
            bindings=bindings,
            latency_seconds=seconds,
            progress=lambda what, part: progress(what, _COMPARED * part),
        )
        creation = benchmark_creation(
            source,
            target,
            repeats=_CREATIONS,
            progress=lambda part: progress("creating sessions", _COMPARED + (1 - _COMPARED) * part),
        )
    return DemoReport(name, note, result, comparison, creation)


def demo_text(report: DemoReport) -> str:
    """One table: the passes, then the file, the session and the latency before and after them."""
    result, creation, latency = report.result, report.creation, report.comparison.latency
    rows = [
        (record.name, str(len(record.rewrites)), str(record.nodes_before), str(record.nodes_after), "")
        for record in at_work(result.records)
    ]
    before, after = result.bytes_before, result.bytes_after or 0
    rows += [
        ("all passes", str(len(result.rewrites)), str(result.nodes_before), str(result.nodes_after), ""),
        ("file", "", size(before), size(after), f"{before / after:.3f}" if after else ""),
        (
            "session creation",
            "",
            milliseconds(median(creation.a_seconds)),
            milliseconds(median(creation.b_seconds)),
            f"{interval_text(Interval(creation.ratio, creation.low, creation.high))}, {creation.verdict}",
        ),
    ]
    if latency is not None:
        a, b = latency.arms
        ratio = interval_text(Interval(latency.ratio, latency.low, latency.high))
        rows.append(("latency", "", milliseconds(a.median), milliseconds(b.median), f"{ratio}, {latency.verdict}"))
    lines = [report.note] if report.note else []
    lines += [
        f"{report.model} through {PIPELINE}:",
        "",
        table(("", "rewrites", "before", "after", "before / after [95 % interval]"), rows),
        "",
        verdict_text(report.comparison),
    ]
    notes = report.comparison.notes + ((latency.note,) if latency is not None and latency.note else ())
    return "\n".join([*lines, *(f"note: {note}" for note in notes)])


def _source(
    scratch: Path, find: Callable[[str], Path], progress: Progress
) -> tuple[str, Path, str, tuple[Binding, ...]]:
    """The model's name and file, why it is not the text recogniser, and the shapes that it is known to take."""
    progress(f"fetching {MODEL}", 0.0)
    try:
        path = find(MODEL)
    except ZooError as error:
        path = scratch / f"{FALLBACK}.onnx"
        ir.save(tutorial_cnn(), path)
        return FALLBACK, path, f"{error} Going on with {FALLBACK}, which planish builds itself.", ()
    bindings = tuple(Binding(binding.shapes, binding.fixed) for binding in ZOO[MODEL].bindings)
    return MODEL, path, "", bindings
