"""What holds for every task: the same samples each time, and none of them in both splits."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from planish.models.tasks import TASKS, load
from planish.runtime.errors import TaskError
from planish.runtime.task import Sample, Split, Task

SPLITS: tuple[Split, ...] = ("calibration", "test")
every_task = pytest.mark.parametrize("name", TASKS)


def content(sample: Sample[object]) -> str:
    digest = hashlib.sha256()
    for name, feed in sorted(sample.feeds.items()):
        array = np.asarray(feed)
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


@every_task
def test_a_task_goes_by_its_name(name: str) -> None:
    task = load(name)
    assert task.name == name
    assert task.metrics
    assert len({metric.name for metric in task.metrics}) == len(task.metrics)


@every_task
@pytest.mark.parametrize("split", SPLITS)
def test_samples_are_the_same_each_time(name: str, split: Split) -> None:
    one, other = load(name).samples(split), load(name).samples(split)
    assert len(one) == len(other) > 0
    for index in range(0, len(one), 1 + len(one) // 20):
        assert content(one[index]) == content(other[index])
        assert repr(one[index].label) == repr(other[index].label)
        assert one[index].group == other[index].group


@every_task
def test_no_sample_and_no_group_is_in_both_splits(name: str) -> None:
    task: Task[object, object] = load(name)
    contents, groups = ({split: set[object]() for split in SPLITS} for _ in range(2))
    for split in SPLITS:
        for sample in task.samples(split):
            contents[split].add(content(sample))
            groups[split].add(sample.group)
    assert not contents["calibration"] & contents["test"]
    assert not (groups["calibration"] & groups["test"]) - {None}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-such-task", "choose one of digits"),
        ("planish.no_such_module:Task", "No module named"),
        ("planish.runtime.task:NoSuchTask", "NoSuchTask"),
        ("planish.runtime.task:Metric", "derives from planish.runtime.Task"),
    ],
)
def test_what_is_no_task_is_refused(name: str, message: str) -> None:
    with pytest.raises(TaskError, match=message) as refused:
        load(name)
    assert name in str(refused.value)
