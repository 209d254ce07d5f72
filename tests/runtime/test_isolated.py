"""A kernel that crashes fails one run, and the sessions beside it go on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from planish import ir
from planish.ir import Builder, DType
from planish.runtime.errors import SessionError
from planish.runtime.isolated import Host
from planish.runtime.providers import Target

ONE_THREAD = Target(threads=1)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    b = Builder()
    x = b.input("x", DType.FLOAT, ("n",))
    b.output("y", b.node("Neg", (x,)))
    ir.save(b.graph(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_runs_and_refusals(model: Path) -> None:
    with Host() as host:
        first, second = host.open(model, ONE_THREAD), host.open(model, ONE_THREAD)
        for session in (first, second):
            (y,) = session.run({"x": np.ones(2, np.float32)})
            np.testing.assert_array_equal(np.asarray(y), [-1, -1])
        with pytest.raises(SessionError, match=r"net\.onnx has no input 'z'"):
            first.run({"z": np.ones(2, np.float32)})
        (y,) = first.run({"x": np.zeros(0, np.float32)})
        assert np.asarray(y).shape == (0,)


def test_sessions_open_anew_after_a_crash(model: Path) -> None:
    with Host() as host:
        session = host.open(model, ONE_THREAD)
        for number in (signal.SIGABRT, signal.SIGKILL):
            assert host.pid is not None
            os.kill(host.pid, number)
            with pytest.raises(SessionError, match=rf"net\.onnx ended with signal {number.value} \({number.name}\)"):
                session.run({"x": np.ones(1, np.float32)})
            (y,) = session.run({"x": np.ones(1, np.float32)})
            assert np.asarray(y).item() == -1
        pid = host.pid
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_model_that_cannot_be_opened(tmp_path: Path, model: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with Host() as host:
        with pytest.raises(SessionError, match=r"cannot open .*bad\.onnx"):
            host.open(tmp_path / "bad.onnx", ONE_THREAD)
        (y,) = host.open(model, ONE_THREAD).run({"x": np.ones(1, np.float32)})
        assert np.asarray(y).item() == -1
