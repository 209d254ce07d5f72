"""Whether an exported model computes what the framework does, and has the interface that it should have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from planish.ir import Graph
from planish.models.lower.errors import ExportError, LowerError
from planish.models.lower.framework import Lowering
from planish.models.lower.inputs import Array, Inputs, check_dims, drawn, other_extents, resized
from planish.runtime.agreement import OutputReport, RunReport
from planish.runtime.bindings import Binding
from planish.runtime.errors import SessionError
from planish.runtime.feeds import KINDS, Feeds, Set
from planish.runtime.floats import is_floating
from planish.runtime.isolated import Host
from planish.runtime.judge import Judge, Runs
from planish.runtime.providers import Target
from planish.runtime.session import Feed, Result
from planish.runtime.shaken import Shaken

EXAMPLE = "the example"
DRAWN = "drawn"
"""Inputs of values that the example holds."""


@dataclass(frozen=True)
class Agreement:
    """What was seen when a model and its lowering ran on the same inputs."""

    runs: tuple[RunReport, ...]
    outputs: tuple[OutputReport, ...]
    notes: tuple[str, ...]

    @property
    def reason(self) -> str:
        """The first difference in words, or nothing."""
        return next((run.reason for run in self.runs if run.verdict in ("differs", "failed")), "")


def agreement(
    graph: Graph, path: Path, lowering: Lowering, inputs: Inputs, others: Sequence[Mapping[str, Array]]
) -> Agreement:
    """Run the framework's model and the ONNX file on the example, on inputs of other values, and on `others`.

    Raises LowerError where the framework refuses the example, and ExportError where ONNX Runtime cannot run the file.
    """
    feeds = Feeds(graph, inputs.fixed, inputs.bounds(lowering.example), inputs.seed)
    target = Target(optimization="disabled")
    with Host() as host:
        try:
            session = host.open(path, target)
            lowering.see(session.run(dict(lowering.example)))
        except SessionError as error:
            raise ExportError(str(error).replace(str(path), "the exported model")) from error
        again, otherwise = _Kept(lowering.run), _Kept(lowering.otherwise)
        moved = _Moved(again, session, Shaken(host, path, target, path.parent))
        settled = _Settled(lowering, session, again)
        judge = Judge(graph, lowering, settled, (otherwise, moved), exact=False)
        runs: list[RunReport] = []
        for example in (lowering.example, *others):
            binding = feeds.complete(Binding({name: array.shape for name, array in example.items()}))
            extents = feeds.symbols.of(binding)
            sets = _sets(feeds, binding, example, inputs, first=example is lowering.example)
            runs += [judge.run(binding, extents, chosen) for chosen in sets]
    if runs[0].verdict == "refused":
        raise LowerError(f"the model does not take the example inputs: {runs[0].reason}")
    notes = (*judge.notes(), *settled.notes())
    if all(run.verdict == "refused" for run in runs[1:]):
        notes = (*notes, f"the model itself takes the example and none of the other inputs: {runs[-1].reason}")
    return Agreement(tuple(runs), judge.outputs(), notes)


class _Kept:
    """A run of the framework's model, whose outputs are kept until it gets other inputs."""

    def __init__(self, run: Callable[[Mapping[str, Feed]], list[Result]]) -> None:
        self._run = run
        self._feeds: Mapping[str, Feed] = {}
        self._results: list[Result] = []

    def run(self, feeds: Mapping[str, Feed]) -> list[Result]:
        if not self._results or any(feeds[name] is not self._feeds.get(name) for name in feeds):
            self._feeds, self._results = feeds, self._run(feeds)
        return self._results


class _Settled:
    """The exported model, with the framework's choice wherever it chose another among equals."""

    def __init__(self, lowering: Lowering, exported: Runs, model: Runs) -> None:
        self._lowering, self._exported, self._model = lowering, exported, model
        self._settled = 0

    def run(self, feeds: Mapping[str, Feed]) -> list[Result]:
        found = self._exported.run(feeds)
        settled = list(self._lowering.settled(found, self._model.run(feeds)))
        self._settled += sum(_count_changed(one, other) for one, other in zip(found, settled, strict=True))
        return settled

    def notes(self) -> tuple[str, ...]:
        if not self._settled:
            return ()
        return (f"{self._settled} times scores were equal but for rounding, and the exported model chose another",)


def _count_changed(one: Result, other: Result) -> int:
    return 0 if one is other else int(np.sum(np.asarray(one) != np.asarray(other)))


class _Moved:
    """The framework's outputs, moved as far as those of the exported model move when its constants go one step aside.

    How much rounding the constants may do is measured on the exported model alone, so a wrong one excuses nothing.
    """

    def __init__(self, model: Runs, exported: Runs, shaken: Runs) -> None:
        self._model, self._exported, self._shaken = model, exported, shaken

    def run(self, feeds: Mapping[str, Feed]) -> list[Result]:
        theirs, plain, moved = self._model.run(feeds), self._exported.run(feeds), self._shaken.run(feeds)
        return [_shifted(*three) for three in zip(theirs, plain, moved, strict=True)]


def _shifted(result: Result, before: Result, after: Result) -> Result:
    if not (isinstance(result, np.ndarray) and isinstance(before, np.ndarray) and isinstance(after, np.ndarray)):
        return result
    if not is_floating(result.dtype) or not result.shape == before.shape == after.shape:
        return result
    step = after.astype(np.float64) - before.astype(np.float64)
    return (result.astype(np.float64) + np.where(np.isfinite(step), step, 0.0)).astype(result.dtype)


def other_sizes(lowering: Lowering) -> list[dict[str, Array]]:
    """The example with another extent of each dynamic dim, of all at once where the model takes that.

    Raises LowerError for a dim of which the framework's own model takes no other extent.
    """
    extents = check_dims(lowering.example, lowering.dynamic)
    taken = {dim: _other(lowering, dim, extent) for dim, extent in extents.items()}
    if not taken:
        return []
    together = resized(lowering.example, lowering.dynamic, taken)
    if _accepts(lowering, together):
        return [together]
    return [resized(lowering.example, lowering.dynamic, {dim: extent}) for dim, extent in taken.items()]


def _other(lowering: Lowering, dim: str, extent: int) -> int:
    for candidate in other_extents(extent):
        if candidate != extent and _accepts(lowering, resized(lowering.example, lowering.dynamic, {dim: candidate})):
            return candidate
    raise LowerError(
        f"the dim {dim!r} is to be dynamic, and {lowering.framework} itself runs the model with {extent} there and "
        "with no other extent that was tried; leave it static, or name dims that change together alike"
    )


def _accepts(lowering: Lowering, feeds: Mapping[str, Array]) -> bool:
    try:
        lowering.run(feeds)
    except SessionError:
        return False
    return True


def _sets(
    feeds: Feeds, binding: Binding, example: Mapping[str, Array], inputs: Inputs, *, first: bool
) -> Iterator[Set]:
    """The example or one resized; then others of its shapes, more of them for the first."""
    held: dict[str, Feed] = dict(example)
    yield Set(EXAMPLE if first else "the resized example", held)
    fixed = {name: array for name, array in held.items() if name in inputs.fixed}
    random = np.random.default_rng([inputs.seed, 1])
    yield Set(DRAWN, {**drawn(example, random), **fixed})
    for kind in KINDS if first else KINDS[:1]:
        if kind.ordinary and not kind.denormal:
            yield feeds.make(kind, binding)
