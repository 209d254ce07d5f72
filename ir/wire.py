"""protobuf's wire format, as far as it takes to leave large weights out of a model's bytes and to put them back in.

protobuf copies every byte that it reads and every byte that it writes, more than once. Large weights go around it: what
it parses and serializes is the model without them. https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

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


def fields(data: Bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of the message between two offsets, in order; raises MalformedError.

    Of each the tag (number << 3 | wire type), where it begins, where its content begins, and where it ends.
    """
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
        yield tag, start, content, stop
        start = stop


def take_out(data: memoryview) -> tuple[bytes, dict[str, memoryview]]:
    """A model without the raw data of the large initializers of its main graph, and those by name.

    Left in are weights that a file beside the model holds or says it holds, and the second of two of one name.
    """
    weights: dict[str, memoryview] = {}
    parts: list[Bytes] = []
    for tag, begin, content, end in fields(data, 0, len(data)):
        if tag != _GRAPH:
            parts.append(data[begin:end])
            continue
        graph: list[Bytes] = []
        done = content
        for inner, first, start, stop in fields(data, content, end):
            if inner != _INITIALIZER or stop - start < LARGE:
                continue
            name, at, raw, past = _raw_data(data, start, stop)
            if past - raw < LARGE or name in weights:
                continue
            weights[name] = data[raw:past]
            graph += (data[done:first], _head(_INITIALIZER, stop - start - (past - at)), data[start:at])
            done = past
        graph.append(data[done:end])
        parts += (_head(_GRAPH, sum(map(len, graph))), *graph)
    return b"".join(parts), weights


def put_in(data: memoryview, weights: Mapping[int, Tensor]) -> Sequence[Bytes | Tensor]:
    """A serialized model in pieces, with the raw data of these initializers, by their place in the main graph.

    Those have none in `data`. The bytes are the ones that protobuf would write.
    """
    pieces: list[Bytes | Tensor] = []
    for tag, begin, content, end in fields(data, 0, len(data)):
        if tag != _GRAPH:
            pieces.append(data[begin:end])
            continue
        graph: list[Bytes | Tensor] = []
        done, place = content, -1
        for inner, first, start, stop in fields(data, content, end):
            place += inner == _INITIALIZER
            if inner != _INITIALIZER or place not in weights:
                continue
            tensor = weights[place]
            head = _head(_RAW_DATA, tensor.nbytes)
            at = next((begin for tag, begin, _, _ in fields(data, start, stop) if tag > _RAW_DATA), stop)
            length = stop - start + len(head) + tensor.nbytes
            graph += (data[done:first], _head(_INITIALIZER, length), data[start:at], head, tensor)
            done = at
        graph.append(data[done:end])
        pieces += (_head(_GRAPH, size_of(graph)), *graph)
    return pieces


def size_of(pieces: Sequence[Bytes | Tensor]) -> int:
    """Bytes of all pieces."""
    return sum([piece.nbytes if isinstance(piece, Tensor) else len(piece) for piece in pieces])


def _raw_data(data: memoryview, start: int, end: int) -> tuple[str, int, int, int]:
    """The name of a TensorProto, and where the field of its raw data begins, where these do, and where they end.

    They count as empty where they are not plainly all of its elements.
    """
    name, found = "", (end, end, end)
    for tag, begin, content, stop in fields(data, start, end):
        if tag == _NAME:
            try:
                name = str(data[content:stop], "utf-8")
            except UnicodeDecodeError:
                return "", end, end, end
        elif tag == _DATA_LOCATION or (tag == _RAW_DATA and found[0] < end):
            return name, end, end, end
        elif tag == _RAW_DATA:
            found = begin, content, stop
    return name, *found


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
