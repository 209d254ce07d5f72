"""On a Dask cluster of two worker processes, one of which dies midway, a model is evaluated and calibrated to the bits
that it gets alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, cast

import distributed
import joblib
import pytest

from planish.models.tasks import load
from planish.models.trained import TRAINED
from planish.runtime.calibrate import calibrate
from planish.runtime.evaluate import evaluate

MODULE = """
import os
import signal

from planish.models.tasks.digits import Digits


class Bits(Digits):
    '''Predicts all bits of the outputs.'''

    def predict(self, run, feeds):
        return run(feeds).tensor("logits", (1, 10)).tobytes()

    def grade(self, predictions, labels):
        return [len(prediction) for prediction in predictions]


class Deadly(Bits):
    '''The first process that comes to the middle sample of a split is killed there.'''

    def predict(self, run, feeds):
        for split, middle in (("test", 300), ("calibration", 98)):
            if feeds["image"].tobytes() == self.samples(split)[middle].feeds["image"].tobytes():
                self.die_once(os.path.join(os.environ["PLANISH_TEST_VICTIMS"], split))
        return super().predict(run, feeds)

    def die_once(self, path):
        try:
            file = open(path, "x")
        except FileExistsError:
            return
        file.write(str(os.getpid()))
        file.close()
        os.kill(os.getpid(), signal.SIGKILL)
"""


class Distributed(Protocol):
    """What is used of the module, whose own types are not known."""

    @property
    def LocalCluster(self) -> Callable[..., AbstractContextManager[object]]: ...  # noqa: N802
    @property
    def Client(self) -> Callable[..., AbstractContextManager[Workers]]: ...  # noqa: N802


class Workers(Protocol):
    def run(self, function: Callable[[], int]) -> Mapping[str, int]: ...
    def wait_for_workers(self, count: int) -> None: ...


@pytest.fixture
def victims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that will hold, by split, what process was killed; the module of the tasks can be imported."""
    (tmp_path / "tasks_on_a_cluster.py").write_text(MODULE, encoding="utf-8")
    folder = tmp_path / "victims"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("PLANISH_TEST_VICTIMS", str(folder))
    yield folder
    sys.modules.pop("tasks_on_a_cluster", None)


@pytest.fixture
def cluster(victims: Path) -> Iterator[Workers]:
    api = cast("Distributed", distributed)
    with (
        api.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        api.Client(cluster) as client,
        joblib.parallel_config(backend="dask"),
    ):
        assert victims.is_dir()
        yield client


def processes(cluster: Workers) -> set[int]:
    cluster.wait_for_workers(2)
    return set(cluster.run(os.getpid).values())


def check_death(victim: Path, before: set[int], after: set[int]) -> None:
    killed = int(victim.read_text(encoding="utf-8"))
    assert len(before) == 2
    assert os.getpid() not in before
    assert killed in before
    assert killed not in after


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_evaluates_to_the_same_bits(victims: Path, cluster: Workers) -> None:
    with joblib.parallel_config("sequential"):
        alone = evaluate(TRAINED["digits-cnn"], load("tasks_on_a_cluster:Bits"))
    before = processes(cluster)
    spread = evaluate(TRAINED["digits-cnn"], load("tasks_on_a_cluster:Bits"))
    assert list(victims.iterdir()) == []
    survived = evaluate(TRAINED["digits-cnn"], load("tasks_on_a_cluster:Deadly"))
    check_death(victims / "test", before, processes(cluster))
    assert len(set(alone.predictions)) == 600
    for found in (spread, survived):
        assert found.predictions == alone.predictions
        assert (found.estimates, found.placement) == (alone.estimates, alone.placement)


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_calibrates_to_the_same_bits(victims: Path, cluster: Workers) -> None:
    with joblib.parallel_config("sequential"):
        alone = calibrate(TRAINED["digits-cnn"], load("tasks_on_a_cluster:Bits"), grams="*")
    before = processes(cluster)
    survived = calibrate(TRAINED["digits-cnn"], load("tasks_on_a_cluster:Deadly"), grams="*")
    check_death(victims / "calibration", before, processes(cluster))
    assert (alone.samples, len(alone.tensors) > 5, len(alone.grams) > 3) == (197, True, True)
    assert survived == alone
    for key, gram in alone.grams.items():
        assert survived.grams[key].matrix.tobytes() == gram.matrix.tobytes()
