"""Graph -> file: the model, and a data file beside it for what does not belong inside; never anything half-written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal, Self, get_args

from google.protobuf.message import EncodeError
from onnx import ModelProto, TensorProto

from planish.ir import wire
from planish.ir.emit import LARGEST_PROTOBUF, Emitter, constants
from planish.ir.emit_tensor import describe, inline_size, write_inline
from planish.ir.errors import GraphError
from planish.ir.graph import Graph
from planish.ir.load_tensor import ExternalTensor, ProtoTensor, SparseTensor
from planish.ir.tensor import Tensor
from planish.ir.types import DType

ExternalData = Literal["auto", "always", "never"]

SMALLEST_EXTERNAL = 1 << 10
# Large tensors start where every system can map a file into memory: Windows maps at 64 KiB, Linux and macOS at a page
# of 4 to 64 KiB. The gap costs at most 6 % of a tensor that is 1 MiB or larger. Smaller ones start at a cache line,
# which is also the widest vector that a kernel loads.
_MAPPED, _MAPPED_ALIGNMENT, _ALIGNMENT = 1 << 20, 1 << 16, 64


def save(
    graph: Graph, path: str | os.PathLike[str], *, opset: int | None = None, external_data: ExternalData = "auto"
) -> tuple[Path, ...]:
    """Write the model to `path`, and weights that go outside it to one file beside it, `<name>.data`; the files.

    opset: the version of the standard operators to write; None keeps the graph's own.
    external_data: "auto" leaves outside what came from outside, and puts everything of 1 KiB and more there when the
    model would not fit a protobuf (2 GiB); "always" puts everything of 1 KiB and more there; "never" nothing. Values of
    Constant nodes stay inside. Weights that no pass touched are copied from file to file and never held in memory.

    Raises GraphError naming the path when it is one of the files that the graph was loaded from or cannot be written.
    On any failure what was there before is there still, and nothing else. A link at `path` is replaced, not followed.
    """
    target = Path(path)
    if external_data not in get_args(ExternalData):
        raise GraphError(f"external_data is {external_data!r}; it can be {', '.join(get_args(ExternalData))}")
    check_target(graph, target)
    data = _data_path(graph, target)
    outside = _choice(graph, target, external_data)
    with _failures_named(target), _Replacement() as replacement:
        writer = _Writer(data.name, outside, lambda: replacement.open(data))
        model = Emitter(graph, opset, writer).model()
        replacement.write(target, _serialized(model, writer.apart, target))
        replacement.commit()
    return replacement.targets


def check_target(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Raise GraphError when `save` could not write `graph` to `path`: what can be known before any work is done."""
    target = Path(path)
    with _failures_named(target):
        _check_place(target)
        _check_sources(graph, target)


def _check_place(target: Path) -> None:
    folder = target.parent
    if target.is_dir():
        raise GraphError(f"{target}: is a folder; name a file in it")
    if target.exists() and not target.is_file():
        raise GraphError(f"{target}: is not a regular file; name another one")
    if not folder.is_dir():
        raise GraphError(f"{target}: cannot be written, there is no folder {folder}; make it or name another one")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise GraphError(f"{target}: cannot be written, the folder {folder} does not allow it")


def _check_sources(graph: Graph, target: Path) -> None:
    if graph.path is not None and _same(target, graph.path):
        raise GraphError(f"{target}: is the model that was loaded; name another file for the result")
    for file in graph.data_files:
        if _same(target, file):
            raise GraphError(f"{target}: holds weights of the model that was loaded; name another file for the result")


def _same(a: Path, b: Path) -> bool:
    """Whether two paths lead to one file, through links or by another name."""
    with suppress(OSError):
        return a.samefile(b)
    return os.path.realpath(a) == os.path.realpath(b)


def _data_path(graph: Graph, target: Path) -> Path:
    """`<name>.data`, or the first of `<name>-1.data` and so on that is no file of the loaded model's."""
    sources = (*graph.data_files, *(() if graph.path is None else (graph.path,)))
    number = 0
    while True:
        candidate = target.with_name(f"{target.name}{f'-{number}' if number else ''}.data")
        if not any(_same(candidate, source) for source in sources) and (candidate.is_file() or not candidate.exists()):
            return candidate
        number += 1


def _choice(graph: Graph, target: Path, external_data: ExternalData) -> Callable[[Tensor], bool]:
    """Which tensors go to the data file."""
    if external_data == "always":
        return _is_large
    inside = graph.data_files and external_data == "auto"
    size = sum(inline_size(tensor) for tensor in constants(graph) if not (inside and _came_from_outside(tensor)))
    if size <= LARGEST_PROTOBUF:
        return _came_from_outside if inside else lambda _: False
    if external_data == "auto":
        return _is_large
    raise GraphError(f'{target}: {size} bytes of weights do not fit one file (2 GiB); use external_data="auto"')


def _is_large(tensor: Tensor) -> bool:
    """Strings and sparse tensors have no raw form that a file could hold."""
    plain = tensor.dtype is not DType.STRING and not isinstance(tensor, SparseTensor)
    return plain and tensor.nbytes >= SMALLEST_EXTERNAL


def _may_wait(tensor: Tensor) -> bool:
    """Whether the elements can be put into the model when it is serialized already."""
    inside = isinstance(tensor, ProtoTensor) and tensor.apart is None
    return tensor.nbytes >= wire.LARGE and tensor.dtype is not DType.STRING and not inside


def _came_from_outside(tensor: Tensor) -> bool:
    """Of a model with external data: what was there, and what passes made of it."""
    return isinstance(tensor, ExternalTensor) or (_is_large(tensor) and not isinstance(tensor, ProtoTensor))


def _serialized(model: ModelProto, apart: Mapping[int, Tensor], target: Path) -> Sequence[wire.Bytes | Tensor]:
    """The model in pieces; `apart` holds the initializers that it lacks the elements of, by their place."""
    with suppress(EncodeError):
        pieces = wire.put_in(memoryview(model.SerializeToString()), apart)
        if wire.size_of(pieces) <= wire.LARGEST:
            return pieces
    raise GraphError(
        f"{target}: what must stay inside the model does not fit one protobuf (2 GiB); values of Constant nodes "
        "stay inside, and an initializer can take their place"
    )


class _Writer:
    """Puts tensors where they go; the data file is made when the first one goes there."""

    def __init__(self, location: str, outside: Callable[[Tensor], bool], open_data: Callable[[], BinaryIO]) -> None:
        self.location = location
        self.outside = outside
        self.open_data = open_data
        self.apart: dict[int, Tensor] = {}
        """Initializers whose elements are still to be put inside the model, by their place."""
        self._file: BinaryIO | None = None
        self._written: dict[object, int] = {}

    def __call__(self, tensor: Tensor, proto: TensorProto, index: int | None) -> None:
        if not self.outside(tensor):
            if index is None or not _may_wait(tensor):
                write_inline(tensor, proto)
                return
            describe(tensor, proto)
            self.apart[index] = tensor
            return
        offset = self._written.get(tensor.identity)
        if offset is None:
            offset = self._written[tensor.identity] = self._append(tensor)
        if isinstance(tensor, (ExternalTensor, ProtoTensor)):
            _describe(tensor.proto, proto)
        else:
            proto.data_type = int(tensor.dtype)
            proto.dims.extend(tensor.shape)
        proto.data_location = TensorProto.EXTERNAL
        found = {"location": self.location, "offset": str(offset), "length": str(tensor.nbytes)}
        kept = [entry for entry in proto.external_data if entry.key not in found]
        del proto.external_data[:]
        for key, value in found.items():
            proto.external_data.add(key=key, value=value)
        proto.external_data.extend(kept)

    def _append(self, tensor: Tensor) -> int:
        file = self._file = self._file or self.open_data()
        alignment = _MAPPED_ALIGNMENT if tensor.nbytes >= _MAPPED else _ALIGNMENT
        offset = -(-file.tell() // alignment) * alignment
        file.write(bytes(offset - file.tell()))
        for chunk in tensor.raw_chunks():
            file.write(chunk)
        return offset


def _describe(source: TensorProto, proto: TensorProto) -> None:
    """Everything that a loaded tensor says of itself but its elements."""
    for descriptor, value in source.ListFields():
        if descriptor.name in ("external_data", "dims", "metadata_props"):
            getattr(proto, descriptor.name).extend(value)
        elif descriptor.name in ("data_type", "doc_string"):
            setattr(proto, descriptor.name, value)


class _Replacement:
    """Files written beside those that they replace, all of them or none; the last one written is put in place last."""

    def __init__(self) -> None:
        self._files: list[BinaryIO] = []
        self._moves: list[tuple[Path, Path]] = []

    def open(self, target: Path) -> BinaryIO:
        """A new file that `commit` puts at `target`."""
        temporary = _temporary(target)
        self._moves.append((temporary, target))
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        self._files.append(os.fdopen(descriptor, "wb"))
        return self._files[-1]

    @property
    def targets(self) -> tuple[Path, ...]:
        """The files, the last one first."""
        return tuple([target for _, target in reversed(self._moves)])

    def write(self, target: Path, pieces: Iterable[wire.Bytes | Tensor]) -> None:
        file = self.open(target)
        for piece in pieces:
            file.writelines(piece.raw_chunks() if isinstance(piece, Tensor) else (piece,))

    def commit(self) -> None:
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
            file.close()
        kept = [(_temporary(target), temporary, target) for temporary, target in self._moves[:-1]]
        last, final = self._moves[-1]
        try:
            for old, temporary, target in kept:
                if target.exists():
                    target.replace(old)
                temporary.replace(target)
            last.replace(final)
        except BaseException:
            for old, temporary, target in kept:
                if not temporary.exists():
                    target.unlink(missing_ok=True)
                if old.exists():
                    old.replace(target)
            raise
        for old, _, _ in kept:
            old.unlink(missing_ok=True)
        _sync_folder(final.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        for file in self._files:
            with suppress(OSError):
                file.close()
        for temporary, _ in self._moves:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _temporary(target: Path) -> Path:
    return target.with_name(f".planish-{secrets.token_hex(8)}.tmp")


def _sync_folder(folder: Path) -> None:
    """Make the new names last through a power cut, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _failures_named(target: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise GraphError(f"{target}: cannot be written: {error.strerror or error}") from None
