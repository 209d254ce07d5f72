"""Errors of a quantized model for a terminal: the tensors that lost most first, then the weights."""

from __future__ import annotations

from planish.runtime.error_tally import Error, WeightError
from planish.runtime.quantization_error import QuantizationErrors
from planish.runtime.report import table

_BARS = "▁▂▃▄▅▆▇█"
_NO_NOISE = "exact"
SHOWN = 20


def quantization_errors_text(found: QuantizationErrors, shown: int = SHOWN) -> str:
    """shown: so many tensors, and so many weights; 0 for all."""
    worst = sorted(found.tensors, key=lambda error: (error.snr is None, error.snr or 0.0))[: shown or None]
    header = ("tensor", "codes", "SNR dB", "alone", "lowest", "highest", "beyond", "to 0", "used")
    lines = [table(header, [_row(error) for error in worst])]
    lines.append(
        f"{found.samples} samples, {len(found.tensors)} tensors that both models have" + _rest(found.tensors, worst)
    )
    weakest = sorted(found.weights, key=lambda error: (error.snr is None, error.snr or 0.0))[: shown or None]
    if weakest:
        header = ("weight", "codes", "elements", "scales", "SNR dB", "used", "from the lowest code to the highest")
        lines += ["", table(header, [_weight_row(error) for error in weakest])]
        lines.append(f"{len(found.weights)} weights" + _rest(found.weights, weakest))
    if found.unmatched:
        names = ", ".join(found.unmatched[:3]) + (", ..." if len(found.unmatched) > 3 else "")
        lines.append(f"{len(found.unmatched)} tensors of codes stand for none of the float model: {names}")
    return "\n".join(lines)


def _rest(all_of: tuple[object, ...], shown: list[Error] | list[WeightError]) -> str:
    return f"; those with the least SNR are shown, {len(shown)} of them" if len(shown) < len(all_of) else ""


def _row(error: Error) -> tuple[str, ...]:
    parts = (error.lowest, error.highest, error.beyond, error.vanished)
    used = "-" if error.used is None else str(error.used)
    alone = _decibels(error.alone) if error.codes else "-"
    return error.name, error.codes or "-", _decibels(error.snr), alone, *map(_percent, parts), used


def _weight_row(error: WeightError) -> tuple[str, ...]:
    snr = "-" if error.snr is None else _decibels(error.snr)
    used = f"{error.used}/{error.levels}"
    return error.name, error.codes, str(error.elements), str(error.channels), snr, used, sparkline(error.histogram)


def sparkline(counts: tuple[int, ...]) -> str:
    """A bar for each count, as high as it is beside the largest; a space for 0."""
    most = max(counts, default=0)
    return "".join(_BARS[min(len(_BARS) - 1, count * len(_BARS) // most)] if count else " " for count in counts)


def _decibels(snr: float | None) -> str:
    return _NO_NOISE if snr is None else f"{snr:.1f}"


def _percent(part: float | None) -> str:
    return "-" if part is None else f"{100 * part:.3g}%"
