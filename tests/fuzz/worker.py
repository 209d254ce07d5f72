"""Tries so many random models, in a process of its own, for ONNX Runtime may be killed by one.

In the folder of an order, current.onnx and stage.txt say what is being tried, words.txt what the process printed, and
outcome.json what came of all (`Outcome`), written when a model is done.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import onnx
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from planish import passes
from planish.passes.run import Fp
from tests.equivalence import FAITHFUL, RefusedError
from tests.fuzz.check import APPROXIMATE, EVERY_PASS, OPTIONS, RAW, WrongError, check
from tests.fuzz.generator import Fuzzed, fuzzed, inviting
from tests.fuzz.mutation import broken
from tests.fuzz.reduction import reduced

ALL_PASSES = "simplify,fuse"
MOST_AIMED = 3
"""Moves of a model that is made of a pass's idioms alone."""
PATIENCE = (
    HealthCheck.too_slow,
    HealthCheck.filter_too_much,
    HealthCheck.data_too_large,
    HealthCheck.large_base_example,
)
"""Checks of hypothesis that slow or large models would fail."""
WORDS = "words.txt"
_ALONE = 4
_WRITTEN_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class Order:
    seed: int
    graphs: int
    only: Sequence[str] = ()
    """Pipelines; without any, all passes together and some alone."""
    known: Sequence[str] = ()
    """How the kinds of failures begin that are known and no longer of interest."""
    aims: Sequence[str] = ()
    """Passes; with any, models are made of the idioms that invite these alone."""
    fault: str = ""
    """With which the passes are broken."""


@dataclass
class Outcome:
    tried: int = 0
    refused: int = 0
    runs: int = 0
    fired: dict[str, int] = field(default_factory=dict[str, int])
    known: dict[str, int] = field(default_factory=dict[str, int])
    failure: str = ""
    kind: str = ""
    model: str = ""
    """The shrunk model's file."""


def modes(model: Fuzzed) -> tuple[Fp, ...]:
    """How a model may be compared: where rounding may jump, only rewrites that keep every bit are let in."""
    if not model.smooth:
        return ("strict",)
    return ("default", "fast") if APPROXIMATE else ("default",)


@st.composite
def cases(draw: st.DrawFn, only: Sequence[str], aims: Sequence[str] = ()) -> tuple[Fuzzed, tuple[str, ...], Fp]:
    """A model, the pipelines to run on it, and the mode."""
    model = draw(fuzzed(MOST_AIMED, inviting(aims)) if aims else fuzzed())
    return model, tuple(only) or draw(_pipelines(model)), draw(st.sampled_from(modes(model)))


@st.composite
def _pipelines(draw: st.DrawFn, model: Fuzzed) -> tuple[str, ...]:
    """All passes together, and some alone: those that the model's idioms invite rather than others."""
    alone = draw(st.lists(st.sampled_from((*FAITHFUL, *OPTIONS, *passes.PIPELINES)), min_size=_ALONE, max_size=_ALONE))
    if model.aims:
        alone[: _ALONE // 2] = draw(st.lists(st.sampled_from(model.aims), min_size=_ALONE // 2, max_size=_ALONE // 2))
    return (ALL_PASSES, EVERY_PASS, *dict.fromkeys(alone))


def failure(model: onnx.ModelProto, pipelines: Sequence[str], fp: Fp) -> WrongError | None:
    try:
        check(model, pipelines, fp)
    except RefusedError:
        return None
    except WrongError as error:
        return error
    return None


def least(
    model: onnx.ModelProto, pipelines: Sequence[str], fp: Fp, error: WrongError
) -> tuple[onnx.ModelProto, WrongError]:
    """A model that failed made smaller, and how it fails, which is in the same way."""

    def fails(candidate: onnx.ModelProto) -> bool:
        nonlocal error
        found = failure(candidate, pipelines, fp)
        if found is None or found.kind != error.kind:
            return False
        error = found
        return True

    return reduced(model, fails), error


def marked(proto: onnx.ModelProto, pipelines: Sequence[str], fp: Fp, reason: str) -> onnx.ModelProto:
    """The model with what failed in its metadata, for a later replay."""
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    for key, value in (("pipelines", ";".join(pipelines)), ("fp", fp), ("reason", reason)):
        found.metadata_props.add(key=f"fuzz.{key}", value=value)
    return found


class Attempts:
    """What one order amounts to."""

    def __init__(self, order: Order, folder: Path) -> None:
        self.order = order
        self.folder = folder
        self.outcome = Outcome()
        self.fired: Counter[str] = Counter()
        self.written = 0.0
        self.failing: tuple[onnx.ModelProto, tuple[str, ...], Fp, WrongError] | None = None

    def run(self) -> None:
        @seed(self.order.seed)
        @settings(
            max_examples=self.order.graphs,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            phases=(Phase.generate,),
            suppress_health_check=PATIENCE,
            print_blob=False,
        )
        @given(cases(self.order.only, self.order.aims))
        def attempt(case: tuple[Fuzzed, tuple[str, ...], Fp]) -> None:
            self.attempt(*case)

        with suppress(WrongError), broken(self.order.fault):
            attempt()
        if self.failing is not None and not self.order.fault:
            model, pipelines, fp, error = self.failing
            model, error = least(model, pipelines, fp, error)
            self.fail(error, marked(model, pipelines, fp, str(error)))
        self.write()

    def attempt(self, model: Fuzzed, pipelines: tuple[str, ...], fp: Fp) -> None:
        current = marked(model.model, pipelines, fp, "the process died")
        (self.folder / "current.onnx").write_bytes(current.SerializeToString())
        self.stage(RAW)
        outcome = self.outcome
        outcome.tried += not outcome.failure
        try:
            checked = check(model.model, pipelines, fp, self.stage)
        except RefusedError:
            outcome.refused += not outcome.failure
            return
        except WrongError as error:
            if error.kind.startswith(tuple(self.order.known)) or outcome.kind not in ("", error.kind):
                outcome.known[error.kind] = outcome.known.get(error.kind, 0) + 1
                return
            self.fail(error, marked(model.model, pipelines, fp, str(error)))
            self.failing = model.model, pipelines, fp, error
            raise
        if not outcome.failure:
            outcome.runs += checked.runs
            self.fired.update({f"{name}/{rule}": count for (name, rule), count in checked.fired.items()})
            if time.monotonic() - self.written > _WRITTEN_EVERY_SECONDS:
                self.write()

    def fail(self, error: WrongError, model: onnx.ModelProto) -> None:
        path = self.folder / "failure.onnx"
        path.write_bytes(model.SerializeToString())
        self.outcome.failure, self.outcome.kind, self.outcome.model = str(error), error.kind, str(path)
        self.write()

    def stage(self, what: str) -> None:
        (self.folder / "stage.txt").write_text(what)

    def write(self) -> None:
        self.written = time.monotonic()
        self.outcome.fired = dict(self.fired)
        (self.folder / "outcome.json").write_text(json.dumps(asdict(self.outcome)))


def follow(order: Order, folder: Path) -> None:
    """All that the process does."""
    with (folder / WORDS).open("w") as words:
        os.dup2(words.fileno(), sys.stdout.fileno())
        os.dup2(words.fileno(), sys.stderr.fileno())
    Attempts(order, folder).run()
