"""What was measured of a model's units on samples: what passes that prune take as an option.

    prune-channels{importance=obs,scores=scores.json}

    {
    "format": "planish unit scores", "version": 1, "model": "m.onnx", "samples": 512,
    "groups": {
    "conv1": {"obs": [0.1, null, 0.3], "variance": [1.0, 2.0, 0.5]}
    }
    }

A number for each unit, the least for what matters least; null where the criterion has no opinion.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from planish.passes.errors import CalibrationError
from planish.passes.option_file import read_json, write_file
from planish.passes.prune.dependency import Group

Doubles = NDArray[np.float64]
FORMAT, VERSION = "planish unit scores", 1


@dataclass(frozen=True, eq=False)
class UnitScores:
    """groups: by the key of a group (`group_keys`), and by criterion: a number for each unit, infinite for no opinion.

    samples: runs of the model that they were measured on.
    """

    groups: Mapping[str, Mapping[str, Doubles]]
    model: str = ""
    samples: int = 0
    path: str = ""
    """The file that they were read from."""

    def __str__(self) -> str:
        return self.path or "measured"

    def of(self, key: str, criterion: str, size: int) -> Doubles:
        """Infinite where nothing was measured of the group.

        Raises CalibrationError where the model has other units than the one that they were measured of.
        """
        found = self.groups.get(key, {}).get(criterion)
        if found is None:
            return np.full(size, np.inf)
        if len(found) != size:
            where = f"{self.path}: " if self.path else ""
            raise CalibrationError(
                f"{where}group {key!r} has {size} units in this model, and {len(found)} in that of the scores: "
                "measure them again"
            )
        return found


def group_keys(groups: Sequence[Group]) -> list[str]:
    """A name for each group: its own, with #2 and so on where several are called the same."""
    seen: dict[str, int] = {}
    keys: list[str] = []
    for group in groups:
        seen[group.name] = seen.get(group.name, 0) + 1
        keys.append(group.name if seen[group.name] == 1 else f"{group.name}#{seen[group.name]}")
    return keys


def save_unit_scores(scores: UnitScores, path: str | os.PathLike[str]) -> None:
    """Write them, all or nothing; raises CalibrationError where that cannot be."""
    head = {"format": FORMAT, "version": VERSION, "model": scores.model, "samples": scores.samples}
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    groups = ",\n".join(
        f"{json.dumps(key, ensure_ascii=False)}: {json.dumps({name: _plain(each) for name, each in found.items()})}"
        for key, found in scores.groups.items()
    )
    text = "{\n" + ",\n".join((*lines, f'"groups": {{\n{groups}\n}}')) + "\n}\n"
    write_file(Path(path), lambda file: file.write(text.encode()))


def load_unit_scores(path: str | os.PathLike[str]) -> UnitScores:
    """Read them; raises CalibrationError naming the file and what is wrong."""
    content = read_json(path)
    top = _object(content, path, "")
    if top.get("format") != FORMAT or top.get("version") != VERSION:
        raise CalibrationError(f"{path}: holds no unit scores of version {VERSION}: measure them with this planish")
    groups = {
        key: {name: _numbers(numbers, path, f"{key}.{name}") for name, numbers in _object(found, path, key).items()}
        for key, found in _object(top.get("groups"), path, "groups").items()
    }
    model, samples = top.get("model", ""), top.get("samples", 0)
    if not isinstance(model, str) or not isinstance(samples, int):
        raise CalibrationError(f"{path}: 'model' must be text, and 'samples' a whole number")
    return UnitScores(groups, model, samples, str(path))


def _plain(numbers: Doubles) -> list[float | None]:
    return [number if math.isfinite(number) else None for number in numbers.tolist()]


def _object(value: object, path: str | os.PathLike[str], key: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise CalibrationError(f"{path}: {key or 'what it holds'} must be an object")
    return cast("dict[str, object]", value)


def _numbers(value: object, path: str | os.PathLike[str], key: str) -> Doubles:
    found = cast("list[object]", value) if isinstance(value, list) else [""]
    if not all(number is None or _is_finite(number) for number in found):
        raise CalibrationError(f"{path}: {key} must be a list of finite numbers and nulls")
    return np.array(
        [math.inf if number is None else number for number in cast("list[float | None]", found)], np.float64
    )


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
