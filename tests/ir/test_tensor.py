"""Tensors: packing as onnx packs, files read when asked, spooled results."""

import gc
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from planish.ir import DType, GraphError
from planish.ir.tensor import ArrayTensor, FileTensor, Spool, Tensor, pack, raw_bytes, unpack
from planish.ir.types import Array

PACKED = [dtype for dtype in DType if dtype.bits % 8]
PLAIN = [dtype for dtype in DType if dtype.bits and not dtype.bits % 8]


def every_code(dtype: DType, count: int) -> Array:
    """`count` elements that run through every value of a type of less than 8 bits."""
    codes = np.arange(count) % (1 << dtype.bits)
    if dtype.is_integer:
        low = -(1 << (dtype.bits - 1)) if dtype in (DType.INT2, DType.INT4) else 0
        return (codes + low).astype(dtype.numpy)
    return codes.astype(np.uint8).view(dtype.numpy)


def test_the_packed_types_are_those_under_a_byte() -> None:
    assert {dtype.name for dtype in PACKED} == {
        "UINT4", "INT4", "FLOAT4E2M1", "UINT2", "INT2", "FLOAT6E2M3", "FLOAT6E3M2",
    }  # fmt: skip


@pytest.mark.parametrize("dtype", PACKED)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 8, 9, 64, 65])
def test_packing_is_that_of_onnx(dtype: DType, count: int) -> None:
    array = every_code(dtype, count)
    proto = numpy_helper.from_array(array)
    packed = pack(array, dtype)
    assert packed == proto.raw_data
    assert len(packed) == ArrayTensor(array).nbytes
    unpacked = unpack(packed, dtype, (count,))
    assert unpacked.dtype == dtype.numpy
    np.testing.assert_array_equal(unpacked, numpy_helper.to_array(proto))
    np.testing.assert_array_equal(unpacked, array)


@given(st.sampled_from(PACKED), st.binary(max_size=40), st.booleans())
def test_packing_comes_back(dtype: DType, codes: bytes, column: bool) -> None:
    array = np.frombuffer(codes, np.uint8) % (1 << dtype.bits)
    typed = array.astype(dtype.numpy) if dtype.is_integer else array.view(dtype.numpy)
    shaped = typed.reshape(-1, 1) if column else typed
    np.testing.assert_array_equal(unpack(pack(shaped, dtype), dtype, shaped.shape), shaped)


@pytest.mark.parametrize("dtype", PLAIN)
def test_raw_bytes_are_those_of_onnx(dtype: DType) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype.numpy)
    expected = numpy_helper.from_array(array).raw_data
    assert bytes(raw_bytes(array)) == expected
    assert bytes(raw_bytes(np.asfortranarray(array))) == expected
    assert bytes(raw_bytes(np.repeat(array, 2, axis=1)[:, ::2])) == expected
    assert bytes(raw_bytes(array[:0])) == b""
    assert bytes(raw_bytes(array[1, 2])) == expected[-(dtype.bits // 8) :]


def test_strings_have_no_raw_form() -> None:
    with pytest.raises(TypeError, match="strings have no raw form"):
        raw_bytes(np.array(["a"], object))
    assert ArrayTensor(np.array(["a", "b"], object)).nbytes == 0


def test_an_array_that_onnx_has_no_type_for_is_refused() -> None:
    with pytest.raises(TypeError, match="no element type for numpy's datetime64"):
        ArrayTensor(np.array(["2020-01-01"], "datetime64[D]"))


@pytest.mark.parametrize("dtype", [*PLAIN, *PACKED])
@pytest.mark.parametrize("shape", [(2, 3), (5,), (), (0, 4)])
def test_a_file_holds_what_it_was_given(tmp_path: Path, dtype: DType, shape: tuple[int, ...]) -> None:
    count = int(np.prod(shape))
    array = (np.arange(count) % 2).astype(dtype.numpy).reshape(shape)
    data = bytes(raw_bytes(array))
    (tmp_path / "weights").write_bytes(b"head" + data + b"tail")
    tensor = FileTensor(dtype, shape, tmp_path / "weights", 4)
    assert (tensor.size, tensor.nbytes, tensor.length) == (count, len(data), len(data))
    assert not tensor.in_memory
    found = tensor.array()
    assert (found.shape, found.dtype, found.tobytes()) == (shape, dtype.numpy, array.tobytes())
    assert tensor.raw() == data


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(np.array([1, 2], np.float32).tobytes())
    tensor = FileTensor(DType.FLOAT, (2,), path, 0)
    tensor.fresh_array().fill(9)  # the caller's own
    assert tensor.array().tolist() == [1, 2]
    path.write_bytes(np.array([3, 4], np.float32).tobytes())
    assert tensor.array().tolist() == [3, 4]


def test_files_are_read_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planish.ir.tensor._CHUNK", 7)
    array = np.arange(5, dtype=np.float32)
    (tmp_path / "weights").write_bytes(array.tobytes())
    tensor = FileTensor(DType.FLOAT, (5,), tmp_path / "weights", 0)
    assert [len(chunk) for chunk in tensor.raw_chunks()] == [7, 7, 6]
    np.testing.assert_array_equal(tensor.array(), array)
    assert [len(chunk) for chunk in ArrayTensor(array).raw_chunks()] == [7, 7, 6]


def test_a_file_that_ends_early_or_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(12))
    tensor = FileTensor(DType.FLOAT, (4,), path, 0)
    with pytest.raises(GraphError, match=f"{path}: ended while a weight was read from it"):
        tensor.array()
    path.unlink()
    with pytest.raises(GraphError, match=f"{path}: a weight cannot be read from it: No such file"):
        tensor.array()


def test_a_chunk_that_is_not_wanted_leaves_no_file_open(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(bytes(16))
    folder = Path("/proc/self/fd")
    before = len(list(folder.iterdir())) if folder.exists() else 0
    for _ in range(3):
        chunks = FileTensor(DType.FLOAT, (4,), tmp_path / "weights", 0).raw_chunks()
        next(chunks)
        del chunks
    gc.collect()
    assert (len(list(folder.iterdir())) if before else 0) == before


def test_a_spool_keeps_results_apart() -> None:
    spool = Spool()
    arrays = [
        np.arange(5, dtype=np.float32),
        every_code(DType.INT4, 7),
        np.zeros((0, 3), np.int64),
        np.array(2.5),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
    ]
    tensors = [spool.put(array) for array in arrays]
    for array, tensor in zip(arrays, tensors, strict=True):
        np.testing.assert_array_equal(tensor.array(), array)
        assert tensor.dtype == DType.of(array)
        assert not tensor.in_memory


def test_a_spool_writes_large_results_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system may take fewer bytes at once than it was given."""
    write = os.pwrite

    def few(descriptor: int, data: memoryview, offset: int) -> int:
        return write(descriptor, data[:3], offset)

    monkeypatch.setattr(os, "pwrite", few)
    tensor = Spool().put(np.arange(5, dtype=np.float32))
    np.testing.assert_array_equal(tensor.array(), np.arange(5))


def test_a_spool_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spool = Spool()
        tensor = spool.put(np.ones(4, np.float32))
        descriptor = spool.fileno()
        del spool
        assert tensor.array().tolist() == [1, 1, 1, 1]
        del tensor
        gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(
        GraphError, match=f"{tempfile.gettempdir()}: a large result cannot be kept there: No space left"
    ):
        Spool().put(np.ones(4, np.float32))


def test_identity_tells_what_is_surely_equal(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(bytes(32))
    here = FileTensor(DType.FLOAT, (4,), tmp_path / "weights", 0)
    assert here.identity == FileTensor(DType.FLOAT, (4,), tmp_path / "weights", 0).identity
    assert here.identity != FileTensor(DType.FLOAT, (4,), tmp_path / "weights", 16).identity
    assert here.identity != FileTensor(DType.FLOAT, (2,), tmp_path / "weights", 0).identity
    one = np.ones(2)
    assert ArrayTensor(one).identity != ArrayTensor(one).identity or ArrayTensor(one).array() is one


@pytest.mark.parametrize(
    ("tensor", "elements"),
    [
        (ArrayTensor(np.array([3, -1])), (3, -1)),
        (ArrayTensor(np.array(5, np.int32)), (5,)),
        (ArrayTensor(np.array([True])), (1,)),
        (ArrayTensor(np.array([[1]])), None),
        (ArrayTensor(np.array([1.0])), None),
        (ArrayTensor(np.zeros(65, np.int64)), None),
        (FileTensor(DType.INT64, (1,), Path("unread"), 0), None),
    ],
)
def test_elements_of_shapes_axes_and_flags(tensor: Tensor, elements: tuple[int, ...] | None) -> None:
    assert tensor.elements() == elements
