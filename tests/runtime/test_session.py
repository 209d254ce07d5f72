"""Sessions on the CPU, and the proof that a provider that was asked for really runs the model."""

import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import cast

import ml_dtypes
import numpy as np
import pytest
from onnx import parser

from planish import ir
from planish.runtime import providers
from planish.runtime.errors import SessionError
from planish.runtime.providers import Array, OnnxRuntime, Target
from planish.runtime.session import Argument, Feed, Session


def model(text: str, opset: str = '"" : 21') -> bytes:
    return parser.parse_model(f"<ir_version: 10, opset_import: [{opset}]> {text}").SerializeToString()


AFFINE = model("g (float[n, 2] x) => (float[n, 2] y) <float[2] w = {1.0, 2.0}> { m = Mul(x, w)  y = Add(m, w) }")
X = np.array([[1, 2], [3, 4], [5, 6]], np.float32)


def tensors(session: Session, feeds: dict[str, Feed]) -> list[np.ndarray]:
    return [cast("np.ndarray", result) for result in session.run(feeds)]


def test_a_path_and_bytes_run_alike(tmp_path: Path) -> None:
    file = tmp_path / "affine.onnx"
    file.write_bytes(AFFINE)
    for source in (file, str(file), AFFINE):
        session = Session(source, Target(threads=1))
        np.testing.assert_array_equal(tensors(session, {"x": X})[0], X * [1, 2] + [1, 2])
        assert session.creation_seconds > 0


def test_the_model_as_it_runs_is_written(tmp_path: Path) -> None:
    """Both nodes become one, and what is written runs alike."""
    chain = model("g (float[n, 2] x) => (float[n, 2] y) { m = Identity(x)  y = Relu(m) }")
    Session(chain, Target(threads=1), optimized=tmp_path / "run.onnx")
    assert [node.op for node in ir.load(tmp_path / "run.onnx").nodes] == ["Relu"]
    written = Session(tmp_path / "run.onnx", Target(threads=1))
    np.testing.assert_array_equal(tensors(written, {"x": -X})[0], np.zeros_like(X))


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="cannot open the model given as bytes"):
        Session(AFFINE, Target(threads=1), optimized=tmp_path / "nowhere" / "run.onnx")


def test_arguments_are_typed() -> None:
    session = Session(
        model(
            "g (float[n, 2] x, seq(int64[]) s, optional(double[]) o, string[1] t)"
            " => (float[n, 2] y, seq(int64[]) u, optional(double[]) p, string[1] v)"
            " { y = Relu(x)  u = Identity(s)  p = Identity(o)  v = Identity(t) }"
        )
    )
    assert session.inputs == (
        Argument("x", "tensor(float)", ("n", 2)),
        Argument("s", "seq(tensor(int64))", ()),
        Argument("o", "optional(tensor(double))", ()),
        Argument("t", "tensor(string)", (1,)),
    )
    assert [item.name for item in session.outputs] == ["y", "u", "p", "v"]
    assert [item.element for item in session.inputs] == ["float", "int64", "double", "string"]
    assert [item.dtype for item in session.inputs] == [np.float32, np.int64, np.float64, np.object_]
    assert [item.is_tensor for item in session.inputs] == [True, False, False, True]
    assert [item.is_optional for item in session.inputs] == [False, False, True, False]
    assert Argument("m", "map(int64,tensor(float))", ()).dtype == np.float32


def test_results_are_object_trees() -> None:
    session = Session(
        model(
            "g (float[n, 2] x, seq(int64[]) s, optional(double[]) o, string[1] t)"
            " => (float[n, 2] y, seq(int64[]) u, optional(double[]) p, string[1] v)"
            " { y = Relu(x)  u = Identity(s)  p = Identity(o)  v = Identity(t) }"
        )
    )
    sequence = [np.array([1]), np.array([2, 3])]
    y, u, p, v = session.run({"x": -X, "s": sequence, "o": None, "t": np.array(["é"], dtype=object)})
    np.testing.assert_array_equal(cast("np.ndarray", y), np.zeros_like(X))
    assert isinstance(u, list)
    for found, given in zip(u, sequence, strict=True):
        np.testing.assert_array_equal(cast("np.ndarray", found), given)
    assert p is None
    np.testing.assert_array_equal(cast("np.ndarray", v), np.array(["é"], dtype=object))


def test_maps_come_as_lists_of_dicts() -> None:
    zipmap = model(
        "g (float[n, 2] x) => (seq(map(int64, float[])) y) { y = ai.onnx.ml.ZipMap <classlabels_int64s = [7, 9]> (x) }",
        opset='"" : 17, "ai.onnx.ml" : 1',
    )
    assert Session(zipmap).run({"x": X[:1]}) == [[{7: 1.0, 9: 2.0}]]


@pytest.mark.parametrize(
    ("element", "dtype", "values"),
    [
        ("bfloat16", ml_dtypes.bfloat16, [1.5, -2.0, 3e38, np.inf]),
        ("float8e4m3fn", ml_dtypes.float8_e4m3fn, [1.5, -2.0, 448.0]),
        ("float8e5m2", ml_dtypes.float8_e5m2, [1.5, -2.0, np.inf]),
    ],
)
def test_elements_that_numpy_lacks_go_in_and_out(element: str, dtype: type[np.generic], values: list[float]) -> None:
    session = Session(model(f"g ({element}[n] x) => ({element}[n] y) {{ y = Identity(x) }}"))
    given: Array = np.array(values, dtype)
    for feed in (given, given[::2], given[:0]):
        (found,) = tensors(session, {"x": feed})
        assert found.dtype == dtype
        assert found.tobytes() == feed.tobytes()


@pytest.mark.parametrize(
    ("element", "dtype", "low"),
    [
        ("int4", ml_dtypes.int4, -8),
        ("uint4", ml_dtypes.uint4, 0),
        ("int2", ml_dtypes.int2, -2),
        ("uint2", ml_dtypes.uint2, 0),
    ],
)
def test_elements_under_a_byte_are_packed(element: str, dtype: type[np.generic], low: int) -> None:
    numbers = np.arange(low, low + (4 if "2" in element else 16))
    opset = '"" : 25' if "2" in element else '"" : 21'
    text = f"g ({element}[n] x, float s, {element} z) => (float[n] y, {element}[n] q)"
    session = Session(model(f"{text} {{ y = DequantizeLinear(x, s)  q = QuantizeLinear(y, s, z) }}", opset))
    for count in range(len(numbers) + 1):  # whole bytes and parts of one
        given: Array = numbers[:count].astype(dtype)
        feeds: dict[str, Feed] = {"x": given, "s": np.ones((), np.float32), "z": np.zeros((), dtype)}
        y, q = tensors(session, feeds)
        np.testing.assert_array_equal(y, numbers[:count])
        np.testing.assert_array_equal(q.astype(np.int8), given.astype(np.int8))
        assert q.dtype == dtype


def test_a_raw_input_beside_results_that_are_no_tensors() -> None:
    session = Session(
        model(
            "g (bfloat16[2] x, seq(float[]) s) => (float[2] y, seq(float[]) t)"
            " { y = Cast <to = 1> (x)  t = Identity(s) }"
        )
    )
    y, t = session.run({"x": np.array([1, 2], ml_dtypes.bfloat16), "s": [X]})
    np.testing.assert_array_equal(cast("np.ndarray", y), [1, 2])
    assert isinstance(t, list)
    assert len(t) == 1


def test_what_the_python_api_cannot_carry_is_said() -> None:
    session = Session(
        model("g (bfloat16[2] x, string[1] s) => (bfloat16[2] y, string[1] t) { y = Identity(x)  t = Identity(s) }")
    )
    with pytest.raises(SessionError, match=r"input 's'.*cannot bind a tensor of strings"):
        session.run({"x": np.ones(2, ml_dtypes.bfloat16), "s": np.array(["a"], dtype=object)})
    with pytest.raises(SessionError, match=r"input 'x'.*is bfloat16, but float32 was given"):
        session.run({"x": np.ones(2, np.float32), "s": np.array(["a"], dtype=object)})


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "the model given as bytes needs the input 'x'"),
        ({"x": None}, "needs the input 'x'"),
        ({"x": X, "z": X}, "has no input 'z': its inputs are x"),
        ({"x": X.astype(np.float64)}, "input 'x' of .* is float32, but float64 was given"),
        ({"x": np.ones((1, 2), ml_dtypes.bfloat16)}, "input 'x' of .* is float32, but bfloat16 was given"),
        ({"x": X[:, :1]}, "Got invalid dimensions for input: x"),
    ],
)
def test_wrong_inputs_are_named(feeds: dict[str, Feed], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    session = Session(AFFINE)
    with pytest.raises(SessionError, match=message) as caught:
        session.run(feeds)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_failing_kernel_is_one_quiet_error(capfd: pytest.CaptureFixture[str]) -> None:
    session = Session(model("g (float[2, 3] x, int64[k] s) => (float[n] y) { y = Reshape(x, s) }"))
    with pytest.raises(SessionError, match=r"running .* failed: .*Reshape") as caught:
        session.run({"x": np.ones((2, 3), np.float32), "s": np.array([5])})
    assert "onnxruntime_src" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("content", [b"", b"no protobuf at all", AFFINE[:40]])
def test_a_file_that_is_no_model_is_one_quiet_error(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "broken.onnx"
    file.write_bytes(content)
    with pytest.raises(SessionError, match=r"cannot open .*broken\.onnx on cpu"):
        Session(file)
    with pytest.raises(SessionError, match=r"cannot open .*absent\.onnx on cpu.*exist"):
        Session(tmp_path / "absent.onnx")
    assert capfd.readouterr().err == ""


def test_overridable_initializers_can_be_fed() -> None:
    session = Session(model("g (float[2] x, float[2] w = {1.0, 2.0}) => (float[2] y) { y = Mul(x, w) }"))
    assert [item.name for item in session.inputs] == ["x"]
    assert [item.name for item in session.overridable] == ["w"]
    feeds: dict[str, Feed] = {"x": np.ones(2, np.float32)}
    np.testing.assert_array_equal(tensors(session, feeds)[0], [1, 2])
    np.testing.assert_array_equal(tensors(session, {**feeds, "w": np.full(2, 9, np.float32)})[0], [9, 9])


def test_the_optimization_level_reaches_onnx_runtime() -> None:
    identities = model("g (float[2] x) => (float[2] y) { a = Identity(x)  b = Relu(a)  c = Identity(b)  y = Neg(c) }")
    counts = {
        level: sum(Session(identities, Target(optimization=level)).placement().values())
        for level in ("disabled", "all")
    }
    assert counts == {"disabled": 4, "all": 2}


def test_the_configuration_reaches_onnx_runtime() -> None:
    # The one entry whose effect is an error: no provider but the CPU's was asked for, and that one is forbidden.
    with pytest.raises(SessionError, match="fallback"):
        Session(AFFINE, config={"session.disable_cpu_ep_fallback": "1"})


def test_placement_counts_the_nodes_of_nested_graphs() -> None:
    branches = "then_branch = t () => (float[2] r) { r = Relu(x) }, else_branch = e () => (float[2] q) { q = Neg(x) }"
    session = Session(model(f"g (float[2] x, bool c) => (float[2] y) {{ y = If <{branches}> (c) }}"))
    assert session.placement() == {"CPUExecutionProvider": 3}


def test_a_model_without_nodes_runs() -> None:
    session = Session(model("g (float[2] x) => (float[2] x) { }"))
    assert session.placement() == {}
    np.testing.assert_array_equal(tensors(session, {"x": np.ones(2, np.float32)})[0], [1, 1])


@pytest.mark.parametrize("provider", sorted(providers.PROVIDERS))
def test_a_provider_runs_the_model_or_is_an_error(provider: str) -> None:
    if provider in providers.available():
        full = providers.PROVIDERS[provider]
        assert Session(AFFINE, Target(provider)).placement()[full] > 0
    else:
        with pytest.raises(SessionError, match=f"(?s){provider}.*"):
            Session(AFFINE, Target(provider))


class ListsCuda:
    """ONNX Runtime as the GPU wheel without CUDA: lists the provider, then creates the session on the CPU."""

    def __init__(self, real: OnnxRuntime) -> None:
        self._real = real

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def preload_dlls(self) -> None:
        print("Failed to load libcublas.so")


@pytest.mark.skipif("cuda" in providers.available(), reason="CUDA runs here, so nothing falls back")
def test_a_silent_fallback_to_the_cpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = cast("OnnxRuntime", ListsCuda(providers.require()))
    monkeypatch.setattr(providers, "require", lambda: fake)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the CPU wheel's, which the GPU wheel does not give
        with pytest.raises(
            SessionError, match=r"owns no node of .*2 on CPUExecutionProvider.*Failed to load libcublas"
        ):
            Session(AFFINE, Target("cuda"))


def test_bound_runs_give_the_same_outputs() -> None:
    session = Session(AFFINE, Target(threads=1))
    binding = session.bind({"x": X})
    for _ in range(3):
        binding.run()
    np.testing.assert_array_equal(binding.outputs()[0], tensors(session, {"x": X})[0])


def test_bound_outputs_may_change_shape_from_run_to_run() -> None:
    session = Session(model("g (float[64] x) => (int64[1, k] y) { b = Bernoulli(x)  y = NonZero(b) }"))
    binding = session.bind({"x": np.full(64, 0.5, np.float32)})
    shapes: set[tuple[int, ...]] = set()
    for _ in range(20):
        binding.run()
        shapes.add(binding.outputs()[0].shape)
    assert len(shapes) > 1  # all alike once in 10^20


def test_bound_inputs_must_be_tensors_of_numbers() -> None:
    session = Session(model("g (string[1] x) => (string[1] y) { y = Identity(x) }"))
    with pytest.raises(SessionError, match=r"input 'x' .*cannot bind a tensor of strings"):
        session.bind({"x": np.array(["a"], dtype=object)})
    session = Session(model("g (seq(float[]) x) => (seq(float[]) y) { y = Identity(x) }"))
    with pytest.raises(SessionError, match=r"input 'x' .*can bind only tensors"):
        session.bind({"x": [X]})
    with pytest.raises(SessionError, match="needs the input 'x'"):
        Session(AFFINE).bind({})


def test_without_onnx_runtime_the_first_use_names_the_fix() -> None:
    script = """
import sys
sys.modules["onnxruntime"] = None
from planish.runtime.errors import SessionError
from planish.runtime.providers import Target, available
from planish.runtime.session import Session
for use in (lambda: Session(b"", Target()), available):
    try:
        use()
    except SessionError as error:
        assert "planish[cpu]" in str(error) and "planish[gpu]" in str(error), error
    else:
        raise AssertionError("no error")
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_infinities_survive() -> None:
    (found,) = tensors(Session(AFFINE), {"x": np.array([[math.inf, math.nan]], np.float32)})
    assert math.isinf(found[0, 0])
    assert math.isnan(found[0, 1])
