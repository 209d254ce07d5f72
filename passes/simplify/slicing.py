"""What two slices of an axis, one after the other, take of it."""

from __future__ import annotations

from typing import NamedTuple

from planish.ir.dim import Dim
from planish.ir.ops.indexing import window

FAR = 2**31 - 1
END = 2**63 - 1
_LONG = 2**31 - 2


class Bounds(NamedTuple):
    """The bounds of a Slice on one axis, as ONNX writes them: negative ones count from the end."""

    start: int
    end: int
    step: int

    @property
    def reaches_end(self) -> bool:
        return self.step > 0 and self.end >= FAR

    @property
    def reverses(self) -> bool:
        """Whether it takes everything from the last to the first, whatever the extent."""
        return self.step == -1 and (self.start == -1 or self.start >= FAR) and self.end <= -FAR


WHOLE = Bounds(0, END, 1)


def composed(first: Bounds, second: Bounds, extent: Dim) -> Bounds | None:
    """What `second` takes of what `first` takes of an axis; None where no bounds say it for every extent."""
    if isinstance(extent, int):
        taken = taken_of(first, extent)
        return of_range(taken[window(len(taken), *second)], extent)
    if first.reverses and second.reverses:
        return WHOLE
    if first.step < 1 or second.step < 1 or first.start < 0 or second.start < 0:
        return None
    end = _end(first, second)
    start, step = first.start + second.start * first.step, first.step * second.step
    if end is None or max(start, step, end if end < FAR else 0) > _LONG:
        return None
    return Bounds(start, end, step)


def _end(first: Bounds, second: Bounds) -> int | None:
    """Where both stop that start from the front; an end counted from the back may lie before the start."""
    if second.reaches_end:
        return END if first.reaches_end else first.end
    if second.end >= 0:
        end = first.start + second.end * first.step
        return min(end, first.end) if first.end >= 0 else None
    if first.step != 1 or (first.end >= 0 and not first.reaches_end):
        return None
    return second.end if first.reaches_end else first.end + second.end


def taken_of(bounds: Bounds, extent: int) -> range:
    """The places that a Slice takes of an axis, in its order."""
    return range(extent)[window(extent, *bounds)]


def of_range(taken: range, extent: int) -> Bounds:
    """Bounds that take these places of an axis."""
    if taken == range(extent):
        return WHOLE
    if not taken:
        return Bounds(0, 0, 1)
    if len(taken) == 1:
        return Bounds(taken[0], taken[0] + 1, 1)
    last = taken[-1] + (1 if taken.step > 0 else -1)
    return Bounds(taken[0], last if last >= 0 else -extent - 1, taken.step)
