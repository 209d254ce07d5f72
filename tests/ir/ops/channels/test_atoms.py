"""Sets of atoms: united by arrays, frozen as wholes, with the reason that came first."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from planish.ir.ops.channels.atoms import Atoms


def test_arrays_are_united_pair_by_pair_and_broadcast() -> None:
    atoms = Atoms()
    a, b, c = atoms.fresh(4), atoms.fresh(4), atoms.fresh(8)
    atoms.unite(a, b)
    atoms.unite(b[None], c.reshape(2, 4))
    assert atoms.roots(c).tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert np.array_equal(atoms.roots(b), a)


def test_a_reason_reaches_the_whole_set_whenever_it_comes() -> None:
    atoms = Atoms()
    a, b, c = atoms.fresh(2), atoms.fresh(2, reason=7), atoms.fresh(2)
    atoms.unite(a, c)
    assert not atoms.frozen(a).any()
    atoms.unite(c, b)
    assert atoms.reasons(a).tolist() == [7, 7]
    atoms.freeze(a[:1], 9)
    assert atoms.reasons(c).tolist() == [7, 7]


def test_one_atom_of_many_arrays() -> None:
    """All pairs share their lower end: each hook must come to pass in the end."""
    atoms = Atoms()
    a = atoms.fresh(1)
    others = atoms.fresh(1000)
    atoms.freeze(others[500:501], 3)
    atoms.unite(np.repeat(a, 1000), others[::-1])
    assert (atoms.roots(others) == 0).all()
    assert atoms.reasons(a).tolist() == [3]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60), st.sets(st.integers(0, 30), max_size=3)
)
def test_against_sets(pairs: list[tuple[int, int]], frozen: set[int]) -> None:
    atoms = Atoms()
    atoms.fresh(31)
    sets = [{i} for i in range(31)]
    for place, atom in enumerate(frozen):
        atoms.freeze(np.array([atom]), place + 1)
    for start in range(0, len(pairs), 7):
        a, b = np.array(pairs[start : start + 7]).reshape(-1, 2).T
        atoms.unite(a, b)
    for a, b in pairs:
        joined = sets[a] | sets[b]
        for atom in joined:
            sets[atom] = joined
    everything = np.arange(31)
    assert atoms.roots(everything).tolist() == [min(part) for part in sets]
    assert atoms.frozen(everything).tolist() == [not frozen.isdisjoint(part) for part in sets]
