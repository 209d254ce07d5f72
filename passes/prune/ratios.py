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

from planish.passes.errors import CalibrationError
from planish.passes.option_file import read_numbers


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
    return Ratios(
        read_numbers(
            path, holds="parts or numbers by the names of groups", takes="a part below 1 or a number of units"
        ),
        str(path),
    )
