"""Keras models and TensorFlow's SavedModels, by tf2onnx.

tf2onnx's own entry for Keras models reads attributes that Keras 3 no longer has, and fails on a Sequential model; its
entry for functions works, and takes the names of inputs and outputs too. So every model becomes a function first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf2onnx

from planish.ir import Graph
from planish.models.lower.errors import ExportError, LowerError
from planish.models.lower.framework import quiet, reason
from planish.models.lower.inputs import BATCH, Array, Dims, Inputs, Spec, check_dims
from planish.models.lower.interface import name_dims
from planish.models.lower.outputs import check_count, leaves, names
from planish.runtime.errors import SessionError
from planish.runtime.session import Feed, Result

EXPORTER = "tf2onnx"
_NEWEST, _OLDEST = 18, 13
"""Opsets that are asked of tf2onnx; others are made of these."""
_SIGNATURE = "serving_default"

Function = Callable[[Mapping[str, tf.Tensor]], object]


@dataclass(frozen=True)
class _Model:
    """A model as a function of inputs by name, and what it says of them."""

    call: Function
    specs: Sequence[Spec]


class TensorFlowLowering:
    def __init__(self, model: _Model, example: Mapping[str, Array], dynamic: Dims, output_names: Sequence[str]) -> None:
        self.framework = f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
        self.exporters = (EXPORTER,)
        self.example = example
        self.dynamic = dynamic
        self.notes: list[str] = []
        self._model = model
        self._wanted = tuple(output_names)
        self._paths: tuple[str, ...] = ()

    def run(self, feeds: Mapping[str, Feed]) -> list[Result]:
        with quiet():
            try:
                given = self._model.call({name: tf.constant(feeds[name]) for name in self.example})
                found = dict(leaves(given, tf.Tensor))
            except Exception as error:  # a model may raise anything
                raise SessionError(reason(error)) from error
        self._paths = tuple(found)
        return [np.asarray(tensor.numpy()) for tensor in found.values()]

    def otherwise(self, feeds: Mapping[str, Feed]) -> list[Result]:
        return self.run(feeds)

    def settled(self, found: Sequence[Result], given: Sequence[Result]) -> Sequence[Result]:
        return found

    def output_names(self, graph: Graph) -> Sequence[str]:
        check_count(len(graph.outputs), len(self._paths))
        return names(self._paths, self._wanted)

    def see(self, results: Sequence[Result]) -> None:
        """Tensors of these frameworks have one form."""

    def export(self, exporter: str, path: Path, opset: int | None) -> Sequence[str]:
        order = [f"o{index:04}" for index in range(len(self._paths))]  # TensorFlow sorts what has names

        def numbered(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
            found = leaves(self._model.call(dict(zip(self.example, tensors, strict=True))), tf.Tensor)
            return {key: tf.identity(tensor) for key, (_, tensor) in zip(order, found, strict=True)}

        signature = [
            tf.TensorSpec(self._shape(name), array.dtype, name=_plain(name)) for name, array in self.example.items()
        ]
        version = _NEWEST if opset is None else min(max(opset, _OLDEST), _NEWEST)
        with quiet():
            proto, _ = tf2onnx.convert.from_function(
                tf.function(numbered, input_signature=signature), input_signature=signature, opset=version
            )
        if [value.name for value in proto.graph.output] != order:
            raise ExportError("it gave the outputs in another order")
        given = {_plain(name): name for name in self.example}
        inputs = tuple(given.get(value.name.partition(":")[0], value.name) for value in proto.graph.input)
        name_dims(proto, inputs, self.dynamic)
        path.write_bytes(proto.SerializeToString())
        return inputs

    def _shape(self, name: str) -> list[int | None]:
        open_axes = self.dynamic.get(name, {})
        return [None if axis in open_axes else extent for axis, extent in enumerate(self.example[name].shape)]


def open_model(source: object, inputs: Inputs, output_names: Sequence[str]) -> TensorFlowLowering:
    if isinstance(source, keras.Model):
        return _opened(_of_keras(source), inputs, output_names)
    raise LowerError(f"{type(source).__name__} is no Keras model")


def open_file(path: Path, inputs: Inputs, output_names: Sequence[str]) -> TensorFlowLowering:
    """A .keras or .h5 file, in Keras's safe mode, which runs no code of the file; or the folder of a SavedModel."""
    with quiet():
        try:
            if path.is_dir():
                return _opened(_of_saved(path), inputs, output_names)
            return open_model(keras.saving.load_model(path, compile=False, safe_mode=True), inputs, output_names)
        except LowerError:
            raise
        except Exception as error:  # both raise whatever their parsers do
            kind = "a SavedModel" if path.is_dir() else "a Keras model"
            raise LowerError(f"{path}: cannot be read as {kind}: {reason(error)}") from error


def _opened(model: _Model, inputs: Inputs, output_names: Sequence[str]) -> TensorFlowLowering:
    example = inputs.arrays(model.specs)
    dynamic: dict[str, dict[int, str]] = {}
    for spec in model.specs:
        dims = {
            a: BATCH if a == 0 else f"{spec.name}_{a}" for a, extent in enumerate(spec.shape or ()) if extent is None
        }
        named = {axis: dim for axis, dim in inputs.dynamic.get(spec.name, {}).items() if axis in dims}
        if len(named) < len(inputs.dynamic.get(spec.name, {})):
            raise LowerError(f"input {spec.name!r} is {spec.shape} in the model: other dims cannot be dynamic")
        if dims:
            dynamic[spec.name] = {**dims, **named}
    check_dims(example, dynamic)
    return TensorFlowLowering(model, example, dynamic, output_names)


def _of_keras(model: keras.Model) -> _Model:
    if not model.built or not model.inputs:
        raise LowerError(f"{model.name} has no inputs yet; call it once, or build it with keras.Input")
    names = [tensor.name for tensor in model.inputs]
    specs = [Spec(tensor.name, _word(tensor.dtype), tuple(tensor.shape)) for tensor in model.inputs]

    def call(feeds: Mapping[str, tf.Tensor]) -> object:
        tensors = [feeds[name] for name in names]
        return model(tensors if len(tensors) > 1 else tensors[0], training=False)

    return _Model(call, specs)


def _of_saved(path: Path) -> _Model:
    loaded = tf.saved_model.load(str(path))
    if _SIGNATURE not in loaded.signatures:
        there = ", ".join(loaded.signatures) or "none"
        raise LowerError(f"{path}: the SavedModel has no signature {_SIGNATURE!r}; its signatures are {there}")
    function = loaded.signatures[_SIGNATURE]
    _, named = function.structured_input_signature
    specs = [Spec(name, _word(spec.dtype.name), _extents(name, spec)) for name, spec in named.items()]

    def call(feeds: Mapping[str, tf.Tensor]) -> object:
        _ = loaded  # keeps its variables alive
        return function(**feeds)

    return _Model(call, specs)


def _extents(name: str, spec: tf.TensorSpec) -> tuple[int | None, ...] | None:
    return None if spec.shape.rank is None else tuple(spec.shape.as_list())


def _word(dtype: str) -> str:
    return "str" if dtype == "string" else dtype


def _plain(name: str) -> str:
    """A name that TensorFlow takes for an input."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)
