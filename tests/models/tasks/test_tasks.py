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
from planish.runtime.evaluate import Evaluation, evaluate
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


@pytest.mark.slow
def test_samples_are_the_same_in_every_process() -> None:
    def said(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", CONTENTS]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=300).stdout

    found = said("1")
    assert found == said("2")
    assert len(set(found.split())) == len(TASKS) * len(SPLITS) * 3


@pytest.mark.slow
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
    r" \| (?P<chance>-?[\d.]+)[^|]* \| (?P<samples>[\d,]+) \| [\d.,]+ \|$",
    re.MULTILINE,
)
LEAST = {"digits": 0.97, "file-types": 0.90, "text-lines": 0.95, "voice-activity": 0.95}
"""What a task's main metric must reach for the task to be believed."""
GUESSED = {
    "digits": 1 / 10,
    "file-types": 1 / 48,
    "natural-images": 1 / 10,
    "sentence-retrieval": 1 / 238,
    "text-lines": 0.0,
    "voice-activity": 1 / 2,
}
"""What guessing gives by the main metric: classes, photographs or paragraphs that are as likely; a line that needs more
edits than it has letters; a coin."""


def documented() -> dict[str, dict[str, re.Match[str]]]:
    """The rows of the table of docs/tasks.md by task, then by metric."""
    found: dict[str, dict[str, re.Match[str]]] = {}
    for row in ROW.finditer(PAGE.read_text(encoding="utf-8")):
        found.setdefault(row["task"], {})[row["metric"]] = row
    return found


def by_chance(task: Task[object, object], found: Evaluation[object]) -> Sequence[float]:
    """Each metric of the same answers, graded against the labels of other samples: the mean of three shuffles."""
    orders = [np.random.default_rng(seed).permutation(len(found.labels)).tolist() for seed in range(3)]
    grades = [task.grade(found.predictions, [found.labels[place] for place in order]) for order in orders]
    means: list[float] = np.mean([task.score(np.asarray(row, np.float64)) for row in grades], axis=0).tolist()
    return means


def test_the_page_has_a_row_for_each_metric_of_each_task() -> None:
    assert {task: set(rows) for task, rows in documented().items()} == {
        name: {metric.name for metric in load(name).metrics} for name in TASKS
    }
    for name, least in LEAST.items():
        assert float(documented()[name][load(name).metrics[0].name]["value"]) >= least


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=NEEDS[name]) for name in TASKS])
def test_the_page_says_what_is_measured(name: str) -> None:
    """The metrics with their intervals, and that they fall to chance with the labels of other samples."""
    task: Task[object, object] = load(name)
    found = evaluate(locate(task.model, silent).path, task)
    shuffled = by_chance(task, found)
    assert found.value >= LEAST.get(name, 0.0)
    assert shuffled[0] == pytest.approx(GUESSED[name], abs=0.06)
    for metric, estimate, chance in zip(task.metrics, found.estimates, shuffled, strict=True):
        row = documented()[name][metric.name]
        assert int(row["samples"].replace(",", "")) == found.samples
        # The page rounds to three places, and kernels of other processors may turn a few samples.
        assert float(row["value"]) == pytest.approx(estimate.value, abs=0.005)
        assert float(row["low"]) == pytest.approx(estimate.low, abs=0.01)
        assert float(row["high"]) == pytest.approx(estimate.high, abs=0.01)
        left = (chance - float(row["chance"])) / (estimate.value - float(row["chance"]))
        assert abs(left) < 0.03, f"{metric.name}: {chance} is {left:.0%} of what the model knows"
