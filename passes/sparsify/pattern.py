"""Which weights of a matrix [K, N], K contracted, become zero together."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planish.passes.errors import PipelineError
from planish.passes.quantize.scheme import Doubles

Mask = NDArray[np.bool_]
"""Of a matrix, or of its units: True for what is zero."""
Counts = NDArray[np.int64]

_EXTENTS = {"unstructured": (1, 1), "row": (1, 0), "column": (0, 1)}


@dataclass(frozen=True)
class Pattern:
    """Units of `rows` by `columns` elements, 0 for all of them; the last ones may be smaller. Or, where `of` is set,
    `keep` elements of every `of` along K.
    """

    rows: int = 1
    columns: int = 1
    keep: int = 0
    of: int = 0

    @staticmethod
    def parse(text: str, block: str) -> Pattern:
        """Raises PipelineError for what is no pattern."""
        if text in _EXTENTS:
            return Pattern(*_EXTENTS[text])
        if text == "block":
            found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", block)
            if found is None:
                raise PipelineError(f"sparsify takes block as ROWSxCOLUMNS, 4x4 for example, not {block!r}")
            return Pattern(int(found[1]), int(found[2]))
        found = re.fullmatch(r"(\d+):(\d+)", text)
        if found is None or not 0 < int(found[1]) < int(found[2]):
            kinds = "unstructured, row, column, block, or N:M with 0 < N < M, 2:4 for example"
            raise PipelineError(f"sparsify takes pattern as {kinds}, not {text!r}")
        return Pattern(keep=int(found[1]), of=int(found[2]))

    def scores(self, squares: Doubles) -> Doubles:
        """Of each unit the root mean square, from the squared importance of all elements [K, N], neither extent 0."""
        rows, columns = self._steps((len(squares), squares.shape[1]))
        sums = np.add.reduceat(np.add.reduceat(squares, rows, axis=0), columns, axis=1)
        return np.sqrt(sums / self.sizes((len(squares), squares.shape[1])))

    def sizes(self, shape: tuple[int, int]) -> Counts:
        """Elements of each unit of a matrix."""
        rows, columns = self._steps(shape)
        return np.outer(np.diff(rows, append=shape[0]), np.diff(columns, append=shape[1])).astype(np.int64)

    def zeros(self, matrix: NDArray[np.generic]) -> Mask:
        """Which units hold zeros alone."""
        rows, columns = self._steps((len(matrix), matrix.shape[1]))
        return ~np.logical_or.reduceat(np.logical_or.reduceat(matrix != 0, rows, axis=0), columns, axis=1)

    def spread(self, units: Mask, shape: tuple[int, int]) -> Mask:
        """The elements of units."""
        tall, wide = self.rows or shape[0], self.columns or shape[1]
        return np.repeat(np.repeat(units, tall, axis=0)[: shape[0]], wide, axis=1)[:, : shape[1]]

    def least_of_each(self, squares: Doubles, keep: int) -> Mask:
        """Of every `of` elements along K all but the `keep` largest; of equal ones the first go. K is a multiple."""
        groups = squares.reshape(-1, self.of, squares.shape[1])
        least = np.argsort(groups, axis=1, kind="stable")[:, : self.of - keep]
        found = np.zeros(groups.shape, bool)
        np.put_along_axis(found, least, True, axis=1)
        return found.reshape(squares.shape)

    def is_kept_by(self, matrix: NDArray[np.generic]) -> bool:
        """Whether no more than `keep` of every `of` elements are other than zero."""
        groups = matrix.reshape(-1, self.of, matrix.shape[1])
        return bool((np.count_nonzero(groups, axis=1) <= self.keep).all())

    def _steps(self, shape: tuple[int, int]) -> tuple[Counts, Counts]:
        """Where units begin along both axes."""
        return np.arange(0, shape[0], self.rows or shape[0]), np.arange(0, shape[1], self.columns or shape[1])


def least(scores: Doubles, sizes: Counts, zeros: Mask, budget: int) -> Mask:
    """Of units, flattened, those of the least scores that hold no more than `budget` elements together: what is zeros
    already first, and of equal ones the first.
    """
    order = np.lexsort((scores, ~zeros))
    found = np.zeros(len(order), bool)
    found[order[: np.searchsorted(np.cumsum(sizes[order]), budget, side="right")]] = True
    return found
