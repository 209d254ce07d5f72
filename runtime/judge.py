"""Judging runs: whether what B gives differs from what A gives by more than rounding explains."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from planish.ir import Graph
from planish.runtime.agreement import OutputReport, RunReport, Verdict
from planish.runtime.bindings import Binding
from planish.runtime.difference import Difference, Leaf, difference, is_float, leaves
from planish.runtime.errors import SessionError
from planish.runtime.feeds import Set
from planish.runtime.floats import one_unit_up
from planish.runtime.session import Feed, Result
from planish.runtime.tolerance import NOISE_FACTOR, Bound, Rounding

_IRREPRODUCIBLE = 1e-2
"""Relative L2 between two runs on the same inputs, beyond which a model draws random numbers."""
_CREDIBLE = 100.0
"""How many times the bound ONNX Runtime's own rewrites may move A and still be taken for rounding."""
_SAME = Difference(0, 0)
_NO_BOUND = Bound(relative=0.0, floor=0.0, eps=0.0, terms=0)


@dataclass(frozen=True)
class _Allowance:
    """How far an output may be off: absolutely, and in relative L2 if the difference exceeds `floor`; or not at all."""

    max_abs: float = 0.0
    relative_l2: float = 0.0
    floor: float = 0.0

    def excess(self, found: Difference) -> float:
        """The part of the allowance that a difference takes: above 1, it is too much."""
        if found.mismatch or found.nonfinite or (found.count and self == _NOTHING):
            return math.inf
        spread = _part(found.relative_l2, self.relative_l2) if found.max_abs > self.floor else 0.0
        return max(_part(found.max_abs, self.max_abs), spread)

    def widened(self, noise: Difference) -> _Allowance:
        return _Allowance(
            max(self.max_abs, NOISE_FACTOR * noise.max_abs),
            max(self.relative_l2, NOISE_FACTOR * noise.relative_l2),
            self.floor,
        )


_NOTHING = _Allowance()


@dataclass
class _Record:
    """What was seen of one output, or of one tensor in it."""

    name: str
    runs: int = 0
    identical: int = 0
    worst: Difference = field(default_factory=lambda: Difference(0, 0))
    where: str = ""
    allowed: float = 0.0
    bound: float = 0.0
    excess: float = -1.0
    noise: float | None = None
    verdict: Verdict = "equal"
    first: Leaf = None
    varies: bool = False

    def see(self, leaf: Leaf, found: Difference) -> None:
        self.varies = self.varies or (self.runs > 0 and not difference(self.first, leaf).identical)
        self.first = leaf if self.runs == 0 else self.first
        self.runs += 1
        self.identical += found.identical

    def report(self) -> OutputReport:
        return OutputReport(
            name=self.name,
            runs=self.runs,
            identical=self.identical,
            worst=self.worst,
            where=self.where,
            allowed=self.allowed,
            bound=self.bound,
            noise=self.noise,
            verdict=self.verdict,
        )


class Runs(Protocol):
    """A session, wherever it is."""

    def run(self, feeds: Mapping[str, Feed]) -> list[Result]:
        """Raises SessionError."""
        ...


class _Run:
    """What A gives on a set of inputs, and, measured when asked for, how that moves under rounding alone."""

    def __init__(self, graph: Graph, sessions: tuple[Runs, Runs, Runs], inputs: Set, where: str) -> None:
        """All sessions run A, the second in another way, the third with its constants moved to the next numbers.

        Raises SessionError when A fails on these inputs.
        """
        self.inputs = inputs
        self.where = where
        self.results = sessions[0].run(inputs.feeds)
        self._names = graph.output_names
        self._sessions = sessions
        self._seen: dict[str, Mapping[str, Difference]] = {}

    def again(self, name: str) -> Difference:
        """A second run against the first."""
        return self._measure("again", self._sessions[0], lambda feed: feed).get(name, _SAME)

    def nudged(self, name: str) -> Difference:
        """A run with every float input moved to the next number."""
        return self._measure("nudged", self._sessions[0], _nudged).get(name, _SAME)

    def otherwise(self, name: str) -> Difference:
        """A run of the second session."""
        return self._measure("otherwise", self._sessions[1], lambda feed: feed).get(name, _SAME)

    def shaken(self, name: str) -> Difference:
        """A run of the third session."""
        return self._measure("shaken", self._sessions[2], lambda feed: feed).get(name, _SAME)

    def _measure(self, what: str, session: Runs, change: Callable[[Feed], Feed]) -> Mapping[str, Difference]:
        if what not in self._seen:
            self._seen[what] = self._against(session, {n: change(feed) for n, feed in self.inputs.feeds.items()})
        return self._seen[what]

    def _against(self, session: Runs, feeds: Mapping[str, Feed]) -> Mapping[str, Difference]:
        try:
            theirs = session.run(feeds)
        except SessionError:
            return {}
        found: dict[str, Difference] = {}
        for name, one, other in zip(self._names, self.results, theirs, strict=True):
            ours, others = dict(leaves(one, name)), dict(leaves(other, name))
            found.update({part: difference(leaf, others[part]) for part, leaf in ours.items() if part in others})
        return found


class Judge:
    """Runs A and B on one set of inputs after another and keeps the worst of each output."""

    def __init__(
        self, graph: Graph, a: Runs, b: Runs, others: tuple[Runs, Runs], *, exact: bool, tf32: bool = False
    ) -> None:
        """`graph` is A's.

        others: one that runs A in another way that is as right, and one of A with its constants moved by a step.
        tf32: as `Rounding` takes it.
        """
        self._graph = graph
        self._a, self._b, self._others = a, b, others
        self._exact = exact
        self._rounding = Rounding(graph, tf32=tf32)
        self._records: dict[str, _Record] = {}
        self._first: tuple[Binding, _Run] | None = None
        self._random: dict[str, None] = {}

    def run(self, binding: Binding, extents: Mapping[str, int], inputs: Set) -> RunReport:
        """One run of each. The first set of a binding must be ordinary: it shows A's usual noise there."""
        where = f"{inputs.name} inputs at {binding}"
        try:
            run = _Run(self._graph, (self._a, *self._others), inputs, where)
        except SessionError as error:
            return RunReport(binding, inputs.name, "refused", str(error))
        if inputs.ordinary and (self._first is None or self._first[0] is not binding):
            self._first = (binding, run)
        try:
            theirs = self._b.run(inputs.feeds)
        except SessionError as error:
            return RunReport(binding, inputs.name, "failed", f"only B fails, on {where}: {error}")
        bounds = [_NO_BOUND] * len(theirs) if self._exact else self._rounding.bounds(extents)
        reasons: list[str] = []
        for index, name in enumerate(self._graph.output_names):
            mine, its = dict(leaves(run.results[index], name)), dict(leaves(theirs[index], name))
            reasons += [f"{part} is in one model alone" for part in mine.keys() ^ its.keys()]
            for part, leaf in mine.items():
                if part in its:
                    reasons += self._leaf(part, (leaf, its[part]), bounds[index], run)
        if not reasons:
            return RunReport(binding, inputs.name, "equal")
        return RunReport(binding, inputs.name, "differs", f"{reasons[0]}, on {where}")

    def outputs(self) -> tuple[OutputReport, ...]:
        return tuple(record.report() for record in self._records.values())

    def notes(self) -> tuple[str, ...]:
        random = [
            f"{name} was compared in type and shape alone: A gives other values each time" for name in self._random
        ]
        still = [record.name for record in self._records.values() if record.runs > 1 and not record.varies]
        return (*random, *(f"{name} was the same in all runs, so they show little of what makes it" for name in still))

    def _leaf(self, name: str, pair: tuple[Leaf, Leaf], bound: Bound, run: _Run) -> list[str]:
        """What is wrong with one tensor of a run."""
        found = difference(*pair)
        record = self._records.setdefault(name, _Record(name))
        record.see(pair[0], found)
        rounds = is_float(pair[0]) and not self._exact
        derived = _NOTHING
        if rounds:
            derived = _Allowance(bound.relative * found.scale + bound.floor, bound.relative, bound.floor)
        allowance, noise = derived, None
        if not found.identical and derived.excess(found) > 1 and not found.mismatch:
            again = run.again(name)
            if again.relative_l2 > _IRREPRODUCIBLE or (not rounds and again.count):
                self._random[name] = None
                return []
            if rounds:
                noise = _worst([again, self._noise(name, run, bound, found.scale)])
                allowance = derived.widened(noise)
                if noise.nonfinite:  # what A itself does not settle is not held against B
                    found = replace(found, nonfinite=0)
        excess = 0.0 if found.identical else allowance.excess(found)
        if excess > record.excess:
            noise = self._noise(name, run, bound, found.scale) if rounds and noise is None else noise
            record.worst, record.where, record.excess = found, run.where, excess
            record.allowed, record.bound = allowance.max_abs, derived.max_abs
            record.noise = None if noise is None else noise.max_abs
        if excess <= 1:
            return []
        record.verdict = "differs"
        return [f"{name} {_words(found, allowance)}"]

    def _noise(self, name: str, run: _Run, bound: Bound, scale: float) -> Difference:
        """How far A moves by its own rounding.

        Inputs that stand on the very points where A turns would make of the smallest step a jump, and excuse every
        wrong turn of B: for them the noise of ordinary inputs counts, in proportion. The other ways to run A count as
        far as they can be taken for rounding, since ONNX Runtime's own rewrites may be wrong as well, and a constant
        may be such a point.
        """
        credible = _CREDIBLE * (bound.relative * scale + bound.floor)
        ways = (run.otherwise(name), run.shaken(name))
        other = _worst([way for way in ways if not (way.nonfinite or way.mismatch or way.max_abs > credible)])
        if run.inputs.ordinary:
            return _worst([run.nudged(name), other])
        usual = _SAME if self._first is None else self._first[1].nudged(name)
        part = scale / usual.scale if usual.scale else 0.0
        return _worst([replace(usual, max_abs=usual.max_abs * part, nonfinite=0), other])


def _part(found: float, allowed: float) -> float:
    return 0.0 if found == 0 else math.inf if allowed == 0 else found / allowed


def _worst(differences: Sequence[Difference]) -> Difference:
    """The largest of each figure that an allowance is made of."""
    if not differences:
        return Difference(0, 0)
    return Difference(
        elements=max(d.elements for d in differences),
        count=max(d.count for d in differences),
        max_abs=max(d.max_abs for d in differences),
        relative_l2=max(d.relative_l2 for d in differences),
        nonfinite=max(d.nonfinite for d in differences),
    )


def _words(found: Difference, allowance: _Allowance) -> str:
    if found.mismatch:
        return f"is {found.mismatch}"
    if found.nonfinite:
        return f"has {found.nonfinite} of {found.elements} elements that are NaN or infinite in one model alone"
    if found.max_abs == 0:
        return f"differs in {found.count} of {found.elements} elements"
    return (
        f"differs in {found.count} of {found.elements} elements, by up to {found.max_abs:.3g} where "
        f"{allowance.max_abs:.3g} is allowed, relative L2 {found.relative_l2:.3g} where {allowance.relative_l2:.3g} is"
    )


def _nudged(feed: Feed) -> Feed:
    if isinstance(feed, np.ndarray):
        return one_unit_up(feed)
    return feed if feed is None else [one_unit_up(item) for item in feed]
