"""Whatever stops a save, the files that were there are there still, and no others."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from planish import ir
from planish.ir import Builder, DType, GraphError
from planish.ir.tensor import FileTensor
from planish.runtime.session import Session

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@pytest.fixture
def target(external_model: Path, tmp_path: Path) -> Path:
    """An earlier result, with its data file, that a failure must leave as it is."""
    path = tmp_path / "out.onnx"
    graph = ir.load(external_model)
    for node in graph.nodes:
        first, second = node.operands
        graph.set_operand(node, 0, second)
        graph.set_operand(node, 1, first)
    ir.save(graph, path)
    assert sorted(contents(tmp_path)) == ["out.onnx", "out.onnx.data"]
    return path


@pytest.mark.parametrize("failure", [FULL, KeyboardInterrupt()], ids=["full", "interrupted"])
@pytest.mark.parametrize("step", range(3))
def test_a_file_that_cannot_be_put_in_place(
    external_model: Path, target: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, step: int
) -> None:
    """The old data file makes room, the new one moves in, then the model does."""
    before = contents(target.parent)
    calls: list[Path] = []
    move = Path.replace

    def replace(self: Path, to: Path) -> Path:
        calls.append(self)
        if len(calls) == step + 1:
            raise failure
        return move(self, to)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises((GraphError, KeyboardInterrupt)) as raised:
        ir.save(ir.load(external_model), target)
    assert len(calls) > step
    assert contents(target.parent) == before
    if isinstance(failure, OSError):
        assert str(raised.value) == f"{target}: cannot be written: No space left on device"


@pytest.mark.parametrize("step", range(2))
def test_a_first_save_that_fails_leaves_nothing(
    external_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    calls: list[Path] = []
    move = Path.replace

    def replace(self: Path, to: Path) -> Path:
        calls.append(self)
        if len(calls) == step + 1:
            raise FULL
        return move(self, to)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(GraphError, match="No space left"):
        ir.save(ir.load(external_model), tmp_path / "out.onnx")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("step", range(2))
def test_a_disk_that_cannot_keep_what_was_written(
    external_model: Path, target: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    before = contents(target.parent)
    calls: list[int] = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == step + 1:
            raise FULL

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(GraphError, match=r"out\.onnx: cannot be written: No space left on device"):
        ir.save(ir.load(external_model), target)
    assert contents(target.parent) == before


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), MemoryError()], ids=["interrupted", "memory"])
def test_a_stop_while_weights_are_copied(
    external_model: Path, target: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    before = contents(target.parent)

    def raw_chunks(_: FileTensor) -> Iterator[bytes]:
        yield b"some"
        raise failure

    monkeypatch.setattr(FileTensor, "raw_chunks", raw_chunks)
    with pytest.raises(type(failure)):
        ir.save(ir.load(external_model), target)
    assert contents(target.parent) == before


def test_a_source_that_shrinks_or_goes_meanwhile(external_model: Path, target: Path) -> None:
    before = contents(target.parent)
    graph = ir.load(external_model)
    weights = external_model.parent / "weights.bin"
    weights.write_bytes(b"short")
    with pytest.raises(GraphError, match=f"{weights}: ended while a weight was read from it"):
        ir.save(graph, target)
    weights.unlink()
    with pytest.raises(GraphError, match=f"{weights}: a weight cannot be read from it: No such file"):
        ir.save(graph, target)
    assert contents(target.parent) == before


def test_an_operator_without_a_form_in_the_opset_leaves_nothing(tmp_path: Path) -> None:
    b = Builder(opset=21)
    x = b.input("x", DType.FLOAT, (1024,))
    big = b.initializer("big", np.ones(1024, np.float32))
    b.output("y", b.node("Gelu", (b.node("Add", (x, big)),), name="late"))
    with pytest.raises(GraphError, match="opset 17 has no operator Gelu\n  > late"):
        ir.save(b.graph(), tmp_path / "out.onnx", opset=17, external_data="always")
    with pytest.raises(GraphError, match="opset 99 is none of those"):
        ir.save(b.graph(), tmp_path / "out.onnx", opset=99)
    assert contents(tmp_path) == {}


def test_a_file_size_limit_of_the_system(tmp_path: Path, external_model: Path) -> None:
    """A limit that the system enforces, not a patched function: 2 KiB a file."""
    code = (
        "import resource, signal, sys\n"
        "from planish import ir\n"
        "graph = ir.load(sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))\n"
        "try:\n"
        "    ir.save(graph, sys.argv[2])\n"
        "except ir.GraphError as error:\n"
        "    print(error)\n"
    )
    target = tmp_path / "out.onnx"
    done = subprocess.run(
        [sys.executable, "-c", code, external_model, target], check=True, capture_output=True, text=True
    )
    assert done.stdout == f"{target}: cannot be written: File too large\n"
    assert contents(tmp_path) == {}


def test_the_earlier_result_still_runs(external_model: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.ones((256, 4), np.float32)
    expected = Session(target).run({"x": x})[0]

    def fail(_: Path, to: Path) -> Path:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(to))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(GraphError, match="cannot be written: Permission denied"):
        ir.save(ir.load(external_model), target)
    np.testing.assert_array_equal(Session(target).run({"x": x})[0], expected)
