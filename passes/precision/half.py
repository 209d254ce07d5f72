"""What a type of half precision can hold, and what constants lose in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from planish.ir import DType
from planish.ir.tensor import Tensor
from planish.ir.types import Array

Loss = Literal["", "overflows", "vanishes"]
_MOSTLY = 0.5


class _Ends(NamedTuple):
    """The largest finite number, the least with all digits, and the least of all."""

    largest: float
    normal: float
    subnormal: float


_ENDS = {
    DType.FLOAT16: _Ends((2 - 2.0**-10) * 2.0**15, 2.0**-14, 2.0**-24),
    DType.BFLOAT16: _Ends((2 - 2.0**-7) * 2.0**127, 2.0**-126, 2.0**-133),
}


@dataclass(frozen=True)
class Half:
    """float16 or bfloat16."""

    dtype: DType

    @property
    def name(self) -> str:
        return self.dtype.name.lower()

    @property
    def largest(self) -> float:
        """The largest finite number: 65504, or 3.39e38."""
        return _ENDS[self.dtype].largest

    @property
    def normal(self) -> float:
        """The least positive number that has all digits: 2^-14, or 2^-126."""
        return _ENDS[self.dtype].normal

    def is_zero(self, number: float) -> bool:
        """Whether a number is rounded to zero."""
        return abs(number) <= _ENDS[self.dtype].subnormal / 2

    def loss(self, tensor: Tensor) -> Loss:
        """Whether a finite element overflows, or more than half of those that are not zero are subnormal or vanish."""
        sizes = np.abs(tensor.array().astype(np.float32, copy=False))
        finite = sizes[np.isfinite(sizes)]
        if finite.size and float(finite.max()) > self.largest:
            return "overflows"
        positive = finite[finite > 0]
        if positive.size and np.count_nonzero(positive < self.normal) > _MOSTLY * positive.size:
            return "vanishes"
        return ""

    def rounded(self, array: Array) -> Array:
        """The elements to the nearest, those beyond the largest finite numbers to these; infinities stay."""
        wide = array.astype(np.float32, copy=False)
        held = np.where(np.isfinite(wide), np.clip(wide, -self.largest, self.largest), wide)
        return held.astype(self.dtype.numpy)
