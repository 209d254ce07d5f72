"""What the tests of the IR share: field-by-field comparison, a model with external data, and runs that check first."""

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
from google.protobuf.message import Message
from onnx import StringStringEntryProto, TensorProto, numpy_helper, parser
from onnx.backend.test.loader import load_model_tests
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir
from planish.ir.types import Array
from planish.runtime.session import Feed, Session

BACKEND_KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")


@pytest.fixture(scope="session")
def difference() -> Callable[[Message, Message], str]:
    """The path of the first field in which two messages of one kind differ, with both values; "" where they do not."""
    return _difference


def _difference(a: Message, b: Message, path: str = "") -> str:
    for field in a.DESCRIPTOR.fields:
        here = f"{path}.{field.name}" if path else field.name
        left, right = getattr(a, field.name), getattr(b, field.name)
        if field.is_repeated:
            if len(left) != len(right):
                return f"{here}: {len(left)} entries and {len(right)}"
            pairs = [(f"{here}[{i}]", *pair) for i, pair in enumerate(zip(left, right, strict=True))]
        elif field.has_presence and a.HasField(field.name) != b.HasField(field.name):
            return f"{here}: set in one only"
        elif field.message_type is not None and not a.HasField(field.name):
            continue
        else:
            pairs = [(here, left, right)]
        for where, one, other in pairs:
            if field.message_type is not None:
                found = _difference(one, other, where)
                if found:
                    return found
            elif one != other and not (isinstance(one, float) and math.isnan(one) and math.isnan(other)):
                return f"{where}: {one!r} and {other!r}"
    return ""


@pytest.fixture(scope="session")
def run() -> Callable[[ir.Graph | onnx.ModelProto, Mapping[str, Feed]], list[Array]]:
    """What ONNX Runtime computes for a graph or model that onnx's checker has passed."""
    return _run


def _run(graph: ir.Graph | onnx.ModelProto, feeds: Mapping[str, Feed]) -> list[Array]:
    model = ir.emit(graph) if isinstance(graph, ir.Graph) else graph
    check_model(model, full_check=True)
    return cast("list[Array]", Session(model.SerializeToString()).run(feeds))


@pytest.fixture
def external_model(tmp_path: Path) -> Path:
    """`tmp_path/source/net.onnx`: y = x + big + small, with `big` (4 KiB) and `small` (16 bytes) in weights.bin."""
    folder = tmp_path / "source"
    folder.mkdir()
    big = np.arange(1024, dtype=np.float32)
    small = np.array([1, 2, 3, 4], np.float32)
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> net (float[256, 4] x) => (float[256, 4] y)'
        " <float[256, 4] big, float[4] small> { sum = Add (x, big)  y = Add (sum, small) }"
    )
    del model.graph.value_info[:]
    (folder / "weights.bin").write_bytes(b"head" * 64 + big.tobytes() + small.tobytes())
    for name, array, offset in (("big", big.reshape(256, 4), 256), ("small", small, 256 + 4096)):
        tensor = numpy_helper.from_array(array, name)
        tensor.ClearField("raw_data")
        place = {
            "location": "weights.bin",
            "offset": str(offset),
            "length": str(array.nbytes),
            "checksum": f"of {name}",
        }
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.extend(StringStringEntryProto(key=key, value=value) for key, value in place.items())
        model.graph.initializer.append(tensor)
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="session")
def backend_cases() -> dict[str, onnx.ModelProto]:
    """The backend test cases that onnx ships, by kind and name. Slow: the node cases are computed, dividing by zero."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [case for kind in BACKEND_KINDS for case in load_model_tests(kind=kind)]
    models: dict[str, onnx.ModelProto] = {}
    for case in found:
        proto = case.model
        if proto is None:
            assert case.model_dir is not None
            proto = onnx.ModelProto.FromString((Path(case.model_dir) / "model.onnx").read_bytes())
        models[f"{case.kind}/{case.name}"] = proto
    return models
