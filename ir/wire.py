"""protobuf's wire format, as far as it takes to leave large weights out of a model's bytes and to put them back in.

protobuf copies every byte that it reads and every byte that it writes, more than once. Large weights go around it: what
it parses and serializes is the model without them. https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from planish.ir.tensor import Tensor

LARGE = 1 << 14
"""Bytes from which on an initializer is worth the detour."""
LARGEST = 2**31 - 1
"""Bytes of the largest message that protobuf reads."""
_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_GRAPH, _INITIALIZER = 7 << 3 | _LEN, 5 << 3 | _LEN  # of ModelProto and GraphProto
_NAME, _RAW_DATA, _DATA_LOCATION = 8 << 3 | _LEN, 9 << 3 | _LEN, 14 << 3 | _VARINT  # of TensorProto
_MORE = 0x80
Bytes = bytes | memoryview


class MalformedError(ValueError):
    """The bytes are no message, or one with groups, which ONNX has none of."""


class Field(NamedTuple):
    """Where a field begins, its tag included, and where its content lies. The tag is number << 3 | wire type."""

    tag: int
    begin: int
    content: int
    end: int


def fields(data: Bytes, start: int, end: int) -> Iterator[Field]:
    """The fields of the message between two offsets, in order; raises MalformedError."""
    while start < end:
        tag, content = data[start], start + 1
        if tag >= _MORE:
            tag, content = _read_varint(data, start, end)
        kind = tag & 7
        if kind == _LEN and content < end:
            length, content = data[content], content + 1
            if length >= _MORE:
                length, content = _read_varint(data, content - 1, end)
            stop = content + length
        elif kind == _VARINT:
            _, stop = _read_varint(data, content, end)
        elif kind in (_I64, _I32):
            stop = content + (8 if kind == _I64 else 4)
        else:
            raise MalformedError(f"the field at {start} has the wire type {kind}, or ends behind its message")
        if stop > end:
            raise MalformedError(f"the field at {start} ends behind its message")
        yield Field(tag, start, content, stop)
        start = stop


def take_out(data: memoryview) -> tuple[bytes, dict[str, memoryview]]:
    """A model without the raw data of the large initializers of its main graph, and those by name.

    Left in are weights that a file beside the model holds or says it holds, and the second of two of one name.
    """
    weights: dict[str, memoryview] = {}
    parts: list[Bytes] = []
    for field in fields(data, 0, len(data)):
        if field.tag != _GRAPH:
            parts.append(data[field.begin : field.end])
            continue
        graph: list[Bytes] = []
        done = field.content
        for inner in fields(data, field.content, field.end):
            if inner.tag != _INITIALIZER or inner.end - inner.content < LARGE:
                continue
            name, raw = _raw_data(data, inner)
            if raw is None or raw.end - raw.content < LARGE or name in weights:
                continue
            weights[name] = data[raw.content : raw.end]
            shorter = inner.end - inner.content - (raw.end - raw.begin)
            graph += (data[done : inner.begin], _head(_INITIALIZER, shorter), data[inner.content : raw.begin])
            done = raw.end
        graph.append(data[done : field.end])
        parts += (_head(_GRAPH, sum(map(len, graph))), *graph)
    return b"".join(parts), weights


def put_in(data: memoryview, weights: Mapping[int, Tensor]) -> Sequence[Bytes | Tensor]:
    """A serialized model in pieces, with the raw data of these initializers, by their place in the main graph.

    Those have none in `data`. The bytes are the ones that protobuf would write.
    """
    pieces: list[Bytes | Tensor] = []
    for field in fields(data, 0, len(data)):
        if field.tag != _GRAPH:
            pieces.append(data[field.begin : field.end])
            continue
        graph: list[Bytes | Tensor] = []
        done, place = field.content, -1
        for inner in fields(data, field.content, field.end):
            place += inner.tag == _INITIALIZER
            if inner.tag != _INITIALIZER or place not in weights:
                continue
            tensor = weights[place]
            head = _head(_RAW_DATA, tensor.nbytes)
            at = next((f.begin for f in fields(data, inner.content, inner.end) if f.tag > _RAW_DATA), inner.end)
            length = inner.end - inner.content + len(head) + tensor.nbytes
            graph += (data[done : inner.begin], _head(_INITIALIZER, length), data[inner.content : at], head, tensor)
            done = at
        graph.append(data[done : field.end])
        pieces += (_head(_GRAPH, size_of(graph)), *graph)
    return pieces


def size_of(pieces: Sequence[Bytes | Tensor]) -> int:
    """Bytes of all pieces."""
    return sum([piece.nbytes if isinstance(piece, Tensor) else len(piece) for piece in pieces])


def _raw_data(data: memoryview, tensor: Field) -> tuple[str, Field | None]:
    """The name of a TensorProto, and where its raw data lie; None where they are not plainly all of its elements."""
    name, raw = "", None
    for field in fields(data, tensor.content, tensor.end):
        if field.tag == _NAME:
            try:
                name = str(data[field.content : field.end], "utf-8")
            except UnicodeDecodeError:
                return "", None
        elif field.tag == _DATA_LOCATION or (field.tag == _RAW_DATA and raw is not None):
            return name, None
        elif field.tag == _RAW_DATA:
            raw = field
    return name, raw


def _read_varint(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """A number, and the offset behind it."""
    value = shift = 0
    while start < end:
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < _MORE:
            return value, start
        shift += 7
    raise MalformedError("a number is cut off")


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= _MORE:
        found.append(value & 0x7F | _MORE)
        value >>= 7
    found.append(value)
    return bytes(found)


def _head(tag: int, length: int) -> bytes:
    """The tag and length of a field whose content has so many bytes."""
    return _varint(tag) + _varint(length)
