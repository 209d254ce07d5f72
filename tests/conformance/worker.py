"""Runs backend cases before and after passes, in a process of its own, for ONNX Runtime may be killed by one.

    python -m tests.conformance.worker CASES OUTCOMES

CASES is a file of pickled cases; OUTCOMES takes a line of JSON when a case begins and another when it is done.
"""

from __future__ import annotations

import json
import pickle
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, cast

import numpy as np
import onnx
from onnx import numpy_helper

from planish import ir, passes
from planish.runtime.errors import SessionError
from planish.runtime.session import Feed, Result, Session
from tests.equivalence import EXACT_RULES, FAITHFUL, PLAIN, Array, Bound, differences, near

PIPELINES = (*FAITHFUL, *passes.PIPELINES)
_BFLOAT16_RTOL = 2.0**-6  # as onnx's own runner of these cases


Item: TypeAlias = "Array | list[Array] | None"
"""A tensor, a sequence of tensors, or nothing for an optional."""


class DataSet(NamedTuple):
    """Inputs by position, and the outputs that the specification asks for."""

    inputs: tuple[Item, ...]
    outputs: tuple[Item, ...]


@dataclass(frozen=True)
class Case:
    """One backend case of onnx."""

    name: str
    model: bytes
    data_sets: tuple[DataSet, ...]
    rtol: float
    atol: float


Verdict = Literal["passed", "wrong", "refused", "died"]


@dataclass
class Outcome:
    """What ONNX Runtime makes of a case as it came, and what went wrong after a pipeline."""

    name: str
    verdict: Verdict = "passed"
    rewrites: dict[str, int] = field(default_factory=dict[str, int])
    """By pipeline, of the model as it came."""
    folded: dict[str, int] = field(default_factory=dict[str, int])
    """By pipeline, of the model whose inputs became constants."""
    failures: list[str] = field(default_factory=list[str])


def attempt(case: Case) -> Outcome:
    outcome = Outcome(case.name)
    try:
        session = Session(case.model, PLAIN)
        results = [session.run(_feeds(session, data.inputs)) for data in case.data_sets]
    except SessionError:
        outcome.verdict = "refused"
        return outcome
    if any(_wrong(found, data.outputs, case) for found, data in zip(results, case.data_sets, strict=True)):
        outcome.verdict = "wrong"
        return outcome
    _Trials(case, results, outcome).run()
    return outcome


def _feeds(session: Session, inputs: Sequence[Item]) -> dict[str, Feed]:
    return {argument.name: feed for argument, feed in zip(session.inputs, inputs, strict=False)}


def _wrong(
    found: Sequence[Result], expected: Sequence[Item] | Sequence[Result], case: Case, exact: bool = False
) -> list[str]:
    """Differences from the expected outputs, by the case's own tolerances unless the bits are to be the same."""
    wrong = [] if len(found) == len(expected) else [f"{len(found)} outputs instead of {len(expected)}"]
    for index, (result, aim) in enumerate(zip(found, expected, strict=False)):
        bound = None if exact else _tolerance(aim, case)
        wrong += [f"output {index}: {text}" for text in differences(result, cast("Result", aim), bound)]
    return wrong


def _tolerance(expected: Item | Result, case: Case) -> Bound:
    short = isinstance(expected, np.ndarray) and expected.dtype.name == "bfloat16"
    return near(max(case.rtol, _BFLOAT16_RTOL) if short else case.rtol, case.atol)


class _Run(NamedTuple):
    model: bytes
    rewrites: int
    exact: bool
    """Whether all rules that fired keep every bit."""


class _Source:
    """A model that pipelines run on one after the other; behind one that rewrote it, it is loaded anew."""

    def __init__(self, model: bytes) -> None:
        self.model = model
        self.emitted = ir.emit(_load(model)).SerializeToString()
        """By no pass at all."""
        self._graph: ir.Graph | None = None

    def run(self, pipeline: str) -> _Run:
        graph, self._graph = self._graph or _load(self.model), None
        rules = [rewrite.rule for record in passes.run(graph, pipeline) for rewrite in record.rewrites]
        if not rules:
            self._graph = graph
            return _Run(self.emitted, 0, True)
        return _Run(ir.emit(graph).SerializeToString(), len(rules), EXACT_RULES.issuperset(rules))

    @property
    def is_unchanged(self) -> bool:
        """Whether those that told of no rewrite made none."""
        return self._graph is None or ir.emit(self._graph).SerializeToString() == self.emitted


def _load(model: bytes) -> ir.Graph:
    return ir.load(onnx.ModelProto.FromString(model))


@dataclass(frozen=True)
class _Trials:
    """Every pipeline on a case as it came, and with every tensor that goes in made a constant, for folding to do."""

    case: Case
    results: Sequence[Sequence[Result]]
    """Of each data set, by ONNX Runtime on the model as it came."""
    outcome: Outcome

    def run(self) -> None:
        self._try("as it came", lambda: self._all(_Source(self.case.model), self._after, self.outcome.rewrites))
        for data, before in zip(self.case.data_sets, self.results, strict=True):
            model, left = frozen(self.case.model, data.inputs)
            wrong = partial(self._frozen, left, before)
            self._try(
                "constant", lambda model=model, wrong=wrong: self._all(_Source(model), wrong, self.outcome.folded)
            )

    def _try(self, name: str, work: Callable[[], None]) -> None:
        """Whatever is raised on a valid model is a failure of it."""
        try:
            work()
        except Exception as error:
            self.outcome.failures.append(f"{name}: {type(error).__name__}: {error}")

    def _all(self, source: _Source, wrong: Callable[[_Run], list[str]], counts: dict[str, int]) -> None:
        self.outcome.failures += [f"by no pass: {text}" for text in wrong(_Run(source.emitted, 0, True))]
        for pipeline in PIPELINES:
            self._try(pipeline, lambda pipeline=pipeline: self._one(source, pipeline, wrong, counts))
        if not source.is_unchanged:
            self.outcome.failures.append("a pass changed the model, and told of no rewrite")

    def _one(self, source: _Source, pipeline: str, wrong: Callable[[_Run], list[str]], counts: dict[str, int]) -> None:
        done = source.run(pipeline)
        if done.rewrites:
            counts[pipeline] = done.rewrites
            self.outcome.failures += [f"{pipeline}: {text}" for text in (*wrong(done), *_again(done, pipeline))]

    def _after(self, done: _Run) -> list[str]:
        session = Session(done.model, PLAIN)
        found = [session.run(_feeds(session, data.inputs)) for data in self.case.data_sets]
        return [
            text
            for data, before, now in zip(self.case.data_sets, self.results, found, strict=True)
            for text in (*_wrong(now, data.outputs, self.case), *_wrong(now, before, self.case, done.exact))
        ]

    def _frozen(self, left: Mapping[str, Feed], before: Sequence[Result], done: _Run) -> list[str]:
        return _wrong(Session(done.model, PLAIN).run(left), before, self.case, done.exact)


def _again(done: _Run, pipeline: str) -> list[str]:
    again = _Source(done.model).run(pipeline)
    if not again.rewrites and again.model == done.model:
        return []
    return [f"a second run makes {again.rewrites} rewrites, or other bytes"]


def frozen(model: bytes, inputs: Sequence[Item]) -> tuple[bytes, Mapping[str, Feed]]:
    """A model with its tensor inputs as initializers, and what is left to feed."""
    proto = onnx.ModelProto.FromString(model)
    listed = list(proto.graph.input)
    known = {tensor.name for tensor in proto.graph.initializer}
    proto.graph.ClearField("input")
    left: dict[str, Feed] = {}
    fed = iter(inputs)
    for info in listed:
        feed = None if info.name in known else next(fed, None)
        if isinstance(feed, np.ndarray) and info.type.WhichOneof("value") == "tensor_type":
            proto.graph.initializer.append(numpy_helper.from_array(feed, info.name))
            if proto.ir_version >= _INITIALIZERS_ALONE_SINCE_IR:
                continue
        elif info.name not in known:
            left[info.name] = feed
        proto.graph.input.append(info)
    return proto.SerializeToString(), left


_INITIALIZERS_ALONE_SINCE_IR = 4


def main(cases: str, outcomes: str) -> None:
    warnings.simplefilter("error")
    with Path(outcomes).open("w", encoding="utf-8") as file:
        for case in cast("list[Case]", pickle.loads(Path(cases).read_bytes())):
            print(json.dumps({"name": case.name}), file=file, flush=True)
            print(json.dumps(asdict(attempt(case))), file=file, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
