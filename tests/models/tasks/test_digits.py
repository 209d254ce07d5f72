"""The digits, and the net that was trained on them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from planish import ir, runtime
from planish.models.builders import digits_cnn
from planish.models.tasks.digits import Digits, training
from planish.models.trained import TRAINED

MODEL = TRAINED["digits-cnn"]


def test_the_data_are_those_of_the_test_set() -> None:
    calibration, test = Digits().samples("calibration"), Digits().samples("test")
    images, labels = training()
    assert (len(images), len(calibration), len(test)) == (1000, 197, 600)
    everything = [*labels, *(sample.label for sample in calibration), *(sample.label for sample in test)]
    # As the source counts them in its test set.
    assert np.bincount(np.asarray(everything)).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    image = test[0].feeds["image"]
    assert isinstance(image, np.ndarray)
    assert (image.dtype, image.shape, image.min(), image.max()) == (np.float32, (1, 1, 8, 8), 0, 1)


def test_no_picture_of_a_split_was_trained_on() -> None:
    trained_on = {image.tobytes() for image in training()[0]}
    for split in ("calibration", "test"):
        assert not trained_on & {np.asarray(sample.feeds["image"]).tobytes() for sample in Digits().samples(split)}


def test_the_trained_net_is_the_one_that_is_built() -> None:
    trained, built = ir.load(MODEL), digits_cnn()
    assert [node.op for node in trained.nodes] == [node.op for node in built.nodes]
    assert [value.type for value in trained.inputs] == [value.type for value in built.inputs]


def test_the_trained_net_reads_at_least_97_percent() -> None:
    found = runtime.evaluate(MODEL, Digits())
    assert found.value >= 0.97
    assert found.low > 0.95
    assert (found.samples, found.groups, found.with_nan) == (600, 600, 0)


def test_shuffled_labels_leave_chance() -> None:
    values = [runtime.evaluate(MODEL, Digits(), shuffle_labels=seed).value for seed in range(3)]
    assert 0.06 < np.mean(values) < 0.14


def test_a_net_that_was_not_trained_guesses() -> None:
    assert runtime.evaluate(digits_cnn(), Digits()).value < 0.3


@pytest.mark.slow
def test_the_script_makes_such_a_net(tmp_path: Path) -> None:
    """With a seventh of the epochs; on one thread, since those of a BLAS wait for each other on small sums."""
    call = "import sys; from pathlib import Path; from planish.models.trained.train_digits import main"
    command = [sys.executable, "-c", f"{call}; main(Path(sys.argv[1]), epochs=17)", str(tmp_path / "again.onnx")]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, check=True, timeout=300)
    again = ir.load(tmp_path / "again.onnx")
    assert [node.op for node in again.nodes] == [node.op for node in ir.load(MODEL).nodes]
    assert runtime.evaluate(again, Digits()).value >= 0.9


def test_what_deploys_it_costs_no_accuracy(tmp_path: Path) -> None:
    result = runtime.optimize(MODEL, tmp_path / "out.onnx")
    assert result.nodes_after < result.nodes_before
    before, after = runtime.evaluate(MODEL, Digits()), runtime.evaluate(tmp_path / "out.onnx", Digits())
    assert before.predictions == after.predictions
