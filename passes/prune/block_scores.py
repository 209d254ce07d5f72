"""What residual blocks matter by, measured on samples: what prune-blocks takes as an option.

    prune-blocks{scores=blocks.json}

    {"add_149": 0.31, "add_170": 0.02}

A finite number by the name of a block, the least for what matters least. One may be how far the block turns what goes
through it (block influence, Men et al. 2024, arXiv 2403.03853), or what the outputs lose without it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from planish.passes.errors import CalibrationError


@dataclass(frozen=True)
class BlockScores:
    """Raises CalibrationError for a number that is not finite."""

    numbers: tuple[tuple[str, float], ...]
    path: str = ""
    """The file that they were read from."""

    def __post_init__(self) -> None:
        for name, number in self.numbers:
            if not math.isfinite(number):
                raise CalibrationError(f"{self.path or 'scores'}: {name!r} takes a finite number, not {number}")

    @classmethod
    def from_mapping(cls, numbers: Mapping[str, float]) -> BlockScores:
        return cls(tuple(numbers.items()))

    def __str__(self) -> str:
        return self.path or json.dumps(dict(self.numbers))

    def of(self, name: str) -> float:
        """Infinite where nothing was measured of the block."""
        return dict(self.numbers).get(name, math.inf)


def load_block_scores(path: str | os.PathLike[str]) -> BlockScores:
    """Read them; raises CalibrationError naming the file and what is wrong."""
    try:
        content: object = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise CalibrationError(f"{path}: is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CalibrationError(f"{path}: must be an object of numbers by the names of blocks")
    found: list[tuple[str, float]] = []
    for name, number in cast("dict[str, object]", content).items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise CalibrationError(f"{path}: {name!r} takes a finite number, not {number!r}")
        found.append((name, float(number)))
    return BlockScores(tuple(found), str(path))
