"""scikit-learn, for real: pipelines of every kind, data frames, pickles; what skl2onnx gets wrong; wrong input."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Self, cast

import numpy as np
import pytest
import skl2onnx
from numpy.typing import NDArray
from onnx import ModelProto
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingRegressor, IsolationForest, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from planish import ir
from planish.models.lower import LowerError, LowerResult, lower
from planish.models.lower.framework import data_frame
from planish.models.tasks.digits import Digits, training
from planish.runtime.session import Session

pytestmark = pytest.mark.lowering

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((90, 4)).astype(np.float32)
Y = np.arange(90) % 3
X[:, 0] += 2 * Y


def agrees(result: LowerResult) -> None:
    assert result.agreement.reason == ""
    assert all(output.verdict == "equal" and output.allowed < 1e-3 for output in result.agreement.outputs)
    assert sum(run.verdict == "equal" for run in result.agreement.runs) > 2
    ir.verify(result.graph)


@pytest.mark.parametrize(
    ("model", "outputs"),
    [
        (make_pipeline(StandardScaler(), LogisticRegression()), ("label", "probabilities")),
        (RandomForestClassifier(10, random_state=0), ("label", "probabilities")),
        (GradientBoostingRegressor(random_state=0), ("variable",)),
        (LinearRegression(), ("variable",)),
        (SVC(), ("label", "probabilities")),
        (make_pipeline(StandardScaler(), PCA(2)), ("variable",)),
        (KMeans(3, n_init=1, random_state=0), ("label", "scores")),
        (IsolationForest(n_estimators=10, random_state=0), ("label", "scores")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseEstimator) else "",
)
def test_estimators(model: BaseEstimator, outputs: tuple[str, ...], tmp_path: Path) -> None:
    result = lower(model.fit(X, Y), tmp_path / "model.onnx", example=X[:20])
    agrees(result)
    graph = ir.load(tmp_path / "model.onnx")
    assert [str(value.type) for value in graph.inputs] == ["float[batch, 4]"]
    assert graph.output_names == outputs
    assert {run.binding.shapes["X"] for run in result.agreement.runs} == {(20, 4), (21, 4)}


def test_a_pipeline_that_was_fitted_on_digits_reads_them_as_well_when_lowered(tmp_path: Path) -> None:
    images, labels = training()
    model = make_pipeline(StandardScaler(), PCA(20), RandomForestClassifier(30, random_state=0))
    rows = images.reshape(len(images), -1)
    agrees(lower(model.fit(rows, labels), tmp_path / "model.onnx", example=rows[:50]))
    samples = Digits().samples("test")
    pictures = np.concatenate([np.asarray(sample.feeds["image"]).reshape(1, -1) for sample in samples])
    found, chances = (np.asarray(result) for result in Session(tmp_path / "model.onnx").run({"X": pictures}))
    assert chances.shape == (600, 10)
    assert np.mean([label == sample.label for label, sample in zip(found, samples, strict=True)]) > 0.85


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(30, random_state=0),
        make_pipeline(StandardScaler(), LogisticRegression()),
        make_pipeline(StandardScaler(), PCA(20), RandomForestClassifier(30, random_state=0)),
    ],
    ids=["forest", "logistic", "components-forest"],
)
def test_real_estimators_are_not_refused_for_rounding(model: BaseEstimator, seed: int) -> None:
    """Trees of a forest vote alike for two classes, and columns of little spread amplify what rounding leaves."""
    images, labels = training()
    rows = images.reshape(len(images), -1)
    agrees(lower(model.fit(rows, labels), example=rows[:50], seed=seed))


def test_ties_are_told_and_a_label_that_is_not_of_the_greatest_score_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, labels = training()
    rows = images.reshape(len(images), -1)
    forest = RandomForestClassifier(30, random_state=0).fit(rows, labels)
    assert any("scores were equal but for rounding" in note for note in lower(forest, example=rows[:50]).notes)
    export = skl2onnx.to_onnx

    def rotated(*given: object, **options: object) -> ModelProto:
        proto = cast("Callable[..., ModelProto]", export)(*given, **options)
        for node in proto.graph.node:
            for attribute in node.attribute:
                if attribute.name == "classlabels_int64s":
                    attribute.ints[:] = [*attribute.ints[1:], attribute.ints[0]]
        return proto

    monkeypatch.setattr(skl2onnx, "to_onnx", rotated)
    with pytest.raises(LowerError, match="skl2onnx: label differs in"):
        lower(forest, example=rows[:50])


def test_labels_may_be_words_and_inputs_made_up() -> None:
    result = lower(LogisticRegression().fit(X, np.array(["a", "b", "c"])[Y]), output_names=("word", "chances"))
    agrees(result)
    assert result.graph.output_names == ("word", "chances")
    assert result.graph.outputs[0].dtype is ir.DType.STRING


def test_doubles_are_computed_as_doubles_or_refused() -> None:
    """skl2onnx computes a PCA that was fitted on floats in floats, whatever it is asked for."""
    double = X.astype(np.float64)
    agrees(lower(LinearRegression().fit(double, Y), example=double[:9]))
    with pytest.raises(LowerError, match=r"skl2onnx: variable differs in .* by up to .*e-0[6-8] where .*e-1[3-6]"):
        lower(PCA(2).fit(X), example=double[:9])


def test_swapped_scores_of_two_classes_are_found() -> None:
    """skl2onnx gives the distances from the boundary of an SVC of two classes the wrong way round."""
    two = Y < 2
    with pytest.raises(LowerError, match=r"skl2onnx: probabilities differs in .* relative L2 2 where"):
        lower(SVC().fit(X[two], Y[two]), example=X[two][:9])


def test_a_data_frame_has_an_input_for_each_column() -> None:
    columns = {"age": X[:, 0].copy(), "job": np.array(["smith", "clerk", "cook"], object)[Y]}
    frame = data_frame(columns)
    chosen = make_column_transformer((StandardScaler(), ["age"]), (OneHotEncoder(handle_unknown="ignore"), ["job"]))
    model = make_pipeline(chosen, LogisticRegression()).fit(frame, Y)
    result = lower(model, example=frame)
    agrees(result)
    assert [str(value.type) for value in result.graph.inputs] == ["float[batch, 1]", "string[batch, 1]"]
    with pytest.raises(LowerError, match="does not take the example inputs"):
        lower(model)


@pytest.mark.parametrize("name", ["model.pkl", "model.joblib"])
def test_a_pickle_is_loaded_where_it_is_trusted(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(PCA(2).fit(X)))
    with pytest.raises(LowerError, match="--trust-pickle"):
        lower(tmp_path / name)
    agrees(lower(tmp_path / name, trust_pickle=True))
    (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(LowerError, match=f"{name}: cannot be unpickled"):
        lower(tmp_path / name, trust_pickle=True)


class Own(TransformerMixin, BaseEstimator):
    def fit(self, X: object, y: object = None) -> Self:  # noqa: N803  scikit-learn's name
        self.n_features_in_ = cast("NDArray[np.float32]", X).shape[1]
        return self

    def transform(self, X: object) -> object:  # noqa: N803  scikit-learn's name
        return X


def test_an_unsupported_estimator_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LowerError, match=r"skl2onnx: MissingShapeCalculator: Unable to find a shape calculator.*Own"):
        lower(make_pipeline(Own(), LogisticRegression()).fit(X, Y), tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []


def test_wrong_input() -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    with pytest.raises(LowerError, match=r"does not take the example.*float32\[9, 2\].*2 features"):
        lower(model, example=X[:9, :2])
    with pytest.raises(LowerError, match="has 1 axes; estimators of scikit-learn take rows and columns"):
        lower(CountVectorizer().fit(["one two", "two"]), example={"X": np.array(["two"], object)})
    with pytest.raises(LowerError, match="LogisticRegression is not fitted"):
        lower(LogisticRegression())
    with pytest.raises(LowerError, match="the class LogisticRegression is no model"):
        lower(LogisticRegression)
    with pytest.raises(LowerError, match="any number of rows and no other dynamic dims"):
        lower(model, dynamic={"X": {0: "n"}})
