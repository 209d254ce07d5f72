"""scikit-learn: estimators and pipelines, by skl2onnx; files of joblib and pickle only where they are trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import skl2onnx
import sklearn
from numpy.typing import NDArray
from skl2onnx.common import data_types
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from planish.ir import Graph
from planish.models.lower.errors import ExportError, LowerError
from planish.models.lower.framework import data_frame, quiet, reason, unpickled
from planish.models.lower.inputs import BATCH, Array, Dims, Inputs, Spec
from planish.models.lower.interface import name_dims
from planish.models.lower.outputs import names
from planish.runtime.errors import SessionError
from planish.runtime.session import Feed, Result

EXPORTER = "skl2onnx"
_ML_OPSET = 3
"""The newest of ai.onnx.ml for which skl2onnx has all of its converters."""
INPUT = "X"

_TYPES: Mapping[str, Callable[[list[int | None]], object]] = {
    "float32": data_types.FloatTensorType,
    "float64": data_types.DoubleTensorType,
    "int64": data_types.Int64TensorType,
    "int32": data_types.Int32TensorType,
    "bool": data_types.BooleanTensorType,
    "object": data_types.StringTensorType,
}
# skl2onnx's name of an output -> the methods that it may stand for: the first that the estimator has.
_METHODS: Mapping[str, tuple[str, ...]] = {
    "label": ("predict",),
    "output_label": ("predict",),
    "probabilities": ("predict_proba", "decision_function"),
    "output_probability": ("predict_proba", "decision_function"),
    "scores": ("decision_function", "transform", "score_samples"),
    "variable": ("predict", "transform"),
}

Method = Callable[[object], object]


class _Sparse(Protocol):
    """A matrix of scipy.sparse."""

    def toarray(self) -> object: ...


class _Frame(Protocol):
    """A data frame of pandas."""

    @property
    def columns(self) -> Sequence[str]: ...
    def __getitem__(self, name: str) -> object: ...


class SklearnLowering:
    def __init__(self, model: BaseEstimator, example: Mapping[str, Array], output_names: Sequence[str]) -> None:
        self.framework = f"scikit-learn {sklearn.__version__}"
        self.exporters = (EXPORTER,)
        self.example = example
        self.dynamic: Dims = {name: {0: BATCH} for name in example}
        self.notes: list[str] = []
        self._model = model
        self._wanted = tuple(output_names)
        self._outputs: tuple[str, ...] = ()
        """By skl2onnx's names."""
        self._forms: tuple[Array, ...] = ()
        """What the exported model gives on the example."""

    def run(self, feeds: Mapping[str, Feed]) -> list[Result]:
        if not self._forms:  # nothing is exported yet: whether the model takes the inputs is all there is to know
            for name in ("predict", "transform"):
                if hasattr(self._model, name):
                    self._call(name, feeds)
                    break
            return []
        return [
            _like(np.asarray(self._call(self._method(name), feeds)), form)
            for name, form in zip(self._outputs, self._forms, strict=True)
        ]

    def otherwise(self, feeds: Mapping[str, Feed]) -> list[Result]:
        """In double precision."""
        return self.run({name: _as_double(feed) for name, feed in feeds.items()})

    def settled(self, found: Sequence[Result], given: Sequence[Result]) -> Sequence[Result]:
        """A class that has the greatest score is right where the framework's choice has the greatest of its own scores:
        the votes of a forest are often equal. Whether the scores agree is another question."""
        classes = cast("Array | None", getattr(self._model, "classes_", None))
        methods = [self._method(name) for name in self._outputs]
        if classes is None or len(methods) != 2 or methods[0] != "predict":
            return found
        (label, scores), (theirs, their_scores) = map(np.asarray, found), map(np.asarray, given)
        if label.shape != theirs.shape or not scores.shape == their_scores.shape == (len(label), len(classes)):
            return found
        equal = _is_greatest(label, scores, classes) & _is_greatest(theirs, their_scores, classes)
        return [np.where(equal, theirs, label), scores]

    def output_names(self, graph: Graph) -> Sequence[str]:
        self._outputs, self._forms = graph.output_names, ()
        for name in self._outputs:
            self._method(name)
        return names(self._outputs, self._wanted)

    def see(self, results: Sequence[Result]) -> None:
        self._forms = tuple(np.asarray(result) for result in results)

    def export(self, exporter: str, path: Path, opset: int | None) -> Sequence[str]:
        types = [(name, _type(name, array)) for name, array in self.example.items()]
        newest = skl2onnx.__max_supported_opset__
        version = {"": newest if opset is None else min(opset, newest), "ai.onnx.ml": _ML_OPSET}
        with quiet():
            try:  # probabilities as a tensor, not as a list of maps
                proto = skl2onnx.to_onnx(
                    self._model, initial_types=types, options={"zipmap": False}, target_opset=version
                )
            except NameError:  # the last step has no such option
                proto = skl2onnx.to_onnx(self._model, initial_types=types, target_opset=version)
        inputs = tuple(value.name for value in proto.graph.input)
        name_dims(proto, inputs, self.dynamic)
        path.write_bytes(proto.SerializeToString())
        return inputs

    def _method(self, output: str) -> str:
        for name in _METHODS.get(output, ()):
            if hasattr(self._model, name):
                return name
        raise ExportError(f"planish does not know which method of {type(self._model).__name__} gives {output!r}")

    def _call(self, method: str, feeds: Mapping[str, Feed]) -> object:
        with quiet():
            try:
                found = cast("Method", getattr(self._model, method))(self._features(feeds))
                return cast("_Sparse", found).toarray() if hasattr(found, "toarray") else found
            except Exception as error:  # an estimator may raise anything
                raise SessionError(reason(error)) from error

    def _features(self, feeds: Mapping[str, Feed]) -> object:
        """What the estimator was fitted on: a matrix, or a data frame with one column for each input."""
        if list(self.example) == [INPUT]:
            return feeds[INPUT]
        columns = {name: np.asarray(feeds[name]).reshape(-1) for name in self.example}
        return data_frame(columns)


def open_model(source: object, inputs: Inputs, output_names: Sequence[str]) -> SklearnLowering:
    if not isinstance(source, BaseEstimator) or isinstance(source, type):
        raise LowerError(f"{type(source).__name__} is no estimator of scikit-learn")
    try:
        check_is_fitted(source)
    except Exception as error:  # of a type that is an attribute error and a value error at once
        raise LowerError(f"{type(source).__name__} is not fitted; call its fit first") from error
    if inputs.dynamic:
        raise LowerError("estimators of scikit-learn take any number of rows and no other dynamic dims; name none")
    example = inputs.example
    if hasattr(example, "columns"):
        frame = cast("_Frame", example)
        example = {str(name): _plain(np.asarray(frame[name])).reshape(-1, 1) for name in frame.columns}
    inputs = replace(inputs, example=example)
    return SklearnLowering(source, inputs.arrays(_specs(source, inputs)), output_names)


def open_file(path: Path, inputs: Inputs, output_names: Sequence[str]) -> SklearnLowering:
    with quiet():
        try:
            found = unpickled(path)
        except Exception as error:  # a pickle may raise anything
            raise LowerError(f"{path}: cannot be unpickled: {reason(error)}") from error
    return open_model(found, inputs, output_names)


def _specs(model: BaseEstimator, inputs: Inputs) -> list[Spec]:
    columns = cast("Sequence[str] | None", getattr(model, "feature_names_in_", None))
    example = inputs.example
    named = tuple(cast("Mapping[str, object]", example)) if isinstance(example, Mapping) else ()
    matrix = INPUT in (*inputs.shapes, *named) or isinstance(example, np.ndarray)
    if columns is not None and not matrix:
        return [Spec(str(name), "float32", (None, 1)) for name in columns]
    features = cast("int | None", getattr(model, "n_features_in_", None))
    return [Spec(INPUT, "float32", None if features is None else (None, features))]


def _type(name: str, array: Array) -> object:
    if array.ndim != 2:
        raise LowerError(f"input {name!r} has {array.ndim} axes; estimators of scikit-learn take rows and columns")
    kind = _TYPES.get(array.dtype.name)
    if kind is None:
        raise LowerError(f"input {name!r} is {array.dtype}, which skl2onnx has no type for; it has {', '.join(_TYPES)}")
    return kind([None, array.shape[1]])


def _plain(column: Array) -> Array:
    return column.astype(object) if column.dtype.kind in "OUT" else column


def _as_double(feed: Feed) -> Feed:
    return feed.astype(np.float64) if isinstance(feed, np.ndarray) and feed.dtype.kind == "f" else feed


def _is_greatest(label: Array, scores: Array, classes: Array) -> NDArray[np.bool_]:
    """By row, whether the label is one of the classes and none has a greater score. classes: in ascending order."""
    place = np.searchsorted(classes, label.astype(classes.dtype)).clip(max=len(classes) - 1)
    return (classes[place] == label) & (scores[np.arange(len(label)), place] >= scores.max(axis=1))


def _like(given: Array, form: Array) -> Array:
    """An estimator's answer in the form that skl2onnx gives it.

    Floats where scikit-learn has doubles; a column for a vector and a vector for a column; and for two classes both
    distances from the boundary where the estimator gives that of the second class.
    """
    if given.dtype.kind == "U":
        given = given.astype(object)
    if any(given.dtype.kind in kinds and form.dtype.kind in kinds for kinds in ("f", "iub")):
        given = given.astype(form.dtype)
    if given.ndim == 1 and form.ndim == 2:
        return np.stack((np.negative(given), given), 1) if form.shape[1] == 2 else given.reshape(-1, 1)
    return given.reshape(-1) if given.ndim == 2 and form.ndim == 1 and given.shape[1] == 1 else given
