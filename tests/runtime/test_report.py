"""Text for a terminal: every line says what it must, and progress is drawn on terminals alone."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import pytest

from planish import ir, runtime
from planish.models.builders import branching_net, residual_convnet
from planish.runtime.agreement import CompareReport
from planish.runtime.evaluate import Evaluation
from planish.runtime.progress import ProgressBar
from planish.runtime.providers import Target
from planish.runtime.report import (
    at_work,
    compare_text,
    evaluations_text,
    inspect_text,
    interval_text,
    latency_text,
    milliseconds,
    number,
    optimize_text,
    size,
    table,
)
from planish.runtime.statistics import UNKNOWN, Estimate, Interval
from planish.runtime.task import Metric

EMPTY = CompareReport("a", "b", "equal", "", exact=False, target=Target(), bindings=(), outputs=(), runs=(), notes=(),
                      latency=None, seconds=0.0)  # fmt: skip


def test_columns_stand_under_their_names() -> None:
    assert table(("pass", "rewrites"), [("fold", "1"), ("merge", "23")]).splitlines() == [
        "pass   rewrites",
        "-----  --------",
        "fold          1",
        "merge        23",
    ]
    assert table(("a", "b"), [("x", "y z")], left=True).splitlines() == ["a  b", "-  ---", "x  y z"]
    assert table(("a",), []).splitlines() == ["a", "-"]


def test_sizes_numbers_and_times() -> None:
    assert [size(count) for count in (0, 999, 1000, 10_857_958, 3e9)] == ["0 B", "999 B", "1 kB", "10.9 MB", "3 GB"]
    assert [number(count) for count in (7, 702_000_000)] == ["7", "702 M"]
    assert milliseconds(0.01234) == "12.3 ms"


def test_intervals_say_which_end_is_open() -> None:
    assert interval_text(Interval(1.25, 1.2, 1.3)) == "1.250 [1.200, 1.300]"
    assert interval_text(Interval(1.25, 0.0, math.inf)) == "1.250 [?, ?]"
    assert interval_text(UNKNOWN) == "nan [?, ?]"


def test_optimize_lists_passes_nodes_and_bytes(tmp_path: Path) -> None:
    ir.save(residual_convnet(), tmp_path / "model.onnx")
    result = runtime.optimize(tmp_path / "model.onnx", tmp_path / "out.onnx")
    said = optimize_text(result).splitlines()
    assert said[0].split() == ["pass", "rewrites", "nodes", "before", "after", "time"]
    busy = at_work(result.records)
    assert 0 < len(busy) < len(result.records)
    assert len(said) == 2 + len(busy) + 1 + 3
    assert f"{len(result.rewrites)} rewrites; nodes 29 -> 21; load" in said[-2]
    assert said[-1].startswith(f"{tmp_path / 'out.onnx'}: ")
    assert " -> " in said[-1]


def test_verdicts_say_what_they_rest_on(tmp_path: Path) -> None:
    ir.save(residual_convnet(), tmp_path / "model.onnx")
    report = runtime.compare(tmp_path / "model.onnx", tmp_path / "model.onnx", latency_seconds=0.2)
    said = compare_text(report)
    assert "logits" in said
    assert f"equal in every bit: {len(report.runs)} runs at 4 bindings" in said
    assert report.latency is not None
    assert "latency, A over B: " in said
    assert "session: A " in latency_text(report.latency)
    different = replace(EMPTY, verdict="differs", reason="the inputs are x in A and y in B", notes=("one", "two"))
    assert compare_text(different).splitlines() == [
        "differs: the inputs are x in A and y in B",
        "note: one",
        "note: two",
    ]


def test_inspections_are_readable(tmp_path: Path) -> None:
    ir.save(branching_net(), tmp_path / "model.onnx", external_data="always")
    said = inspect_text(runtime.inspect(tmp_path / "model.onnx"))
    assert "with external data in model.onnx.data" in said
    assert "some of them in 4 nested graphs up to 1 deep" in said
    assert "dynamic dims: batch" in said
    assert max(map(len, said.splitlines())) < 200


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_drawn_on_a_terminal_and_wiped() -> None:
    stream = Terminal()
    with ProgressBar(stream) as progress:
        progress("half way", 0.5)
        progress("too soon to draw", 0.6)
        progress("done", 1.0)
    drawn = stream.getvalue()
    assert f"[{'#' * 12}{'.' * 12}]  50% half way" in drawn
    assert "too soon" not in drawn
    assert "100% done" in drawn
    assert drawn.endswith("\r\x1b[2K")


def test_progress_is_wiped_when_the_work_fails() -> None:
    def work(stream: Terminal) -> None:
        with ProgressBar(stream) as progress:
            progress("working", 0.1)
            raise ValueError("broken")

    stream = Terminal()
    with pytest.raises(ValueError, match="broken"):
        work(stream)
    assert stream.getvalue().endswith("\r\x1b[2K")


def test_progress_is_silent_elsewhere() -> None:
    stream = io.StringIO()
    with ProgressBar(stream) as progress:
        progress("working", 0.5)
        progress("done", 1.0)
    assert stream.getvalue() == ""


def test_evaluations_say_what_they_rest_on() -> None:
    metrics = Metric("accuracy"), Metric("SNR", "dB", range=(-math.inf, math.inf))
    measured = Estimate(0.9, 0.8, 0.95), Estimate(7.0, -math.inf, math.inf)
    found = Evaluation("spoken", "m.onnx", "test", metrics, measured,
                       samples=60, groups=12, with_nan=3, seconds=1.25, target=Target(),
                       placement={"CPUExecutionProvider": 4}, predictions=(), labels=())  # fmt: skip
    assert evaluations_text([found]).splitlines() == [
        "metric    provider   value     95 % interval",
        "--------  --------  ------  ----------------",
        "accuracy       cpu  0.9000  [0.8000, 0.9500]",
        "SNR (dB)       cpu  7.0000            [?, ?]",
        "",
        "spoken: 60 samples of 12 sources in 1.2 s, 4 nodes on CPUExecutionProvider",
        "warning: NaN in the outputs for 3 samples",
    ]
