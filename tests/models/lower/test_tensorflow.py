"""Keras and TensorFlow, for real: models, files, SavedModels; wrong input."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from planish import ir
from planish.models.lower import LowerError, LowerResult, lower
from planish.models.lower.framework import quiet
from planish.models.tasks.digits import Digits, training
from planish.runtime.evaluate import evaluate

pytestmark = pytest.mark.lowering


def convnet() -> keras.Model:
    keras.utils.set_random_seed(0)
    parts = (
        *(layers.Input((16, 16, 1), name="image"), layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization()),
        *(layers.MaxPooling2D(), layers.Dropout(0.5), layers.Flatten(), layers.Dense(10, activation="softmax")),
    )
    return keras.Sequential(parts)


def recurrent() -> keras.Model:
    """Two inputs of which one is integer, and outputs whose names are not in the order of the alphabet."""
    keras.utils.set_random_seed(0)
    ids, extra = keras.Input((None,), dtype="int32", name="ids"), keras.Input((4,), name="extra")
    hidden = layers.LSTM(8)(layers.Embedding(100, 16)(ids))
    both = layers.Concatenate()([hidden, extra])
    return keras.Model([ids, extra], {"score": layers.Dense(1)(both), "aux": layers.LayerNormalization()(hidden)})


def agrees(result: LowerResult) -> None:
    assert result.agreement.reason == ""
    assert all(output.verdict == "equal" and output.allowed < 1e-3 for output in result.agreement.outputs)
    assert sum(run.verdict == "equal" for run in result.agreement.runs) > 2
    ir.verify(result.graph)


@pytest.mark.parametrize("opset", [None, 15, 21])
def test_a_sequential_model(opset: int | None, tmp_path: Path) -> None:
    result = lower(convnet(), tmp_path / "net.onnx", opset=opset)
    agrees(result)
    graph = ir.load(tmp_path / "net.onnx")
    assert [str(value.type) for value in graph.inputs] == ["float[batch, 16, 16, 1]"]
    assert graph.output_names == ("output",)
    assert opset in (None, graph.opset_imports[""])
    assert {run.binding.shapes["image"][0] for run in result.agreement.runs} == {2, 3}


def test_a_net_that_keras_trained_reads_digits_as_well_when_lowered(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    parts = (
        *(layers.Input((1, 8, 8), name="image"), layers.Permute((2, 3, 1)), layers.Conv2D(16, 3, activation="relu")),
        *(layers.BatchNormalization(), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(10)),
    )
    net = keras.Sequential(parts)
    with quiet():
        net.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        net.fit(*training(), batch_size=20, epochs=6, verbose=0)
    result = lower(net, tmp_path / "net.onnx", example=training()[0][:9], output_names=["logits"])
    agrees(result)
    assert evaluate(tmp_path / "net.onnx", Digits()).value > 0.85


def test_inputs_and_outputs_keep_names_types_and_order() -> None:
    result = lower(recurrent(), shapes={"ids": (2, 7)}, ranges={"ids": (0, 99)}, dynamic={"ids": {1: "length"}})
    agrees(result)
    types = {value.name: str(value.type) for value in result.graph.inputs}
    assert types == {"ids": "int32[batch, length]", "extra": "float[batch, 4]"}
    assert result.graph.output_names == ("score", "aux")


@pytest.mark.parametrize("name", ["net.keras", "net.h5", "saved"])
def test_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with quiet():
        if path.suffix:
            convnet().save(path)
        else:
            convnet().export(path, verbose=False)
    result = lower(path)
    agrees(result)
    assert [value.name for value in result.graph.inputs] == ["image"]


class Eigenvalues(layers.Layer):
    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.math.real(tf.linalg.eigvals(x))


def test_an_unsupported_layer_is_one_clear_error(tmp_path: Path) -> None:
    given = keras.Input((3, 3), name="x")
    with pytest.raises(LowerError, match=r"tf2onnx: .*Eig"):
        lower(keras.Model(given, Eigenvalues()(given)), tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []


def test_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(LowerError, match=r"does not take the example inputs \(image: float32\[2, 9, 9, 1\]\)"):
        lower(convnet(), shapes={"image": (2, 9, 9, 1)})
    with pytest.raises(LowerError, match="there is no input 'x'; the inputs are image"):
        lower(convnet(), example={"x": np.zeros((2, 16, 16, 1), np.float32)})
    with pytest.raises(LowerError, match="axis 1 of input 'ids' may have any extent"):
        lower(recurrent())
    with pytest.raises(LowerError, match="other dims cannot be dynamic"):
        lower(convnet(), dynamic={"image": {1: "height"}})
    with pytest.raises(LowerError, match="has no inputs yet"):
        lower(keras.Sequential([layers.Dense(3)]))
    (tmp_path / "net.keras").write_bytes(b"nothing")
    with pytest.raises(LowerError, match=r"net\.keras: cannot be read as a Keras model"):
        lower(tmp_path / "net.keras")


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_a_file_with_code_in_it_is_refused(name: str, tmp_path: Path) -> None:
    with quiet():
        keras.Sequential([layers.Input((3,)), layers.Lambda(lambda x: x * 2)]).save(tmp_path / name)
    with pytest.raises(LowerError, match=r"cannot be read as a Keras model.*Lambda"):
        lower(tmp_path / name)
