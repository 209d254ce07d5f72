"""Targets, and which of ONNX Runtime's execution providers really run.

ONNX Runtime's own answers are not proof: `get_available_providers()` lists CUDA on machines without a GPU, and a
session that was asked for CUDA is then created on the CPU. The only proof is a node that the provider owns.
"""

import io
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from planish.runtime.errors import SessionError

try:
    import onnxruntime

    _import_error = ""
except ImportError as error:
    onnxruntime = None
    _import_error = str(error)

Array = NDArray[np.generic]

PROVIDERS: Mapping[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "dnnl": "DnnlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
}
# The value is GraphOptimizationLevel's.
OPTIMIZATION_LEVELS: Mapping[str, int] = {"disabled": 0, "basic": 1, "extended": 2, "layout": 3, "all": 99}

_CPU = PROVIDERS["cpu"]
_CUDA_MEMORY = frozenset({"cuda", "tensorrt"})
_FATAL, _ERROR = 4, 3

# /proc/cpuinfo's word (x86 "flags", Arm "Features") -> the fact that passes ask for.
_ISA_FACTS: Mapping[str, str] = {
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx512_vnni": "vnni",
    "avx_vnni": "vnni",
    "avx_vnni_int8": "vnni_int8",
    "avx512_bf16": "avx512_bf16",
    "avx512_fp16": "avx512_fp16",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
    "asimd": "neon",
    "asimddp": "dotprod",
    "asimdhp": "fp16",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
}

# y = MatMul(x, x), float[4, 4], opset 13: the one node that a usable provider must own.
_PROBE = (
    b"\x08\x08\x12\x00:@\n\x11\n\x01x\n\x01x\x12\x01y\x22\x06MatMul\x12\x01gZ\x13\n\x01x\x12\x0e\n\x0c\x08\x01\x12\x08"
    b"\n\x02\x08\x04\n\x02\x08\x04b\x13\n\x01y\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x04\n\x02\x08\x04B\x04\n\x00\x10\r"
)


def version() -> str:
    """Of ONNX Runtime."""
    return require().__version__


def isa_facts(cpuinfo: str) -> frozenset[str]:
    """The facts in the text of /proc/cpuinfo; those of the first core."""
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    words = match[1].split() if match else []
    return frozenset(_ISA_FACTS[word] for word in words if word in _ISA_FACTS)


@cache
def host_isa() -> frozenset[str]:
    """Empty where the system has no /proc/cpuinfo: nothing is known then, not nothing there."""
    try:
        return isa_facts(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return frozenset()


@dataclass(frozen=True)
class Target:
    """Where a model runs. The ISA facts and the architecture are this machine's unless told otherwise."""

    provider: str = "cpu"
    """A key of PROVIDERS."""
    threads: int = 0
    """Within one operator; 0 is ONNX Runtime's choice, one for each physical core."""
    device: int = 0
    optimization: str = "all"
    """A key of OPTIMIZATION_LEVELS: what ONNX Runtime itself does to the graph."""
    domains: frozenset[str] = frozenset({""})
    """Operator domains that a pass may add nodes of; "" is the standard one."""
    architecture: str = field(default_factory=platform.machine)
    isa: frozenset[str] = field(default_factory=host_isa)

    def __post_init__(self) -> None:
        if self.provider not in PROVIDERS:
            raise SessionError(f"there is no provider {self.provider!r}: choose one of {', '.join(PROVIDERS)}")
        if self.optimization not in OPTIMIZATION_LEVELS:
            levels = ", ".join(OPTIMIZATION_LEVELS)
            raise SessionError(f"there is no optimization level {self.optimization!r}: choose one of {levels}")
        for name, number in (("threads", self.threads), ("device", self.device)):
            if number < 0:
                raise SessionError(f"{name} must be 0 or more, not {number}")

    @property
    def execution_provider(self) -> str:
        """ONNX Runtime's name of the provider."""
        return PROVIDERS[self.provider]

    @property
    def memory(self) -> str:
        """ONNX Runtime's name of the device memory that the provider computes in."""
        return "cuda" if self.provider in _CUDA_MEMORY else "cpu"

    def as_dict(self) -> dict[str, object]:
        return {
            "provider": self.provider,
            "threads": self.threads,
            "device": self.device,
            "optimization": self.optimization,
            "domains": sorted(self.domains),
            "architecture": self.architecture,
            "isa": sorted(self.isa),
        }


class NodeArg(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def shape(self) -> Sequence[int | str | None]: ...


class OrtValue(Protocol):
    def data_ptr(self) -> int: ...
    def tensor_size_in_bytes(self) -> int: ...
    def shape(self) -> Sequence[int]: ...
    def has_value(self) -> bool: ...
    def is_tensor(self) -> bool: ...
    def numpy(self) -> Array: ...


class OrtValues(Protocol):
    def ortvalue_from_numpy(self, array: Array, /, device_type: str = ..., device_id: int = ...) -> OrtValue: ...
    def ortvalue_from_shape_and_type(self, shape: Sequence[int], element_type: int) -> OrtValue: ...


class IOBinding(Protocol):
    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None: ...
    def bind_output(self, name: str, device_type: str, device_id: int) -> None: ...
    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None: ...
    def clear_binding_outputs(self) -> None: ...
    def get_outputs(self) -> Sequence[OrtValue]: ...


class AssignedSubgraph(Protocol):
    @property
    def ep_name(self) -> str: ...
    def get_nodes(self) -> Sequence[object]: ...


class ModelMetadata(Protocol):
    @property
    def custom_metadata_map(self) -> Mapping[str, str]: ...


class InferenceSession(Protocol):
    def get_modelmeta(self) -> ModelMetadata: ...
    def get_inputs(self) -> Sequence[NodeArg]: ...
    def get_outputs(self) -> Sequence[NodeArg]: ...
    def get_overridable_initializers(self) -> Sequence[NodeArg]: ...
    def get_providers(self) -> Sequence[str]: ...
    def get_provider_graph_assignment_info(self) -> Sequence[AssignedSubgraph]: ...
    def run(self, output_names: None, input_feed: Mapping[str, object], /) -> Sequence[object]: ...
    def run_with_ort_values(self, output_names: None, feeds: Mapping[str, OrtValue], /) -> Sequence[OrtValue]: ...
    def io_binding(self) -> IOBinding: ...
    def run_with_iobinding(self, iobinding: IOBinding, /) -> None: ...


class SessionOptions(Protocol):
    intra_op_num_threads: int
    inter_op_num_threads: int
    log_severity_level: int
    graph_optimization_level: object
    enable_cpu_mem_arena: bool
    optimized_model_filepath: str

    def add_session_config_entry(self, key: str, value: str, /) -> None: ...


class OnnxRuntime(Protocol):
    """What planish uses of the module, which ships no types."""

    @property
    def __version__(self) -> str: ...
    @property
    def InferenceSession(self) -> Callable[..., InferenceSession]: ...  # noqa: N802
    @property
    def SessionOptions(self) -> Callable[[], SessionOptions]: ...  # noqa: N802
    @property
    def GraphOptimizationLevel(self) -> Callable[[int], object]: ...  # noqa: N802
    @property
    def OrtValue(self) -> OrtValues: ...  # noqa: N802
    def get_available_providers(self) -> Sequence[str]: ...
    def set_default_logger_severity(self, severity: int, /) -> None: ...
    def preload_dlls(self) -> None: ...


@cache
def require() -> OnnxRuntime:
    """ONNX Runtime, silent below error.

    Raises:
        SessionError: neither wheel is installed, or the installed one cannot be imported.
    """
    if onnxruntime is None:
        raise SessionError(
            f"ONNX Runtime cannot be imported ({_import_error}): install it with pip install 'planish[cpu]', "
            "or pip install 'planish[gpu]' for CUDA"
        )
    api = cast("OnnxRuntime", onnxruntime)
    if not hasattr(api, "InferenceSession"):  # an uninstalled wheel can leave a folder behind, which imports as empty
        raise SessionError("ONNX Runtime is damaged: remove onnxruntime and onnxruntime-gpu, then install one of them")
    api.set_default_logger_severity(_ERROR)
    return api


def reason(error: Exception) -> str:
    """ONNX Runtime's message on one line, without its prefix and the places in its own source."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error))
    text = re.sub(r"\S*/onnxruntime_src/\S+:\d+ [^()]*\([^()]*\)( const)?( \[with [^]]*\])? ", "", text)
    return " ".join(text.split()) or type(error).__name__


def open_session(
    model: str | bytes,
    label: str,
    target: Target,
    config: Mapping[str, str],
    *,
    arena: bool = True,
    optimized: str = "",
) -> InferenceSession:
    """A session in which `target.provider` owns at least one node, or the model has none.

    arena: whether it keeps what memory its runs took, for the next one. optimized: where ONNX Runtime writes the model
    as it runs it.

    Raises:
        SessionError: the model cannot be loaded, or the provider is absent or was given no node.
    """
    api = require()
    provider = target.execution_provider
    listed = api.get_available_providers()
    if provider not in listed:
        names = ", ".join(name for name, full in PROVIDERS.items() if full in listed)
        raise SessionError(
            f"provider {target.provider!r} was asked for, but the installed ONNX Runtime {api.__version__} "
            f"has only {names}: install the wheel that has it, or choose another provider"
        )
    options = api.SessionOptions()
    options.log_severity_level = _FATAL  # what it logs as an error is raised, too
    options.intra_op_num_threads = target.threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = arena
    options.graph_optimization_level = api.GraphOptimizationLevel(OPTIMIZATION_LEVELS[target.optimization])
    if optimized:
        options.optimized_model_filepath = optimized
    for key, value in {**config, "session.record_ep_graph_assignment_info": "1"}.items():
        options.add_session_config_entry(key, value)
    missing = _preload(api) if target.memory == "cuda" else ""
    choice = provider if provider == _CPU else (provider, {"device_id": str(target.device)})
    try:
        session = api.InferenceSession(model, options, providers=[choice], enable_fallback=0)
    except Exception as error:  # the module's exceptions share no base but this
        raise SessionError(f"ONNX Runtime cannot open {label} on {target.provider}: {reason(error)}") from error
    _prove(session, label, target, missing)
    return session


@cache
def _preload(api: OnnxRuntime) -> str:
    """Loads CUDA and cuDNN from NVIDIA's wheels where they are installed; gives the first of what it prints."""
    with redirect_stdout(io.StringIO()) as said:
        api.preload_dlls()
    return next(iter(said.getvalue().splitlines()), "").rstrip(".")


def placement(session: InferenceSession) -> dict[str, int]:
    """Nodes by ONNX Runtime's provider name, nested graphs included, as assigned before fusion."""
    counts: dict[str, int] = {}
    for subgraph in session.get_provider_graph_assignment_info():
        counts[subgraph.ep_name] = counts.get(subgraph.ep_name, 0) + len(subgraph.get_nodes())
    return counts


def _prove(session: InferenceSession, label: str, target: Target, missing: str) -> None:
    if not hasattr(session, "get_provider_graph_assignment_info"):
        version = require().__version__
        raise SessionError(f"ONNX Runtime {version} cannot say which provider runs a node: install 1.24 or newer")
    provider = target.execution_provider
    owned = placement(session)
    if owned.get(provider) or (not owned and provider in session.get_providers()):
        return
    nodes = ", ".join(f"{count} on {name}" for name, count in owned.items()) or "none at all"
    cause = missing or "its libraries or its device are missing, or it has no kernel for these operators"
    raise SessionError(
        f"provider {target.provider!r} was asked for, but owns no node of {label} ({nodes}): {cause}. "
        "planish never falls back in silence: ask for cpu to run it there"
    )


@cache
def available() -> tuple[str, ...]:
    """The keys of PROVIDERS that own the node of a small trial model on this machine."""
    api = require()
    listed = api.get_available_providers()
    found: list[str] = []
    api.set_default_logger_severity(_FATAL)  # a provider whose libraries are missing says so here at length
    try:
        for name, full in PROVIDERS.items():
            if full in listed and _owns_the_probe(name):
                found.append(name)
    finally:
        api.set_default_logger_severity(_ERROR)
    return tuple(found)


def _owns_the_probe(name: str) -> bool:
    try:
        open_session(_PROBE, "the trial model", Target(name, threads=1), {})
    except SessionError:
        return False
    return True
