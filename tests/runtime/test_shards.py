"""Shards of work: the files that they are about, their order, and workers that die."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import joblib
import pytest
from onnx import parser

from planish.runtime.errors import SessionError
from planish.runtime.progress import silent
from planish.runtime.providers import Target
from planish.runtime.shards import ModelFile, session, spread, stream


def save(path: Path, op: str) -> Path:
    text = f'<ir_version: 8, opset_import: ["" : 17]> net (float[2] x) => (float[1] y) {{ y = {op} (x) }}'
    path.write_bytes(parser.parse_model(text).SerializeToString())
    return path


def test_a_file_that_changes_during_the_work_is_refused(tmp_path: Path) -> None:
    model = save(tmp_path / "sum.onnx", "ReduceSum")
    file = ModelFile.of(model, ())
    save(model, "ReduceMax")
    with pytest.raises(SessionError, match="has changed since the work on it began"):
        session(file, Target(threads=1))
    model.unlink()
    with pytest.raises(SessionError, match=r"a worker cannot read .*sum\.onnx: No such file"):
        session(file, Target(threads=1))


def test_shards_come_back_in_order_and_progress_is_told() -> None:
    told: list[float] = []

    def note(what: str, part: float) -> None:
        assert what == "counting"
        told.append(part)

    shards = spread(list[int], range(1000), jobs=None, progress=note, what="counting")
    assert [index for shard in shards for index in shard] == list(range(1000))
    assert 32 < len(shards) <= 64
    assert len(told) == len(shards)
    assert told == sorted(told)
    assert told[0] == 0.0
    assert spread(list[int], range(3), jobs=None, progress=note, what="counting") == [[0], [1], [2]]


@pytest.mark.parametrize("backend", ["threading", "multiprocessing"])
def test_backends_that_stream_and_those_that_do_not_give_the_same(backend: str) -> None:
    with joblib.parallel_config(backend, n_jobs=2):
        shards = spread(list[int], range(1000), jobs=None, progress=silent, what="counting")
    assert shards == spread(list[int], range(1000), jobs=1, progress=silent, what="counting")


def test_parts_are_taken_as_results_are_wanted() -> None:
    taken: list[int] = []

    def parts() -> Iterator[int]:
        for number in range(10**9):
            taken.append(number)
            yield number

    results = stream(str, parts(), 0, jobs=1, progress=silent, what="counting")
    assert [next(results) for _ in range(3)] == ["0", "1", "2"]
    assert len(taken) < 100
    cast("Generator[str]", results).close()


def test_a_process_that_dies_is_said() -> None:
    lock = threading.Lock()

    def die(indices: Sequence[int]) -> None:
        os._exit(len(indices))

    def hold(indices: Sequence[int]) -> bool:
        return lock.locked() or bool(indices)

    for work in (die, partial(hold)):
        with pytest.raises(SessionError, match="counting: a process died at the work, or could not take it: "):
            spread(work, range(4), jobs=2, progress=silent, what="counting")
