"""Atoms: one for each index of each axis that can shrink, in sets of those that must vanish together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
"""Atoms, one for each index along an axis, or for each index of several axes."""
Flags = NDArray[np.bool_]
_FIRST_ROOM = 1 << 12


class Atoms:
    """A union-find over atoms, by whole arrays; of each set it is known whether it is frozen, and by which reason.

    Roots have the lowest number of their set, so that what an array of atoms is united with decides nothing.
    """

    def __init__(self) -> None:
        self.count = 0
        self._parents: Ids = np.arange(_FIRST_ROOM)
        self._reasons: Ids = np.zeros(_FIRST_ROOM, np.int64)

    def fresh(self, count: int, reason: int = 0) -> Ids:
        """So many new atoms, each alone; a reason other than 0 freezes them."""
        first, self.count = self.count, self.count + count
        if self.count > len(self._parents):
            room = max(2 * len(self._parents), self.count)
            self._parents = np.concatenate([self._parents, np.arange(len(self._parents), room)])
            self._reasons = np.concatenate([self._reasons, np.zeros(room - len(self._reasons), np.int64)])
        self._reasons[first : self.count] = reason
        return np.arange(first, self.count)

    def roots(self, ids: Ids) -> Ids:
        """The atom that stands for the set of each one."""
        found = self._parents[ids]
        while True:
            above = self._parents[found]
            if (above == found).all():
                self._parents[ids] = found
                return found
            found = above

    def unite(self, a: Ids, b: Ids) -> None:
        """Make one set of the sets of each pair; shapes broadcast."""
        if a.shape != b.shape:
            a, b = np.broadcast_arrays(a, b)
        one, other = a.ravel(), b.ravel()
        while True:
            one, other = self.roots(one), self.roots(other)
            apart = one != other
            if not apart.any():
                return
            one, other = one[apart], other[apart]
            low, high = np.minimum(one, other), np.maximum(one, other)
            frozen = self._reasons[high] != 0
            self._parents[high] = low  # of several, one stays: the others come again
            self._set_reasons(self.roots(low[frozen]), self._reasons[high[frozen]])

    def freeze(self, ids: Ids, reason: int) -> None:
        """Keep the sets of these atoms, for a reason other than 0; one that a set has already stays."""
        roots = self.roots(ids.ravel())
        self._set_reasons(roots, np.full(roots.shape, reason))

    def frozen(self, ids: Ids) -> Flags:
        return self.reasons(ids) != 0

    def reasons(self, ids: Ids) -> Ids:
        """Why the set of each atom is frozen; 0 where it is not."""
        return self._reasons[self.roots(ids)]

    def _set_reasons(self, roots: Ids, reasons: Ids) -> None:
        new = self._reasons[roots] == 0
        self._reasons[roots[new]] = reasons[new]
