"""A calibration for a terminal: the tensors that a user should look at before quantizing."""

from __future__ import annotations

import math

from planish.passes.quantize.calibration import Calibration, TensorStatistics
from planish.runtime.report import table

OUTLIERS = 4.0
"""A largest magnitude of so many times that under which 99.9 % lie is worth a look."""
_SHOWN = 10


def suspicions(seen: TensorStatistics) -> list[str]:
    """What speaks against quantizing the tensor by what was observed."""
    found = [kind for count, kind in ((seen.nans, "NaN"), (seen.infs, "infinite")) if count]
    if seen.observed is None:
        return [*found, "nothing finite"] if seen.count else [*found, "never made"]
    if seen.min == seen.max:
        found.append("constant")
    if seen.outlier_ratio >= OUTLIERS:
        found.append("outliers")
    return found


def calibration_dict(found: Calibration) -> dict[str, object]:
    return {
        "model": found.model,
        "samples": found.samples,
        "tensors": len(found.tensors),
        "grams": list(found.grams),
        "suspicious": {name: doubts for name, seen in found.tensors.items() if (doubts := suspicions(seen))},
        "warnings": list(found.warnings),
    }


def calibration_text(found: Calibration) -> str:
    """The suspicious tensors first, those with the most doubts and outliers in front, then the widest others."""
    doubtful = {name: doubts for name, seen in found.tensors.items() if (doubts := suspicions(seen))}
    worst = sorted(doubtful, key=lambda name: (-len(doubtful[name]), -found.tensors[name].outlier_ratio))
    others = sorted((name for name in found.tensors if name not in doubtful), key=lambda n: -_width(found.tensors[n]))
    shown = [*worst[:_SHOWN], *others[: max(_SHOWN - len(worst), _SHOWN // 2)]]
    rows = [_row(name, found.tensors[name], doubtful.get(name, [])) for name in shown]
    lines = [table(("tensor", "low", "high", "deviation", "zeros", "max / 99.9 %", "look at"), rows), ""]
    grams = f", {len(found.grams)} Gram matrices" if found.grams else ""
    lines.append(f"{found.samples} samples, {len(found.tensors)} tensors{grams}; {len(doubtful)} to look at")
    return "\n".join((*lines, *(f"warning: {warning}" for warning in found.warnings)))


def _width(seen: TensorStatistics) -> float:
    return 0.0 if seen.observed is None else seen.observed[1] - seen.observed[0]


def _row(name: str, seen: TensorStatistics, doubts: list[str]) -> tuple[str, ...]:
    low, high = seen.observed or (math.nan, math.nan)
    deviation = math.nan if seen.variance is None else math.sqrt(seen.variance)
    zeros = f"{seen.zeros / seen.finite:.0%}" if seen.finite else "-"
    return (name, *map(_figure, (low, high, deviation)), zeros, f"{seen.outlier_ratio:.3g}", ", ".join(doubts) or "-")


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"
