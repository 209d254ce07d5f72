"""Judging runs: whether what B gives differs from what A gives by more than rounding explains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from planish.ir import Graph
from planish.runtime.agreement import OutputReport, RunReport, Verdict
from planish.runtime.bindings import Binding
from planish.runtime.difference import Difference, Leaf, difference, is_float, leaves, one_unit_up
from planish.runtime.errors import SessionError
from planish.runtime.feeds import Set
from planish.runtime.session import Feed, Result, Session
from planish.runtime.tolerance import NOISE_FACTOR, Bound, Rounding

_IRREPRODUCIBLE = 1e-2
"""Relative L2 between two runs on the same inputs, beyond which a model draws random numbers."""
_NO_BOUND = Bound(relative=0.0, floor=0.0, eps=0.0, terms=0)


@dataclass(frozen=True)
class _Allowance:
    """How far an output may be off: absolutely, and in relative L2 where the difference is above `floor`."""

    max_abs: float = 0.0
    relative_l2: float = 0.0
    floor: float = 0.0

    def excess(self, found: Difference) -> float:
        """The part of the allowance that a difference takes: above 1, it is too much."""
        if found.mismatch or found.nonfinite:
            return math.inf
        spread = _part(found.relative_l2, self.relative_l2) if found.max_abs > self.floor else 0.0
        return max(_part(found.max_abs, self.max_abs), spread)

    def widened(self, noise: Difference) -> _Allowance:
        return _Allowance(
            max(self.max_abs, NOISE_FACTOR * noise.max_abs),
            max(self.relative_l2, NOISE_FACTOR * noise.relative_l2),
            self.floor,
        )


@dataclass
class _Record:
    """What was seen of one output, or of one tensor in it."""

    bound: Bound
    runs: int = 0
    identical: int = 0
    worst: Difference = field(default_factory=lambda: Difference(0, 0))
    where: str = ""
    allowed: float = 0.0
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

    def keep(self, found: Difference, allowed: float, excess: float, where: str) -> None:
        if excess > self.excess:
            self.worst, self.allowed, self.excess, self.where = found, allowed, excess, where

    def report(self, name: str) -> OutputReport:
        return OutputReport(
            name=name,
            runs=self.runs,
            identical=self.identical,
            worst=self.worst,
            where=self.where,
            allowed=self.allowed,
            bound=self.bound.relative,
            noise=self.noise,
            verdict=self.verdict,
        )


class _Noise:
    """How A's results move on one set of inputs when nothing but rounding changes; measured when first asked for."""

    def __init__(self, graph: Graph, sessions: Sequence[Session], feeds: Mapping[str, Feed], ours: Sequence[Result]):
        """The first session is the one that gave `ours`, the second runs the same model another way."""
        self._names = graph.output_names
        self._sessions = sessions
        self._feeds = feeds
        self._ours = ours
        self._again: Mapping[str, Difference] | None = None
        self._moved: Mapping[str, Difference] | None = None

    def again(self, name: str) -> Difference:
        """A second run against the first."""
        if self._again is None:
            self._again = self._against(self._sessions[0], self._feeds)
        return self._again.get(name, Difference(0, 0))

    def moved(self, name: str) -> Difference:
        """The worst over: every float input moved to the next number, and the other session."""
        if self._moved is None:
            nudged = {name: _nudged(feed) for name, feed in self._feeds.items()}
            runs = [self._against(self._sessions[0], nudged)]
            runs += [self._against(session, self._feeds) for session in self._sessions[1:]]
            names = dict.fromkeys(name for run in runs for name in run)
            self._moved = {name: _worst([run[name] for run in runs if name in run]) for name in names}
        return self._moved.get(name, Difference(0, 0))

    def _against(self, session: Session, feeds: Mapping[str, Feed]) -> Mapping[str, Difference]:
        try:
            theirs = session.run(feeds)
        except SessionError:
            return {}
        found: dict[str, Difference] = {}
        for name, one, other in zip(self._names, self._ours, theirs, strict=True):
            ours, others = dict(leaves(one, name)), dict(leaves(other, name))
            found.update({part: difference(leaf, others[part]) for part, leaf in ours.items() if part in others})
        return found


class Judge:
    """Runs A and B on one set of inputs after another and keeps the worst of each output."""

    def __init__(self, graph: Graph, a: Session, b: Session, other: Session, *, exact: bool) -> None:
        """`graph` is A's, and `other` runs A in another way that is as right."""
        self._graph = graph
        self._a, self._b, self._other = a, b, other
        self._exact = exact
        self._rounding = Rounding(graph, tf32=a.target.memory == "cuda")
        self._records: dict[str, _Record] = {}
        self._random: dict[str, None] = {}

    def run(self, binding: Binding, extents: Mapping[str, int], inputs: Set, *, calibrate: bool) -> RunReport:
        """One run of each. `calibrate`: measure A's own noise even where nothing exceeds the bound."""
        try:
            ours = self._a.run(inputs.feeds)
        except SessionError as error:
            return RunReport(binding, inputs.name, "refused", str(error))
        where = f"{inputs.name} inputs at {binding}"
        try:
            theirs = self._b.run(inputs.feeds)
        except SessionError as error:
            return RunReport(binding, inputs.name, "differs", f"only B fails, on {where}: {error}")
        noise = _Noise(self._graph, (self._a, self._other), inputs.feeds, ours)
        bounds = [_NO_BOUND] * len(ours) if self._exact else self._rounding.bounds(extents)
        reason = ""
        for name, one, other, bound in zip(self._graph.output_names, ours, theirs, bounds, strict=True):
            mine, its = dict(leaves(one, name)), dict(leaves(other, name))
            for part, leaf in mine.items():
                record = self._records.setdefault(part, _Record(bound))
                if part not in its:
                    reason = reason or f"B lacks {part}, on {where}"
                    continue
                found = difference(leaf, its[part])
                record.see(leaf, found)
                if calibrate and is_float(leaf) and not self._exact:
                    self._measure(record, noise.moved(part), found)
                wrong = self._leaf(part, record, found, is_float(leaf), bound, noise, where)
                reason = reason or wrong
        return RunReport(binding, inputs.name, "differs" if reason else "equal", reason)

    def outputs(self) -> tuple[OutputReport, ...]:
        return tuple(record.report(name) for name, record in self._records.items())

    def notes(self) -> tuple[str, ...]:
        found = [
            f"{name} was compared in type and shape alone: A gives other values each time" for name in self._random
        ]
        still = [name for name, record in self._records.items() if record.runs > 1 and not record.varies]
        return (
            *found,
            *(f"{name} was the same in all runs, so nothing is shown of what it depends on" for name in still),
        )

    def _measure(self, record: _Record, moved: Difference, found: Difference) -> None:
        if found.scale:
            record.noise = max(record.noise or 0.0, moved.max_abs / found.scale)

    def _leaf(
        self, name: str, record: _Record, found: Difference, floats: bool, bound: Bound, noise: _Noise, where: str
    ) -> str:
        """What is wrong with one tensor of a run, or nothing."""
        if found.identical or (name in self._random and not found.mismatch):
            record.keep(found, 0.0, 0.0, where)
            return ""
        allowance = _Allowance()
        if floats and not self._exact:
            allowance = _Allowance(bound.relative * found.scale + bound.floor, bound.relative, bound.floor)
        if allowance.excess(found) > 1 and not found.mismatch:
            again = noise.again(name)
            if again.relative_l2 > _IRREPRODUCIBLE or (not floats and again.count):
                self._random[name] = None
                return ""
            if floats and not self._exact:
                moved = noise.moved(name)
                self._measure(record, moved, found)
                allowance = allowance.widened(_worst([again, moved]))
                if moved.nonfinite:  # what A itself does not settle is not held against B
                    found = replace(found, nonfinite=0)
        excess = allowance.excess(found)
        record.keep(found, allowance.max_abs, excess, where)
        if excess <= 1:
            return ""
        record.verdict = "differs"
        return f"{name} {_words(found, allowance)}, on {where}"


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
