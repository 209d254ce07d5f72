"""What compressing came to, for a terminal."""

from __future__ import annotations

from planish.runtime.compress import CompressCandidate, CompressResult
from planish.runtime.report import interval_text, number, size, table
from planish.runtime.statistics import Interval


def compress_text(result: CompressResult) -> str:
    header = ("model", "parameters", "size", result.metric, "drop", "times as fast")
    chosen = result.chosen
    last = (
        f"{result.target}: {chosen.name}, {size(chosen.bytes)}; {result.metric} of {result.judged} samples that no "
        f"weight was fitted to may drop by {result.max_drop:g}"
    )
    return "\n".join([table(header, [_row(candidate) for candidate in result.candidates]), "", *result.notes, last])


def _row(candidate: CompressCandidate) -> tuple[str, ...]:
    latency = candidate.latency
    return (
        candidate.name,
        number(candidate.parameters),
        size(candidate.bytes),
        f"{candidate.value:.4f}",
        f"{candidate.drop:.4f}",
        "-" if latency is None else interval_text(Interval(latency.ratio, latency.low, latency.high)),
    )
