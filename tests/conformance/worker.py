"""Runs backend cases before and after passes, in a process of its own: ONNX Runtime may stop it.

    python -m tests.conformance.worker CASES

CASES is a file of pickled cases. One line of JSON goes to the output for each case, when it begins and when it is done.
"""

from __future__ import annotations

import json
import pickle
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import onnx
from onnx import numpy_helper

from planish import ir, passes
from planish.passes.manager import PassRecord, RulePass
from planish.runtime.errors import SessionError
from planish.runtime.providers import Target
from planish.runtime.session import Feed, Result, Session
from tests.equivalence import Array, differences

PIPELINES = (*passes.PASSES, "simplify,fuse")
BFLOAT16_RTOL = 2.0**-6
PLAIN = Target(threads=1, optimization="disabled")


@dataclass(frozen=True)
class Case:
    """One backend case of onnx: a model, and inputs with the outputs that the specification asks for."""

    name: str
    model: bytes
    data_sets: tuple[tuple[tuple[Feed, ...], tuple[Result, ...]], ...]
    rtol: float
    atol: float


Verdict = Literal["refused", "wrong", "passed"]


@dataclass
class Outcome:
    """What became of a case: what ONNX Runtime makes of it as it came, and what went wrong after a pipeline."""

    name: str
    verdict: Verdict = "passed"
    changed: dict[str, int] = field(default_factory=dict[str, int])
    folded: dict[str, int] = field(default_factory=dict[str, int])
    """Rewrites by pipeline, of the model as it came and of the one whose inputs became constants."""
    failures: list[str] = field(default_factory=list[str])


EXACT = frozenset(
    rule.name
    for kind in passes.PASSES.values()
    if issubclass(kind, RulePass)
    for rule in kind().rules()
    if rule.contract.name == "EXACT"
) | {"merge", "remove-node", "remove-initializer"}


def feeds_of(session: Session, inputs: Sequence[Feed]) -> dict[str, Feed]:
    return {argument.name: feed for argument, feed in zip(session.inputs, inputs, strict=False)}


def attempt(case: Case) -> Outcome:
    outcome = Outcome(case.name)
    try:
        session = Session(case.model, PLAIN)
        results = [session.run(feeds_of(session, inputs)) for inputs, _ in case.data_sets]
    except SessionError:
        return Outcome(case.name, "refused")
    for found, (_, expected) in zip(results, case.data_sets, strict=True):
        if any(differences(found, list(expected), case.rtol, case.atol)) and not _bfloat_alike(case, found, expected):
            return Outcome(case.name, "wrong")
    plain = ir.emit(ir.load(onnx.ModelProto.FromString(case.model))).SerializeToString()
    for pipeline in PIPELINES:
        _after(case, pipeline, plain, results, outcome)
    _frozen(case, results, outcome)
    return outcome


def _bfloat_alike(case: Case, found: Sequence[Result], expected: Sequence[Result]) -> bool:
    rtol = max(case.rtol, BFLOAT16_RTOL)
    return all(
        getattr(f, "dtype", None) is not None and cast("Array", f).dtype.name == "bfloat16" and not any(differences(f, e, rtol, case.atol))
        for f, e in zip(found, expected, strict=True)
    )


def _run(graph: ir.Graph, pipeline: str) -> tuple[int, bool]:
    """The number of rewrites, and whether all of them keep every bit."""
    records: Sequence[PassRecord] = passes.run(graph, pipeline)
    rules = [rewrite.rule for record in records for rewrite in record.rewrites]
    return len(rules), EXACT.issuperset(rules)


def _after(case: Case, pipeline: str, plain: bytes, results: Sequence[Sequence[Result]], outcome: Outcome) -> None:
    try:
        graph = ir.load(onnx.ModelProto.FromString(case.model))
        count, exact = _run(graph, pipeline)
        emitted = ir.emit(graph).SerializeToString()
        if count:
            outcome.changed[pipeline] = count
        if emitted == plain == case.model:
            return
        session = Session(emitted, PLAIN)
        for (inputs, _), expected in zip(case.data_sets, results, strict=True):
            found = session.run(feeds_of(session, inputs))
            tolerances = (0.0, 0.0) if exact else (case.rtol, case.atol)
            outcome.failures += [f"{pipeline}: {text}" for text in differences(found, list(expected), *tolerances)]
        _again(emitted, pipeline, outcome)
    except Exception as error:
        outcome.failures.append(f"{pipeline}: {type(error).__name__}: {error}")


def _again(emitted: bytes, pipeline: str, outcome: Outcome) -> None:
    graph = ir.load(onnx.ModelProto.FromString(emitted))
    count, _ = _run(graph, pipeline)
    if count or ir.emit(graph).SerializeToString() != emitted:
        outcome.failures.append(f"{pipeline}: a second run makes {count} rewrites, or other bytes")


def frozen(case: Case, inputs: Sequence[Feed]) -> tuple[bytes, Mapping[str, Feed]]:
    """The model with its tensor inputs as initializers, and what is left to feed."""
    import numpy as np

    model = onnx.ModelProto.FromString(case.model)
    listed = list(model.graph.input)
    initializers = {tensor.name for tensor in model.graph.initializer}
    left: dict[str, Feed] = {}
    model.graph.ClearField("input")
    free = [info for info in listed if info.name not in initializers]
    model.graph.input.extend(info for info in listed if info.name in initializers)
    for info, feed in zip(free, inputs, strict=False):
        if isinstance(feed, np.ndarray) and info.type.WhichOneof("value") == "tensor_type":
            model.graph.initializer.append(numpy_helper.from_array(feed, info.name))
        else:
            model.graph.input.append(info)
            left[info.name] = feed
    return model.SerializeToString(), left


def _frozen(case: Case, results: Sequence[Sequence[Result]], outcome: Outcome) -> None:
    for (inputs, _), expected in zip(case.data_sets, results, strict=True):
        model, left = frozen(case, inputs)
        for pipeline in PIPELINES:
            try:
                graph = ir.load(onnx.ModelProto.FromString(model))
                count, exact = _run(graph, pipeline)
                if not count:
                    continue
                outcome.folded[pipeline] = count
                emitted = ir.emit(graph).SerializeToString()
                found = Session(emitted, PLAIN).run(left)
                tolerances = (0.0, 0.0) if exact else (case.rtol, case.atol)
                outcome.failures += [f"constants, {pipeline}: {text}" for text in differences(found, list(expected), *tolerances)]
                _again(emitted, pipeline, outcome)
            except Exception as error:
                outcome.failures.append(f"constants, {pipeline}: {type(error).__name__}: {error}")


def main(path: str) -> None:
    warnings.simplefilter("error")
    cases = cast("list[Case]", pickle.loads(Path(path).read_bytes()))
    for case in cases:
        print(json.dumps({"begin": case.name}), flush=True)
        print(json.dumps({"done": vars(attempt(case))}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
