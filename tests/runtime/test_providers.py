"""Targets as values, and the facts that they carry."""

import dataclasses
import json

import pytest

from planish.runtime import providers
from planish.runtime.errors import SessionError
from planish.runtime.providers import PROVIDERS, Target, available, host_isa, isa_facts, reason

XEON = """processor\t: 0
model name\t: Intel(R) Xeon(R)
flags\t\t: fpu sse sse2 avx avx2 avx512f avx512_vnni amx_tile amx_int8 amx_bf16

processor\t: 1
flags\t\t: fpu sse
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp asimdhp i8mm bf16 sve\nCPU implementer\t: 0x41\n"


def test_isa_facts_are_read_from_either_architecture() -> None:
    assert isa_facts(XEON) == {"avx2", "avx512", "vnni", "amx_int8", "amx_bf16"}
    assert isa_facts(ARM) == {"neon", "dotprod", "fp16", "i8mm", "bf16", "sve"}
    assert isa_facts("flags : fpu avx2 avx_vnni") == {"avx2", "vnni"}
    assert isa_facts("nothing known") == frozenset()


def test_a_target_is_a_value() -> None:
    assert Target() == Target("cpu")
    assert hash(Target(threads=2)) == hash(Target(threads=2))
    assert Target(threads=2) != Target(threads=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Target().threads = 3  # pyright: ignore[reportAttributeAccessIssue]  that it is refused is the test
    assert Target().isa == host_isa()
    assert Target("cuda", device=1).execution_provider == "CUDAExecutionProvider"
    assert (Target("cuda").memory, Target("cpu").memory) == ("cuda", "cpu")


def test_a_target_goes_to_json() -> None:
    target = Target(threads=1, domains=frozenset({"", "com.microsoft"}), architecture="x86_64", isa=frozenset({"vnni"}))
    assert json.loads(json.dumps(target.as_dict())) == {
        "provider": "cpu",
        "threads": 1,
        "device": 0,
        "optimization": "all",
        "domains": ["", "com.microsoft"],
        "architecture": "x86_64",
        "isa": ["vnni"],
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"provider": "gpu"}, "there is no provider 'gpu': choose one of cpu, cuda"),
        ({"optimization": "most"}, "no optimization level 'most': choose one of disabled, basic"),
        ({"threads": -1}, "threads must be 0 or more, not -1"),
        ({"device": -2}, "device must be 0 or more, not -2"),
    ],
)
def test_a_target_that_cannot_be_is_refused(fields: dict[str, str], message: str) -> None:
    with pytest.raises(SessionError, match=message):
        dataclasses.replace(Target(), **fields)


def test_available_providers_own_nodes(capfd: pytest.CaptureFixture[str]) -> None:
    available.cache_clear()
    found = available()
    assert found[0] == "cpu"
    assert set(found) <= set(PROVIDERS)
    assert capfd.readouterr().err == ""


def test_a_provider_that_is_only_listed_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(model: bytes, label: str, target: Target, config: object) -> object:
        raise SessionError("owns no node")

    monkeypatch.setattr(providers, "open_session", refuses)
    available.cache_clear()
    try:
        assert available() == ()
    finally:
        available.cache_clear()


def test_reasons_are_one_line_without_onnx_runtimes_own_places() -> None:
    message = (
        "[ONNXRuntimeError] : 1 : FAIL : Status Message: /onnxruntime_src/include/op_kernel_context.h:45 const T* "
        "onnxruntime::OpKernelContext::Input(int) const [with T = onnxruntime::Tensor] Missing Input:\n x0"
    )
    assert reason(RuntimeError(message)) == "Status Message: Missing Input: x0"
    assert reason(MemoryError()) == "MemoryError"
