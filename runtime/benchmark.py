"""Which of two models is faster, with the proof: paired blocks of runs in processes of their own.

A second process that runs A stands beside A and B, and what it shows against A is the noise floor. A round visits every
arm twice in mirrored order (A B A' A' B A), so that a steady drift of the machine cancels. Ratios of one run carry
over; absolute times of different runs do not compare.
"""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from planish.runtime.arm import Arm, Memory, Opened
from planish.runtime.errors import SessionError
from planish.runtime.latency import ArmReport, BoundReport, CreationReport, LatencyReport
from planish.runtime.providers import Target
from planish.runtime.session import Feed
from planish.runtime.statistics import (
    EQUIVALENCE,
    MIN_ROUNDS,
    Floats,
    Interval,
    decide,
    interval,
    percentiles,
    round_log_ratio,
    stable,
)

ModelPath = str | os.PathLike[str]
Progress = Callable[[float], None]

MIN_FEEDS = 4
BLOCK_SECONDS = 0.05
BLOCK_RUNS = 5
PRECISION = 0.01
"""Measuring stops at this half-width of the interval in logarithms, or at a tenth of the difference if that is more."""

_ENOUGH_ROUNDS = 8  # before this many, a narrow interval may be luck
_END_TO_END_SHARE = 0.7
_WARM_UP_SHARE = 0.2
_BOUND_SHARE = 0.15  # even when the rest is spent
# Of A, B and A again: every pair meets in both orders equally often, A and B in turn.
_ORDERS = ((0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0), (0, 2, 1), (1, 0, 2))
_BOUND_ORDERS = ((0, 1), (1, 0))


@dataclass
class _Series:
    """What one way of running, end to end or bound, has shown so far."""

    arms: Sequence[Arm]
    orders: Sequence[tuple[int, ...]]
    bound: bool
    ratios: list[float] = field(default_factory=list[float])
    noise: list[float] = field(default_factory=list[float])
    runs: list[list[Floats]] = field(default_factory=list[list[Floats]])

    def round(self) -> None:
        order = self.orders[len(self.ratios) % len(self.orders)]
        medians: list[list[float]] = [[] for _ in self.arms]
        if not self.runs:
            self.runs.extend([] for _ in self.arms)
        for half, visit in enumerate((order, order[::-1])):
            start = BLOCK_RUNS * (2 * len(self.ratios) + half)  # the same inputs first in every arm
            for index in visit:
                seconds = self.arms[index].block(bound=self.bound, start=start, runs=BLOCK_RUNS, seconds=BLOCK_SECONDS)
                medians[index].append(float(np.median(seconds)))
                self.runs[index].append(seconds)
        self.ratios.append(round_log_ratio(medians[0], medians[1]))
        if len(self.arms) > 2:
            self.noise.append(round_log_ratio(medians[0], medians[2]))

    def seconds(self, index: int) -> Floats:
        return np.concatenate(self.runs[index])

    def narrow(self) -> bool:
        found = interval(self.ratios)
        wide = max(PRECISION, abs(math.log(found.ratio)) / 10)
        noise = interval(self.noise).half_width if self.noise else 0.0
        return len(self.ratios) >= _ENOUGH_ROUNDS and max(found.half_width, noise) <= wide

    def measure(self, seconds: float, progress: Progress) -> None:
        """Rounds, one at least, until the interval is narrow or another would outlast `seconds`."""
        start = time.monotonic()
        while True:
            self.round()
            elapsed = time.monotonic() - start
            progress(min(1.0, elapsed / seconds) if seconds > 0 else 1.0)
            if elapsed + elapsed / len(self.ratios) > seconds or self.narrow():
                return


@dataclass
class _Runner:
    """An arm and what it said of itself."""

    model: str
    arm: Arm
    opened: Opened = field(init=False)
    memory: Memory = field(init=False)
    unbound: str | None = None
    warm: bool = False

    def warm_up(self, seconds: float) -> None:
        """Blocks until their median is stable or `seconds` are spent."""
        deadline = time.monotonic() + seconds
        medians: list[float] = []
        while not self.warm and (not medians or time.monotonic() < deadline):
            block = self.arm.block(bound=False, start=len(medians), runs=1, seconds=BLOCK_SECONDS)
            medians.append(float(np.median(block)))
            self.warm = stable(medians)

    def weigh_and_bind(self) -> None:
        self.memory = self.arm.memory()  # before the bindings, which hold outputs for all inputs at once
        self.unbound = self.arm.bind()

    def report(self, series: _Series, bound: _Series, index: int) -> ArmReport:
        seconds = series.seconds(index)
        return ArmReport(
            model=self.model,
            median=float(np.median(seconds)),
            percentiles=percentiles(seconds),
            runs=seconds.size,
            bound_median=float(np.median(bound.seconds(index))) if bound.runs else None,
            unbound=self.unbound,
            creation=self.opened.creation_seconds,
            first_run=self.opened.first_run_seconds,
            memory=self.memory,
            placement=self.opened.placement,
            warm=self.warm,
        )


@dataclass(frozen=True)
class _Share:
    """A part of the progress, told as the whole's."""

    progress: Progress | None
    low: float
    high: float

    def __call__(self, part: float) -> None:
        if self.progress is not None:
            self.progress(self.low + (self.high - self.low) * part)


def benchmark(
    a: ModelPath,
    b: ModelPath,
    feeds: Sequence[Mapping[str, Feed]],
    *,
    target: Target | None = None,
    budget_seconds: float = 10.0,
    config: Mapping[str, str] | None = None,
    timeout_seconds: float = 300.0,
    progress: Progress | None = None,
) -> LatencyReport:
    """The latency of B against A on inputs of one size, in rotation.

    Args:
        feeds: at least MIN_FEEDS of them, unless the models take no input.
        budget_seconds: for warming up and measuring; starting the three processes comes on top.
        config: ONNX Runtime's session configuration entries, for both.
        timeout_seconds: for one answer of a process: creating a session, or one block.
        progress: told the part of the budget that is spent, 0 to 1.

    Raises:
        SessionError: a model cannot be opened or run, the provider does not run it, or a process died or hung.
    """
    _check(feeds, budget_seconds)
    target = target or Target()
    with ExitStack() as stack:
        runners = [_Runner(os.fspath(model), stack.enter_context(Arm(model, timeout_seconds))) for model in (a, b, a)]
        for runner in runners:
            runner.opened = runner.arm.open(target, config or {}, feeds)
        start = time.monotonic()
        for runner in runners:
            runner.warm_up(budget_seconds * _WARM_UP_SHARE / len(runners))
        series = _Series([runner.arm for runner in runners], _ORDERS, bound=False)
        share = _Share(progress, 0.0, _END_TO_END_SHARE)
        series.measure(budget_seconds * _END_TO_END_SHARE - (time.monotonic() - start), share)
        for runner in runners[:2]:
            runner.weigh_and_bind()
        bound = _Series([runner.arm for runner in runners[:2]], _BOUND_ORDERS, bound=True)
        if not any(runner.unbound for runner in runners):
            left = budget_seconds - (time.monotonic() - start)
            share = _Share(progress, _END_TO_END_SHARE, 1.0)
            bound.measure(max(left, budget_seconds * _BOUND_SHARE), share)
        elapsed = time.monotonic() - start
    found, noise = interval(series.ratios), interval(series.noise)
    return LatencyReport(
        ratio=found.ratio,
        low=found.low,
        high=found.high,
        verdict=decide(series.ratios, noise),
        noise=noise,
        bound=_bound_report(bound, noise),
        rounds=len(series.ratios),
        arms=(runners[0].report(series, bound, 0), runners[1].report(series, bound, 1)),
        target=target,
        cores=_affinity(),
        seconds=elapsed,
        note=_note(series, all(runner.warm for runner in runners), budget_seconds, elapsed),
    )


def benchmark_creation(
    a: ModelPath,
    b: ModelPath,
    *,
    target: Target | None = None,
    repeats: int = 6,
    config: Mapping[str, str] | None = None,
    timeout_seconds: float = 300.0,
    progress: Progress | None = None,
) -> CreationReport:
    """How long a session of B takes to create against one of A, each time in a fresh process, in pairs A B, B A ...

    Raises:
        SessionError: as `benchmark`; or fewer than MIN_ROUNDS repeats, which would give no interval.
    """
    if repeats < MIN_ROUNDS:
        raise SessionError(f"{repeats} repeats give no interval: ask for {MIN_ROUNDS} or more")
    models = (os.fspath(a), os.fspath(b))
    target = target or Target()
    seconds: tuple[list[float], list[float]] = ([], [])
    for index in (0, 1):
        _create(models[index], target, config or {}, timeout_seconds)  # brings the file into the page cache
    for repeat in range(repeats):
        for index in (0, 1) if repeat % 2 == 0 else (1, 0):
            seconds[index].append(_create(models[index], target, config or {}, timeout_seconds))
        if progress is not None:
            progress((repeat + 1) / repeats)
    ratios = [round_log_ratio([first], [second]) for first, second in zip(*seconds, strict=True)]
    found = interval(ratios)
    verdict = decide(ratios, Interval(1.0, 1.0, 1.0))
    return CreationReport(found.ratio, found.low, found.high, verdict, tuple(seconds[0]), tuple(seconds[1]))


def _create(model: str, target: Target, config: Mapping[str, str], timeout_seconds: float) -> float:
    with Arm(model, timeout_seconds) as arm:
        return arm.open(target, config, ()).creation_seconds


def _check(feeds: Sequence[Mapping[str, Feed]], budget_seconds: float) -> None:
    if not feeds or (any(feeds) and len(feeds) < MIN_FEEDS):
        raise SessionError(
            f"a benchmark rotates through at least {MIN_FEEDS} different inputs, and {len(feeds)} were given: "
            "a single one is soon in every cache and predicted by every branch"
        )
    if not budget_seconds > 0 or math.isinf(budget_seconds):
        raise SessionError(f"the budget must be a positive number of seconds, not {budget_seconds:g}")


def _bound_report(bound: _Series, noise: Interval) -> BoundReport | None:
    if not bound.ratios:
        return None
    found = interval(bound.ratios)
    return BoundReport(found.ratio, found.low, found.high, decide(bound.ratios, noise), len(bound.ratios))


def _note(series: _Series, warm: bool, budget_seconds: float, elapsed: float) -> str:
    notes: list[str] = []
    rounds = len(series.ratios)
    if rounds < MIN_ROUNDS:
        wanted = math.ceil(elapsed / rounds * _ENOUGH_ROUNDS)
        notes.append(f"{budget_seconds:g} s hold {rounds} of {MIN_ROUNDS} rounds: allow {wanted} s for an interval")
    if not warm:
        notes.append("the times had not settled when measuring began: the machine is busy, or the budget is short")
    margin = math.log1p(EQUIVALENCE)
    if rounds >= MIN_ROUNDS and abs(math.log(interval(series.noise).ratio)) > margin:
        notes.append(
            f"A differs from itself by more than {EQUIVALENCE:.0%}: a difference of that size means nothing here"
        )
    return "; ".join(notes)


def _affinity() -> tuple[int, ...]:
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
