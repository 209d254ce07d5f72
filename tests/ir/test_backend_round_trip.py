"""Every ONNX backend test case loads and comes out field by field as it went in."""

from collections.abc import Callable

import onnx
import pytest
from google.protobuf.message import Message

from planish import ir

PARTS = 8  # for pytest-xdist to spread

pytestmark = pytest.mark.slow


def test_the_cases_are_those_that_onnx_ships(backend_cases: dict[str, onnx.ModelProto]) -> None:
    assert len(backend_cases) > 1500  # the first supported onnx has fewer than the newest, which has 2,024


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_is_lost(
    part: int, backend_cases: dict[str, onnx.ModelProto], difference: Callable[[Message, Message], str]
) -> None:
    failures: list[str] = []
    for name, proto in list(backend_cases.items())[part::PARTS]:
        found = difference(proto, ir.emit(ir.load(proto)))
        if found:
            failures.append(f"{name}: {found}")
    assert failures == []
