"""What holds for every task: the same samples each time, and none of them in both splits."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from planish.models.tasks import TASKS, load
from planish.runtime.cli.sources import locate
from planish.runtime.errors import TaskError
from planish.runtime.evaluate import evaluate
from planish.runtime.progress import silent
from planish.runtime.task import Sample, Split, Task

PAGE = Path(__file__).parents[3] / "docs" / "tasks.md"
FETCHED = (pytest.mark.network,)
LOWERED = (pytest.mark.network, pytest.mark.lowering)
NEEDS: Mapping[str, Sequence[pytest.MarkDecorator]] = {
    "digits": (),
    "file-types": FETCHED,
    "natural-images": LOWERED,
    "sentence-retrieval": LOWERED,
    "text-lines": FETCHED,
    "voice-activity": FETCHED,
}
"""What a task's model takes: it ships, is fetched from a package registry, or is lowered from PyTorch too."""
SPLITS: tuple[Split, ...] = ("calibration", "test")
CONTENTS = """
import hashlib
from planish.models.tasks import TASKS, load

for samples in (load(name).samples(split) for name in TASKS for split in ("calibration", "test")):
    for place in (0, 1, -1):
        feeds = b"".join(name.encode() + feed.tobytes() for name, feed in samples[place].feeds.items())
        print(hashlib.sha256(feeds + repr(samples[place].label).encode()).hexdigest())
"""
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
    assert task.name == name == pickle.loads(pickle.dumps(task)).name
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


def test_samples_are_the_same_in_every_process() -> None:
    def said(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", CONTENTS]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=300).stdout

    found = said("1")
    assert found == said("2")
    assert len(set(found.split())) == len(TASKS) * len(SPLITS) * 3


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


ROW = re.compile(
    r"^\| (?P<task>[\w-]+) \| (?P<metric>[^|]+) \| (?P<value>[\d.]+)[^|]* \| \[(?P<low>[\d.]+), (?P<high>[\d.]+)\]"
    r" \| (?P<samples>[\d,]+) \| [\d.,]+ \|$",
    re.MULTILINE,
)


def documented() -> dict[str, dict[str, re.Match[str]]]:
    """The rows of the table of docs/tasks.md by task, then by metric."""
    found: dict[str, dict[str, re.Match[str]]] = {}
    for row in ROW.finditer(PAGE.read_text(encoding="utf-8")):
        found.setdefault(row["task"], {})[row["metric"]] = row
    return found


def test_the_page_has_a_row_for_each_metric_of_each_task() -> None:
    assert {task: set(rows) for task, rows in documented().items()} == {
        name: {metric.name for metric in load(name).metrics} for name in TASKS
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=NEEDS[name]) for name in TASKS])
def test_the_page_says_what_is_measured(name: str) -> None:
    task = load(name)
    path = locate(task.model, silent).path
    found = evaluate(path, task)
    chance = [evaluate(path, task, shuffle_labels=seed) for seed in range(3)]
    for number, (metric, estimate) in enumerate(zip(task.metrics, found.estimates, strict=True)):
        row = documented()[name][metric.name]
        assert int(row["samples"].replace(",", "")) == found.samples
        # The page rounds to three places, and kernels of other processors may turn a few samples.
        assert float(row["value"]) == pytest.approx(estimate.value, abs=0.005)
        assert float(row["low"]) == pytest.approx(estimate.low, abs=0.01)
        assert float(row["high"]) == pytest.approx(estimate.high, abs=0.01)
        by_chance = float(np.mean([shuffled.estimates[number].value for shuffled in chance]))
        assert by_chance < estimate.low if metric.higher_is_better else by_chance > estimate.high
