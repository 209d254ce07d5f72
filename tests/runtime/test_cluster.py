"""On a Dask cluster of two worker processes, one of which dies midway, a model gets the bits that it gets alone."""

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
    '''The first process that comes to the middle sample is killed there.'''

    def predict(self, run, feeds):
        if feeds["image"].tobytes() == self.samples("test")[300].feeds["image"].tobytes():
            try:
                file = open(os.environ["PLANISH_TEST_VICTIM"], "x")
            except FileExistsError:
                pass
            else:
                file.write(str(os.getpid()))
                file.close()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(run, feeds)
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
def victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that will hold the process that was killed; the module of the tasks can be imported everywhere."""
    (tmp_path / "tasks_on_a_cluster.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("PLANISH_TEST_VICTIM", str(tmp_path / "victim"))
    yield tmp_path / "victim"
    sys.modules.pop("tasks_on_a_cluster", None)


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_gives_the_same_bits(victim: Path) -> None:
    alone = evaluate(TRAINED["digits-cnn"], load("tasks_on_a_cluster:Bits"))
    api = cast("Distributed", distributed)
    with (
        api.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        api.Client(cluster) as client,
        joblib.parallel_config(backend="dask"),
    ):
        before = set(client.run(os.getpid).values())
        spread = evaluate(TRAINED["digits-cnn"], load("tasks_on_a_cluster:Bits"))
        assert not victim.exists()
        survived = evaluate(TRAINED["digits-cnn"], load("tasks_on_a_cluster:Deadly"))
        client.wait_for_workers(2)
        after = set(client.run(os.getpid).values())
    assert len(before) == 2
    assert os.getpid() not in before
    killed = int(victim.read_text(encoding="utf-8"))
    assert killed in before
    assert killed not in after
    assert len(set(alone.predictions)) == 600
    assert spread.predictions == alone.predictions
    assert survived.predictions == alone.predictions
    assert (spread.estimates, spread.placement) == (alone.estimates, alone.placement)
