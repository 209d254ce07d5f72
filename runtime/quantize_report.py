"""What quantizing came to, for a terminal: the front of size, latency and accuracy, and what stayed float."""

from __future__ import annotations

from planish.runtime.quantize import Candidate, QuantizeResult
from planish.runtime.report import interval_text, size, table
from planish.runtime.statistics import Interval

_SHOWN = 10


def quantize_dict(result: QuantizeResult) -> dict[str, object]:
    return {
        "source": str(result.source),
        "target": str(result.target),
        "quantized": result.quantized,
        "reason": result.reason,
        "metric": result.metric,
        "base": result.base,
        "max_drop": result.max_drop,
        "excluded": list(result.excluded),
        "coverage": None if result.coverage is None else result.coverage.as_dict(),
        "candidates": [_candidate_dict(candidate) for candidate in result.candidates],
    }


def _candidate_dict(candidate: Candidate) -> dict[str, object]:
    return {
        "name": candidate.name,
        "bytes": candidate.bytes,
        "snr_db": candidate.fidelity.snr,
        "cosine": candidate.fidelity.cosine,
        "agreement": candidate.fidelity.agreement,
        "drop": candidate.drop,
        "latency": None if candidate.latency is None else candidate.latency.as_dict(),
    }


def quantize_text(result: QuantizeResult) -> str:
    header = ("model", "size", "SNR dB", "cosine", "top-1 same", f"drop of {result.metric}", "times as fast")
    lines = [table(header, [_row(candidate) for candidate in result.candidates]), ""]
    if result.excluded:
        shown = ", ".join(result.excluded[:_SHOWN])
        more = f" and {len(result.excluded) - _SHOWN} more" if len(result.excluded) > _SHOWN else ""
        lines.append(f"float for the sake of accuracy: {shown}{more}")
    if result.coverage is not None:
        predicted, proved = sum(result.coverage.predicted.values()), sum(result.coverage.proved.values())
        lines.append(f"{predicted} nodes were to be integer, {proved} are, as ONNX Runtime made them")
    chosen = result.chosen
    lines.append(
        f"{result.target}: {chosen.name}, {size(chosen.bytes)}; {result.metric} was {result.base:.4f}, "
        f"and may drop by {result.max_drop:g}"
    )
    return "\n".join([*lines, *([f"not quantized: {result.reason}"] if result.reason else [])])


def _row(candidate: Candidate) -> tuple[str, ...]:
    latency = candidate.latency
    ratio = "-" if latency is None else interval_text(Interval(latency.ratio, latency.low, latency.high))
    fidelity = candidate.fidelity
    drop = "-" if candidate.drop is None else f"{candidate.drop:.4f}"
    snr = "same" if not fidelity.noise else f"{fidelity.snr:.1f}"
    return (
        candidate.name,
        size(candidate.bytes),
        snr,
        f"{fidelity.cosine:.5f}",
        f"{fidelity.agreement:.4f}",
        drop,
        ratio,
    )
