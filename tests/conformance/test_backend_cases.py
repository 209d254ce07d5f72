"""Every backend case of onnx that ONNX Runtime passes still passes after each pass alone, and after all of them.

Each case runs as it came, and once more with its inputs turned into constants. Results are held against the outputs
that the specification asks for, by the case's own tolerances, and against those of ONNX Runtime on the model as it
came: to the bit where all rules that fired are EXACT.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase as BackendCase
from onnx.backend.test.loader import load_model_tests

from planish import ir
from planish.passes.manager import PassRecord
from tests.conformance.worker import Case, DataSet, Item, Outcome
from tests.conformance.worker import attempt as attempt_here
from tests.equivalence import Array

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
PARTS = 12  # for pytest-xdist to spread
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """Made once in each process: the node cases are computed, which takes seconds and divides by zero on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [_case(found) for kind in KINDS for found in load_model_tests(kind=kind)]


def _case(found: BackendCase) -> Case:
    name = f"{found.kind}/{found.name}"
    if found.model is not None:
        sets = tuple(DataSet(_plain_all(inputs), _plain_all(outputs)) for inputs, outputs in found.data_sets or ())
        return Case(name, found.model.SerializeToString(), sets, found.rtol, found.atol)
    assert found.model_dir is not None
    folder = Path(found.model_dir)
    model = (folder / "model.onnx").read_bytes()
    graph = onnx.ModelProto.FromString(model).graph
    sets = tuple(
        DataSet(_stored(part, "input", list(graph.input)), _stored(part, "output", list(graph.output)))
        for part in sorted(folder.glob("test_data_set_*"))
    )
    return Case(name, model, sets, found.rtol, found.atol)


def _plain_all(values: Sequence[object]) -> tuple[Item, ...]:
    return tuple(_plain(value) for value in values)


def _plain(value: object) -> Item:
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [_tensor(part) for part in cast("Sequence[object]", value)]
    return _tensor(value)


def _tensor(value: object) -> Array:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _stored(folder: Path, what: str, infos: Sequence[onnx.ValueInfoProto]) -> tuple[Item, ...]:
    count = len(list(folder.glob(f"{what}_*.pb")))
    return tuple(_read((folder / f"{what}_{i}.pb").read_bytes(), infos[i].type) for i in range(count))


def _read(data: bytes, kind: onnx.TypeProto) -> Item:
    if kind.WhichOneof("value") == "sequence_type":
        return _plain(numpy_helper.to_list(onnx.SequenceProto.FromString(data)))
    if kind.WhichOneof("value") == "optional_type":
        return _plain(numpy_helper.to_optional(onnx.OptionalProto.FromString(data)))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def attempt(cases: Sequence[Case], folder: Path) -> list[Outcome]:
    """The outcome of each case; a process that dies takes one case with it, and the next goes on."""
    done: list[Outcome] = []
    while len(done) < len(cases):
        given, told = folder / "cases.pickle", folder / "outcomes.json"
        given.write_bytes(pickle.dumps(list(cases[len(done) :])))
        command = [sys.executable, "-m", "tests.conformance.worker", str(given), str(told)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]
        assert lines, f"the worker ended with {ended.returncode}: {ended.stderr[-2000:]}"
        done += [Outcome(**line) for line in lines if "verdict" in line]
        if ended.returncode:
            at = lines[-1]["name"]
            assert ended.returncode < 0, f"the worker failed at {at}: {ended.stderr[-2000:]}"
            done.append(Outcome(at, "died"))
    return done


def test_the_cases_are_those_that_onnx_ships(cases: Sequence[Case]) -> None:
    assert len(cases) > 1500  # the first supported onnx has fewer than the newest, which has 2,024
    assert sum(len(case.data_sets) for case in cases) >= len(cases)


@pytest.mark.parametrize("part", range(PARTS))
def test_what_passes_still_passes(part: int, cases: Sequence[Case], tmp_path: Path) -> None:
    outcomes = attempt(cases[part::PARTS], tmp_path)
    assert [f"{outcome.name}: {failure}" for outcome in outcomes for failure in outcome.failures] == []
    verdicts = [outcome.verdict for outcome in outcomes]
    print({verdict: verdicts.count(verdict) for verdict in ("passed", "wrong", "refused", "died")})
    assert verdicts.count("passed") > 0.6 * len(verdicts), "ONNX Runtime passes fewer cases than it should"
    folded = sum("deploy" in outcome.folded for outcome in outcomes)
    assert folded > 0.5 * verdicts.count("passed"), "constants were folded in fewer cases than they should"


def test_a_process_that_dies_takes_one_case_with_it(tmp_path: Path) -> None:
    """A division of the least integer by -1 stops the processor in ONNX Runtime's kernel."""
    text = "g (int64[1] x, int64[1] z) => (int64[1] y) { y = Div(x, z) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}').SerializeToString()
    least, four, two, minus = (np.array([value], np.int64) for value in (-(2**63), 4, 2, -1))
    good = Case("good", model, (DataSet((four, two), (two,)),), 0, 0)
    deadly = Case("deadly", model, (DataSet((least, minus), (least,)),), 0, 0)
    outcomes = attempt([good, deadly, good], tmp_path)
    assert [(outcome.name, outcome.failures) for outcome in outcomes] == [("good", []), ("deadly", []), ("good", [])]
    assert [outcome.verdict for outcome in outcomes] in (["passed", "died", "passed"], ["passed", "passed", "passed"])


def test_a_case_that_fails_is_told(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1] x) => (float[1] y) { y = Neg(x) }'
    ).SerializeToString()
    one = np.ones(1, np.float32)
    (outcome,) = attempt([Case("wrong", model, (DataSet((one,), (one,)),), 0, 0)], tmp_path)
    assert outcome.verdict == "wrong"


def test_a_pass_that_changes_without_a_word_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(graph: ir.Graph, _: str) -> list[PassRecord]:
        (node,) = graph.nodes
        graph.set_operand(node, 1, node.operands[0])
        return []

    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1] x, float[1] z) => (float[1] y) { y = Sub(x, z) }'
    ).SerializeToString()
    one, two = np.ones(1, np.float32), np.full(1, 2, np.float32)
    monkeypatch.setattr("planish.passes.run", silent)
    outcome = attempt_here(Case("silent", model, (DataSet((two, one), (one,)),), 0, 0))
    assert "a pass changed the model, and told of no rewrite" in outcome.failures
