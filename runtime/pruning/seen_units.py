"""What the units of groups hold while a model runs on samples, and what the products that read them take."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from planish import ir
from planish.ir import Value
from planish.passes.prune.dependency import Group, Member
from planish.passes.prune.importance.consumers import readings
from planish.passes.quantize.gram import Gram, Window
from planish.runtime.cut import cut, size_of
from planish.runtime.model_run import Face, ModelRun
from planish.runtime.patches import GramObserver, Rows
from planish.runtime.progress import Progress
from planish.runtime.providers import Array, Target
from planish.runtime.samples import Feeds, Parts
from planish.runtime.staged import StagedSession, give_back
from planish.runtime.task import Outputs

Doubles = NDArray[np.float64]
_MOST_GRAM_BYTES = 256 << 20


class UnitObserver:
    """Sums over the elements of each unit along an axis; elements that are not finite are left out."""

    def __init__(self, member: Member, size: int) -> None:
        self.member, self.size = member, size
        self.count, self.total, self.squares, self.magnitude, self.zeros = np.zeros((5, size))
        self.means: list[Doubles] = []
        """Of each run, [units]."""

    def observe(self, array: Array) -> None:
        axis = self.member.axis
        if array.ndim <= axis or array.shape[axis] != len(self.member.units):
            return
        rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1).astype(np.float64)
        finite = np.isfinite(rows)
        rows = np.where(finite, rows, 0)
        count, total = self._by_unit(finite), self._by_unit(rows)
        with np.errstate(over="ignore"):
            self.squares += self._by_unit(np.square(rows))
        self.count += count
        self.total += total
        self.magnitude += self._by_unit(np.abs(rows))
        self.zeros += self._by_unit((rows == 0) & finite)
        self.means.append(np.where(count > 0, total / np.maximum(count, 1), np.nan))

    def _by_unit(self, rows: Doubles | NDArray[np.bool_]) -> Doubles:
        units = self.member.units
        return np.bincount(units[units >= 0], rows.sum(axis=1)[units >= 0], self.size).astype(np.float64)

    @property
    def variance(self) -> Doubles:
        """Infinite where float64 cannot hold it, too."""
        count = np.maximum(self.count, 1)
        with np.errstate(over="ignore", invalid="ignore"):
            found = np.maximum(self.squares / count - np.square(self.total / count), 0)
        return np.where((self.count > 0) & np.isfinite(found), found, np.inf)

    @property
    def mean_magnitude(self) -> Doubles:
        return self._mean_of(self.magnitude)

    @property
    def part_of_nonzeros(self) -> Doubles:
        """One less the average percentage of zeros (Hu et al. 2016, APoZ, arXiv 1607.03250)."""
        return self._mean_of(self.count - self.zeros)

    def _mean_of(self, sums: Doubles) -> Doubles:
        """Infinite where no element was finite."""
        return np.where(self.count > 0, sums / np.maximum(self.count, 1), np.inf)


@dataclass(frozen=True)
class Seen:
    """units: of each group by its place, None where no tensor tells of them."""

    grams: Mapping[str, Gram]
    units: Sequence[UnitObserver | None]
    samples: int


@dataclass
class _Watch:
    grams: dict[str, GramObserver] = field(default_factory=dict[str, GramObserver])
    of: dict[str, list[GramObserver | UnitObserver]] = field(
        default_factory=dict[str, "list[GramObserver | UnitObserver]"]
    )

    def look(self, name: str, array: Array) -> None:
        for observer in self.of.get(name, ()):
            observer.observe(array)


def see(
    path: Path, groups: Sequence[Group], samples: Parts[object], target: Target, progress: Progress, *, grams: bool
) -> Seen:
    """Run the model in a file, of which the groups were found, on samples.

    Raises CalibrationError, TaskError and SessionError as `calibrate`.
    """
    watch = _Watch()
    units = [_observer(group) for group in groups]
    for observer in units:
        if observer is not None:
            watch.of.setdefault(observer.member.value.name, []).append(observer)
    for reading in [reading for group in groups for reading in readings(group)] if grams else ():
        node, key = reading.node, reading.key
        if key not in watch.grams and reading.units.shape[0] * reading.units.shape[1] ** 2 * 8 <= _MOST_GRAM_BYTES:
            rows = Rows(node.op == "Gemm" and bool(node.get_int("transA")), Window.of(node))
            watch.grams[key] = GramObserver(rows)
            watch.of.setdefault(reading.x.name, []).append(watch.grams[key])
    count = _run(path, watch, samples, target, progress)
    found = {key: gram for key, observer in watch.grams.items() if (gram := observer.gram()) is not None}
    return Seen(found, units, count)


def _run(path: Path, watch: _Watch, samples: Parts[object], target: Target, progress: Progress) -> int:
    face, graph, count = Face.of(path, target), ir.load(path), 0
    with tempfile.TemporaryDirectory(prefix="planish-") as folder:
        plan = cut(graph, frozenset(watch.of), size_of(face.shapes(samples), graph), Path(folder))
        give_back()
        opened = StagedSession(plan, target)
        for part in samples.parts:
            for item in part:
                where = samples.runner.where(item)

                def work(feeds: Feeds, where: str = where) -> Outputs:
                    face.check(feeds, where)
                    return Outputs(opened.run(feeds, watch.look), face.label)

                samples.runner.run(item, ModelRun(face, work))
                count += 1
            progress("watching units", 0.0)
    return count


def _observer(group: Group) -> UnitObserver | None:
    """Of the tensor that the first product takes, else of the last that nodes make."""
    wanted: dict[Value, None] = dict.fromkeys(reading.x for reading in readings(group))
    tensors = [member for member in group.members if not member.is_constant and member.value.name]
    tensors = [member for member in tensors if member.value.dtype is not None and member.value.dtype.is_float]
    read = [member for member in tensors if member.value in wanted]
    found = next(iter(read or tensors[::-1]), None)
    return None if found is None else UnitObserver(found, group.size)
