"""Results as text for a terminal: tables, sizes, ratios."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from planish.passes import PassRecord
from planish.runtime.agreement import CompareReport, OutputReport
from planish.runtime.compile import OptimizeResult
from planish.runtime.evaluate import Evaluation
from planish.runtime.inspect import Inspection
from planish.runtime.latency import LatencyReport
from planish.runtime.statistics import Interval

_UNITS = ("B", "kB", "MB", "GB", "TB")
_THOUSAND = 1000
_READABLE, _SHORT = 200, 24


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: bool = False) -> str:
    """Columns under their names: the first flush left, the others as figures are, flush right, unless `left`."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]

    def text(line: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if left or column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return "\n".join([text(lines[0]), "  ".join("-" * width for width in widths), *map(text, lines[1:])])


def size(count: float) -> str:
    """Bytes or a count of things, in powers of a thousand: 1.2 MB."""
    return _scaled(count, _UNITS)


def number(count: float) -> str:
    return _scaled(count, ("", "k", "M", "G", "T")).rstrip()


def _scaled(count: float, units: Sequence[str]) -> str:
    index = 0
    while count >= _THOUSAND and index + 1 < len(units):
        count, index = count / _THOUSAND, index + 1
    return f"{count:.0f} {units[index]}" if index == 0 else f"{count:.3g} {units[index]}"


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def interval_text(found: Interval) -> str:
    """`1.23 [1.20, 1.27]`, and an end that the sample does not bound as `?`."""
    low = f"{found.low:.3f}" if found.low > 0 else "?"
    high = f"{found.high:.3f}" if math.isfinite(found.high) else "?"
    return f"{found.ratio:.3f} [{low}, {high}]"


def passes_table(records: Sequence[PassRecord]) -> str:
    """What the passes did, and how many of them had nothing to do."""
    busy = at_work(records)
    rows = [
        (
            record.name,
            str(len(record.rewrites)),
            str(record.nodes_before),
            str(record.nodes_after),
            milliseconds(record.seconds),
        )
        for record in busy
    ]
    idle = milliseconds(sum(record.seconds for record in records) - sum(record.seconds for record in busy))
    rows.append((f"{len(records) - len(busy)} others", "0", "", "", idle))
    return table(("pass", "rewrites", "nodes before", "after", "time"), rows)


def at_work(records: Sequence[PassRecord]) -> list[PassRecord]:
    """The passes that rewrote something, at each place of the pipeline."""
    return [record for record in records if record.rewrites]


def optimize_text(result: OptimizeResult) -> str:
    total = (
        f"{len(result.rewrites)} rewrites; nodes {result.nodes_before} -> {result.nodes_after}; "
        f"load {milliseconds(result.load_seconds)}, passes {milliseconds(result.run_seconds)}"
    )
    lines = [passes_table(result.records), "", total]
    if result.target is not None and result.bytes_after is not None:
        sizes = f"{size(result.bytes_before)} -> {size(result.bytes_after)}"
        lines.append(f"{result.target}: {sizes}, written in {milliseconds(result.save_seconds)}")
    lines += [f"note: {note}" for note in result.graph.notes]
    lines += [f"{record.name}: {note}" for record in result.records for note in record.notes]
    return "\n".join(lines)


def inspect_text(found: Inspection) -> str:
    lines = [f"{found.path}: {size(found.bytes)}" + _among(found.external_files, "with external data in")]
    lines.append(f"opsets: {', '.join(f'{domain} {version}' for domain, version in found.opsets.items())}")
    ports = [*(("input", port) for port in found.inputs), *(("output", port) for port in found.outputs)]
    rows = [(f"{side} {port.name}", port.type + (" overridable" if port.overridable else "")) for side, port in ports]
    lines += ["", table(("interface", "type"), rows, left=True)]
    if found.dynamic_dims:
        lines.append(f"dynamic dims: {', '.join(found.dynamic_dims)}")
    counts = [
        (op, str(count), _short(found.macs[op]) if op in found.macs else "") for op, count in found.operators.items()
    ]
    lines += ["", table(("operator", "nodes", "multiply-accumulates"), counts)]
    lines.append(f"{found.nodes} nodes" + _nested(found) + _among(found.functions, "functions"))
    lines.append(f"multiply-accumulates: {_macs(found)}" + _unknown(found.unknown_macs))
    rows = [(w.dtype, str(w.tensors), number(w.elements), size(w.bytes)) for w in found.weights]
    lines += ["", table(("constants", "tensors", "elements", "bytes"), rows)]
    return "\n".join(lines)


def _short(dim: int | str) -> str:
    return number(dim) if isinstance(dim, int) else dim if len(dim) <= _SHORT else "symbolic"


def _macs(found: Inspection) -> str:
    """A number, or an expression where it can be read."""
    if isinstance(found.total_macs, int):
        return number(found.total_macs)
    if len(found.total_macs) <= _READABLE:
        return found.total_macs
    return f"depend on {', '.join(found.dynamic_dims)}; --shape gives a number, --json the expression"


def _among(names: Sequence[str], what: str) -> str:
    return f", {what} {', '.join(names)}" if names else ""


def _nested(found: Inspection) -> str:
    if not found.nested_graphs:
        return ""
    return f", some of them in {found.nested_graphs} nested graphs up to {found.depth} deep"


def _unknown(nodes: int) -> str:
    return f", without those of {nodes} nodes whose shapes only a run tells" if nodes else ""


def evaluations_text(found: Sequence[Evaluation[object]]) -> str:
    """Of one task and model, one for each provider: each metric with its interval, then what it rests on."""
    rows = [
        (
            metric.name + (f" ({metric.unit})" if metric.unit else ""),
            evaluation.target.provider,
            f"{estimate.value:.4f}",
            f"[{_end(estimate.low)}, {_end(estimate.high)}]",
        )
        for evaluation in found
        for metric, estimate in zip(evaluation.metrics, evaluation.estimates, strict=True)
    ]
    lines = [table(("metric", "provider", "value", "95 % interval"), rows), ""]
    for evaluation in found:
        over = f"{evaluation.samples} samples"
        if evaluation.groups < evaluation.samples:
            over += f" of {evaluation.groups} sources"
        nodes = ", ".join(f"{count} nodes on {name}" for name, count in evaluation.placement.items()) or "no nodes"
        lines.append(f"{evaluation.task}: {over} in {evaluation.seconds:.1f} s, {nodes}")
        if evaluation.with_nan:
            lines.append(f"warning: NaN in the outputs for {evaluation.with_nan} samples")
    return "\n".join(lines)


def _end(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "?"


def compare_text(report: CompareReport) -> str:
    lines: list[str] = []
    if report.outputs:
        lines += [outputs_table(report.outputs), ""]
    lines.append(verdict_text(report))
    lines += [f"note: {note}" for note in report.notes]
    if report.latency is not None:
        lines += ["", latency_text(report.latency)]
    return "\n".join(lines)


def verdict_text(report: CompareReport) -> str:
    """The verdict with what it rests on."""
    refused = sum(run.verdict == "refused" for run in report.runs)
    runs = f"{len(report.runs) - refused} runs at {len(report.bindings)} bindings"
    if refused:
        runs += f", {refused} more that A refuses"
    if report.equal:
        same = all(output.identical == output.runs for output in report.outputs)
        how = "in every bit" if same else "within what rounding explains"
        return f"equal {how}: {runs}"
    return f"differs: {report.reason}" + (f" ({runs})" if report.runs else "")


def outputs_table(outputs: Sequence[OutputReport]) -> str:
    """The worst run of each output; what is allowed there is the bound, or a multiple of the noise if that is more."""
    return table(
        ("output", "identical", "max abs", "allowed", "bound", "noise", "relative L2", "SNR dB", "cosine", "verdict"),
        [
            (
                output.name,
                f"{output.identical}/{output.runs}",
                _figure(output.worst.max_abs),
                _figure(output.allowed),
                _figure(output.bound),
                "-" if output.noise is None else _figure(output.noise),
                _figure(output.worst.relative_l2),
                f"{output.worst.snr_db:.0f}",
                f"{output.worst.cosine:.9f}",
                output.verdict,
            )
            for output in outputs
        ],
    )


def latency_text(report: LatencyReport) -> str:
    """The ratio first, then what each model took in this one measurement."""
    a, b = report.arms
    measured = interval_text(Interval(report.ratio, report.low, report.high))
    lines = [
        f"latency, A over B: {measured}, {report.verdict}; A over A: {interval_text(report.noise)}",
        f"a run: {_pair(a.median, b.median)}; the first: {_pair(a.first_run, b.first_run)}",
        f"session: {_pair(a.creation, b.creation)}",
    ]
    if report.bound is not None:
        bound = interval_text(Interval(report.bound.ratio, report.bound.low, report.bound.high))
        lines.append(f"without copies in and out: {bound}, {report.bound.verdict}")
    return "\n".join((*lines, *([f"note: {report.note}"] if report.note else [])))


def _pair(a: float, b: float) -> str:
    return f"A {milliseconds(a)}, B {milliseconds(b)}"


def _figure(value: float) -> str:
    return "0" if value == 0 else f"{value:.2g}"
