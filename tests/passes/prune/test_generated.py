"""Random models without half of their channels give what they give with zeros in them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planish import ir
from planish.passes.prune.masking import mask_channels
from planish.passes.prune.slicing import slice_channels
from planish.passes.run import Run
from planish.runtime.errors import SessionError
from planish.runtime.isolated import Host, IsolatedSession
from tests.equivalence import PLAIN, Inputs, feeds_for
from tests.fuzz.generator import Fuzzed, fuzzed
from tests.fuzz.layers import LAYERS
from tests.passes.prune.pruned import alike, analysed, at_random, pruned
from tests.passes.prune.random_attentions import attention_layers
from tests.passes.prune.random_nets import SCALE, RandomNet

_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much, HealthCheck.large_base_example]
_RANDOM = ("Random", "Bernoulli", "Multinomial", "Dropout")


@given(fuzzed())
@settings(max_examples=10, suppress_health_check=_QUIET, derandomize=True)
def test_any_model(found: Fuzzed) -> None:
    sliced_as_masked(found)


@given(fuzzed(20, tuple(LAYERS)))
@settings(max_examples=10, suppress_health_check=_QUIET, derandomize=True)
def test_models_of_layers(found: Fuzzed) -> None:
    sliced_as_masked(found)


@pytest.mark.slow
@given(fuzzed(20))
@settings(max_examples=150, suppress_health_check=_QUIET)
def test_any_model_at_length(found: Fuzzed) -> None:
    sliced_as_masked(found)


@pytest.mark.slow
@given(fuzzed(20, tuple(LAYERS)))
@settings(max_examples=150, suppress_health_check=_QUIET)
def test_models_of_layers_at_length(found: Fuzzed) -> None:
    sliced_as_masked(found)


_CHOICES = st.lists(st.tuples(*[st.integers(0, 1000)] * 3), min_size=1, max_size=12)


@given(_CHOICES)
@settings(max_examples=8, suppress_health_check=_QUIET)
def test_random_nets(choices: list[tuple[int, int, int]]) -> None:
    pruned(RandomNet().grow(choices), bindings=({"N": 2},), scale=SCALE)


@pytest.mark.slow
@given(_CHOICES)
@settings(max_examples=150, suppress_health_check=_QUIET)
def test_random_nets_at_length(choices: list[tuple[int, int, int]]) -> None:
    pruned(RandomNet().grow(choices), 0.4, bindings=({"N": 2},), scale=SCALE)


_LAYERS = st.lists(st.tuples(*[st.integers(0, 1000)] * 5), min_size=1, max_size=3)


@given(_LAYERS, st.booleans())
@settings(max_examples=10, suppress_health_check=_QUIET)
def test_attention_layers(layers: list[tuple[int, ...]], heads: bool) -> None:
    pruned(attention_layers(layers), bindings=({"N": 2, "T": 3},), scale=SCALE, heads=heads)


@pytest.mark.slow
@given(_LAYERS, st.booleans(), st.sampled_from((0.3, 0.5, 1.0)))
@settings(max_examples=150, suppress_health_check=_QUIET)
def test_attention_layers_at_length(layers: list[tuple[int, ...]], heads: bool, ratio: float) -> None:
    pruned(attention_layers(layers), ratio, bindings=({"N": 2, "T": 3},), scale=SCALE, heads=heads)


@given(_CHOICES)
@settings(max_examples=5, suppress_health_check=_QUIET)
def test_heads_of_random_nets(choices: list[tuple[int, int, int]]) -> None:
    pruned(RandomNet().grow(choices), bindings=({"N": 2},), scale=SCALE, heads=True)


def sliced_as_masked(found: Fuzzed) -> bool:
    """Whether there was something to compare."""
    before = found.model
    graph, groups = analysed(before)
    removal = at_random(groups.groups, 0.5, seed=0)
    if removal.is_empty:
        return False
    slice_channels(graph, removal, Run())
    other, again = analysed(before)
    mask_channels(other, again.groups, removal.gone)
    sliced, masked = ir.emit(graph), ir.emit(other)
    if not found.smooth or any(node.op_type.startswith(_RANDOM) for node in before.graph.node):
        return False
    with Host() as host, TemporaryDirectory() as folder:
        try:
            sessions = [_opened(host, Path(folder) / str(place), model) for place, model in enumerate((before, masked))]
        except SessionError:
            return False
        last = _opened(host, Path(folder) / "sliced", sliced)
        for feeds in feeds_for(before, _inputs(before), ("ordinary",)):
            try:
                _, aims = (session.run(feeds) for session in sessions)
            except SessionError:
                continue
            alike(masked, aims, last.run(feeds), _tolerance(before))
    return True


def _opened(host: Host, path: Path, model: onnx.ModelProto) -> IsolatedSession:
    """In a process of its own: some of these models ONNX Runtime dies of, as they come."""
    path.write_bytes(model.SerializeToString())
    return host.open(path, PLAIN)


def _inputs(proto: onnx.ModelProto) -> Inputs:
    """Without empty tensors, on which ONNX Runtime dies of many of these models."""
    names = sorted({dim.dim_param for info in proto.graph.input for dim in info.type.tensor_type.shape.dim})
    bindings = [{name: start + place for place, name in enumerate(names)} for start in (1, 2)]
    return Inputs(bindings=bindings, kinds=("ordinary",))


def _tolerance(proto: onnx.ModelProto) -> float:
    halves = any(node.op_type == "Cast" for node in proto.graph.node) or onnx.TensorProto.FLOAT16 in {
        tensor.data_type for tensor in proto.graph.initializer
    }
    return 2e-2 if halves else 1e-4
