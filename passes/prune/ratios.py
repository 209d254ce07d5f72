"""How much goes of each group: what prune-channels takes in the place of one ratio for all.

    prune-channels{ratios=ratios.json}

    {"conv1": 0.25, "block.*": 16, "head": 0}

A part below 1, or a number of units from 1 on, by the name of a group or a glob of names, the first that fits; of a
group that none fits nothing goes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast

from planish.passes.errors import CalibrationError


@dataclass(frozen=True)
class Ratios:
    """parts: globs, or names that are looked for as they are before globs; and a part below 1 or a number of units.

    Raises CalibrationError for what is neither.
    """

    parts: tuple[tuple[str, float], ...]
    path: str = ""
    """The file that they were read from."""

    def __post_init__(self) -> None:
        for name, part in self.parts:
            if not math.isfinite(part) or part < 0 or (part > 1 and part != int(part)):
                raise CalibrationError(
                    f"{self.path or 'ratios'}: {name!r} takes a part below 1 or a number of units, not {part}"
                )

    @classmethod
    def from_mapping(cls, parts: Mapping[str, float]) -> Ratios:
        return cls(tuple(parts.items()))

    def __str__(self) -> str:
        return self.path or json.dumps(dict(self.parts))

    def of(self, key: str) -> float:
        exact = dict(self.parts).get(key)
        if exact is not None:
            return exact
        return next((part for pattern, part in self.parts if fnmatchcase(key, pattern)), 0.0)


def load_ratios(path: str | os.PathLike[str]) -> Ratios:
    """Read them; raises CalibrationError naming the file and what is wrong."""
    try:
        content: object = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise CalibrationError(f"{path}: is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CalibrationError(f"{path}: must be an object of parts or numbers by the names of groups")
    found: list[tuple[str, float]] = []
    for name, part in cast("dict[str, object]", content).items():
        if isinstance(part, bool) or not isinstance(part, int | float):
            raise CalibrationError(f"{path}: {name!r} takes a part below 1 or a number of units, not {part!r}")
        found.append((name, float(part)))
    return Ratios(tuple(found), str(path))
