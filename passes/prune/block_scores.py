"""What residual blocks matter by, measured on samples: what prune-blocks takes as an option.

    prune-blocks{scores=blocks.json}

    {"add_149": 0.31, "add_170": 0.02}

A finite number by the name of a block, the least for what matters least. One may be how far the block turns what goes
through it (block influence, Men et al. 2024, arXiv 2403.03853), or what the outputs lose without it, which
`runtime.block_importance` measures.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from planish.passes.errors import CalibrationError
from planish.passes.option_file import read_numbers, write_file


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


def save_block_scores(scores: BlockScores, path: str | os.PathLike[str]) -> None:
    """Write them, all or nothing; raises CalibrationError where that cannot be."""
    text = json.dumps(dict(scores.numbers), indent=0, ensure_ascii=False) + "\n"
    write_file(Path(path), lambda file: file.write(text.encode()))


def load_block_scores(path: str | os.PathLike[str]) -> BlockScores:
    """Read them; raises CalibrationError naming the file and what is wrong."""
    return BlockScores(read_numbers(path, holds="numbers by the names of blocks", takes="a finite number"), str(path))
