"""Latency of one model against another, on real sessions. No absolute time is asserted: the machine is shared."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from planish.runtime.arm import Arm
from planish.runtime.benchmark import MIN_FEEDS, benchmark, benchmark_creation
from planish.runtime.errors import SessionError
from planish.runtime.latency import LatencyReport
from planish.runtime.providers import PROVIDERS, Target, available
from planish.runtime.session import Feed
from planish.runtime.statistics import needed

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and sends POSIX signals")
ONE_THREAD = Target(threads=1)
SIZE = 64


def saved(model: ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def chain(path: Path, products: int) -> Path:
    """x times `products` matrices, one after the other."""
    random = np.random.default_rng(products)
    names = ["x", *(f"h{index}" for index in range(1, products)), "y"]
    weights = [
        helper.make_tensor(f"w{index}", TensorProto.FLOAT, [SIZE, SIZE], random.standard_normal(SIZE * SIZE) / SIZE)
        for index in range(products)
    ]
    nodes = [helper.make_node("MatMul", [names[index], f"w{index}"], [names[index + 1]]) for index in range(products)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", SIZE]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    return saved(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)


def feeds(rows: int = 64) -> list[dict[str, Feed]]:
    random = np.random.default_rng(0)
    return [{"x": random.standard_normal((rows, SIZE)).astype(np.float32)} for _ in range(MIN_FEEDS)]


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chain(tmp_path_factory.mktemp("models") / "light.onnx", 3)


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chain(tmp_path_factory.mktemp("models") / "heavy.onnx", 30)


@pytest.fixture(scope="module")
def against_heavy(light: Path, heavy: Path) -> LatencyReport:
    return benchmark(light, heavy, feeds(), target=ONE_THREAD, budget_seconds=5)


def children() -> list[int]:
    """The processes that this one has started and not collected, zombies included."""
    mine: list[int] = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue  # ended while being looked at
        if int(fields[1]) == os.getpid():
            mine.append(int(status.parent.name))
    return mine


def test_a_heavier_model_is_slower(against_heavy: LatencyReport) -> None:
    report = against_heavy
    assert report.verdict == "slower"
    assert 0 < report.low <= report.ratio <= report.high < 0.7
    assert report.bound is not None
    assert report.bound.verdict == "slower"
    assert report.bound.ratio < 0.7
    assert report.noise.low <= report.noise.ratio <= report.noise.high
    assert report.arms[0].median < report.arms[1].median
    assert report.rounds >= 4


def test_the_report_says_what_ran_and_where(against_heavy: LatencyReport, light: Path, heavy: Path) -> None:
    a, b = against_heavy.arms
    assert (a.model, b.model) == (str(light), str(heavy))
    assert (a.placement, b.placement) == ({"CPUExecutionProvider": 3}, {"CPUExecutionProvider": 30})
    for arm in (a, b):
        assert arm.creation > 0
        assert arm.first_run > 0
        assert arm.bound_median is not None
        assert arm.bound_median > 0
        assert arm.unbound is None
        assert arm.runs >= 2 * 5 * against_heavy.rounds
        assert (arm.percentiles["p50"] is not None) == (arm.runs >= needed(0.5))
    assert against_heavy.target == ONE_THREAD
    assert against_heavy.seconds > 0


@LINUX
def test_memory_is_that_of_the_fresh_process(against_heavy: LatencyReport) -> None:
    for arm in against_heavy.arms:
        memory = arm.memory
        assert memory.baseline is not None
        assert memory.peak is not None
        assert memory.proportional is not None
        assert 0 < memory.baseline < memory.peak
        assert 0 < memory.proportional < memory.peak
    assert against_heavy.cores == tuple(sorted(os.sched_getaffinity(0)))


def test_the_report_goes_to_strict_json(against_heavy: LatencyReport) -> None:
    record = json.loads(json.dumps(against_heavy.as_dict(), allow_nan=False))
    assert record["ratio"] == against_heavy.ratio
    assert record["verdict"] == "slower"
    assert record["a"]["percentiles_ms"]["p50"] == pytest.approx(1e3 * against_heavy.arms[0].median)
    assert record["b"]["placement"] == {"CPUExecutionProvider": 30}


def test_a_model_against_itself_differs_by_no_more_than_noise(heavy: Path) -> None:
    seen: list[float] = []
    report = benchmark(heavy, heavy, feeds(), target=ONE_THREAD, budget_seconds=4, progress=seen.append)
    assert report.low <= report.ratio <= report.high
    assert report.low < 1.1
    assert report.high > 0.9
    if report.verdict in {"faster", "slower"}:  # a bystander that slowed one process all along can do that
        assert abs(math.log(report.ratio)) > abs(math.log(report.noise.ratio))
    assert seen == sorted(seen)
    assert 0 < seen[-1] <= 1


def test_a_budget_that_holds_too_few_rounds_decides_nothing(light: Path, heavy: Path) -> None:
    report = benchmark(light, heavy, feeds(), target=ONE_THREAD, budget_seconds=0.1)
    assert report.rounds == 1
    assert (report.low, report.high, report.verdict) == (0.0, math.inf, "undecided")
    assert "0.1 s hold 1 of 4 rounds: allow" in report.note
    assert report.ratio < 1  # what was seen is said all the same
    record = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert (record["low"], record["high"]) == (None, None)


def test_a_small_sample_has_no_tail(light: Path) -> None:
    report = benchmark(light, light, feeds(rows=20_000), target=ONE_THREAD, budget_seconds=0.1)
    percentiles = report.as_dict()["a"]
    assert isinstance(percentiles, dict)
    assert report.arms[0].runs < needed(0.999)
    assert percentiles["percentiles_ms"]["p99.9"] == "n too small"


def test_models_without_inputs_need_no_feeds(tmp_path: Path) -> None:
    nodes = [helper.make_node("RandomNormal", [], ["y"], shape=[64])]
    graph = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [64])])
    opsets = [helper.make_opsetid("", 17)]
    file = saved(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "m.onnx")
    report = benchmark(file, file, [{}], target=ONE_THREAD, budget_seconds=0.1)
    assert report.arms[0].runs > 0


def test_what_cannot_be_bound_is_measured_end_to_end_alone(tmp_path: Path) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.STRING, ["n"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 17)]
    file = saved(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "s.onnx")
    words: list[dict[str, Feed]] = [{"x": np.array([word], dtype=object)} for word in ("a", "b", "c", "d")]
    report = benchmark(file, file, words, target=ONE_THREAD, budget_seconds=0.1)
    assert report.bound is None
    assert report.arms[0].bound_median is None
    assert "cannot bind a tensor of strings" in (report.arms[0].unbound or "")
    assert report.arms[0].median > 0


@pytest.mark.parametrize(
    ("count", "budget", "message"), [(1, 1.0, "at least 4 different inputs, and 1"), (4, 0.0, "budget")]
)
def test_what_cannot_be_measured_is_refused(light: Path, count: int, budget: float, message: str) -> None:
    with pytest.raises(SessionError, match=message):
        benchmark(light, light, feeds()[:count], target=ONE_THREAD, budget_seconds=budget)


def test_a_failure_in_the_child_names_the_model_and_leaves_no_process(light: Path, tmp_path: Path) -> None:
    before = children()
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(SessionError, match=r"cannot open .*broken\.onnx"):
        benchmark(light, tmp_path / "broken.onnx", feeds(), target=ONE_THREAD)
    wrong: list[dict[str, Feed]] = [{"z": np.zeros(1)}] * MIN_FEEDS
    with pytest.raises(SessionError, match=r"light\.onnx has no input 'z'"):
        benchmark(light, light, wrong, target=ONE_THREAD)
    assert children() == before


def test_a_provider_that_does_not_run_here_is_an_error(light: Path) -> None:
    absent = next(name for name in PROVIDERS if name not in available())
    with pytest.raises(SessionError, match=absent):
        benchmark(light, light, feeds(), target=Target(absent))


@LINUX
def test_a_child_that_dies_is_one_error(light: Path) -> None:
    with Arm(light, timeout_seconds=60) as arm:
        arm.open(ONE_THREAD, {}, feeds())
        os.kill(arm.pid, signal.SIGKILL)
        with pytest.raises(SessionError, match=r"light\.onnx ended with signal 9 \(SIGKILL\).*enough memory"):
            arm.memory()
        assert arm.pid not in children()


@LINUX
def test_ctrl_c_is_the_parents_affair(light: Path) -> None:
    with Arm(light, timeout_seconds=60) as arm:
        os.kill(arm.pid, signal.SIGINT)
        assert arm.open(ONE_THREAD, {}, feeds()).placement == {"CPUExecutionProvider": 3}


@LINUX
def test_a_child_that_hangs_is_ended(light: Path) -> None:
    with Arm(light, timeout_seconds=60) as arm:
        arm.open(ONE_THREAD, {}, feeds())
    with Arm(light, timeout_seconds=1.5) as arm:
        os.kill(arm.pid, signal.SIGSTOP)
        with pytest.raises(SessionError, match=r"light\.onnx did not answer within 1\.5 s"):
            arm.memory()
        assert arm.pid not in children()


@LINUX
def test_an_arm_that_is_dropped_is_collected(light: Path) -> None:
    arm = Arm(light, timeout_seconds=60)
    pid = arm.pid
    assert pid in children()
    del arm
    assert pid not in children()


@LINUX
def test_a_childs_own_output_does_not_disturb_the_replies(light: Path) -> None:
    with Arm(light, timeout_seconds=60) as arm:
        # What a library prints goes to descriptor 1, which leads where errors go, and no longer to the replies.
        descriptors = Path(f"/proc/{arm.pid}/fd")
        assert (descriptors / "1").readlink() == (descriptors / "2").readlink()
        assert arm.open(ONE_THREAD, {}, feeds()).placement == {"CPUExecutionProvider": 3}


@LINUX
def test_an_interrupt_ends_every_process(light: Path, tmp_path: Path) -> None:
    script = f"""
import numpy as np
from planish.runtime.benchmark import benchmark
feeds = [{{"x": np.zeros((8, {SIZE}), np.float32)}} for _ in range(4)]
def progress(part):
    print("measuring", flush=True)
benchmark({str(light)!r}, {str(light)!r}, feeds, budget_seconds=600, progress=progress)
"""
    with (tmp_path / "errors").open("w+") as errors:
        command = [sys.executable, "-c", script]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, start_new_session=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"measuring\n"
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does on Ctrl-C: to the children too
            process.wait(timeout=30)
        errors.seek(0)
        text = errors.read()
    assert text.count("Traceback") == 1, text  # the parent's own, of its KeyboardInterrupt
    assert "KeyboardInterrupt" in text
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("a process outlived its parent")


def test_session_creation_is_compared_in_fresh_processes(light: Path, tmp_path: Path) -> None:
    big = chain(tmp_path / "big.onnx", 400)
    seen: list[float] = []
    report = benchmark_creation(light, big, target=ONE_THREAD, repeats=4, progress=seen.append)
    assert report.verdict == "slower"
    assert report.ratio < 0.7
    assert report.low <= report.ratio <= report.high
    assert (len(report.a_seconds), len(report.b_seconds)) == (4, 4)
    assert seen == [0.25, 0.5, 0.75, 1.0]
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["verdict"] == "slower"
    with pytest.raises(SessionError, match="3 repeats give no interval: ask for 4"):
        benchmark_creation(light, big, repeats=3)
