"""What fusions do to random nets rounds no more than it may; a second run finds nothing left to do.

Here the bound is derived; tests/fuzz has models of all kinds.
"""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.equivalence import Terms, rewritten
from tests.passes.fuse.random_nets import random_net

RANDOM = st.randoms(use_true_random=False)


@pytest.mark.parametrize("pipeline", ["fuse", "simplify,fuse"])
@given(random=RANDOM)
@settings(max_examples=60)
def test_fusions(pipeline: str, random: Random) -> None:
    source, terms = random_net(random)
    rewritten(source, pipeline, tolerance=Terms(terms))


@pytest.mark.slow
@given(random=RANDOM)
@settings(max_examples=1000)
def test_many_fusions(random: Random) -> None:
    source, terms = random_net(random)
    rewritten(source, "fixpoint(fuse-conv-affine,fuse-conv-transpose-bn,fuse-conv-bn)", tolerance=Terms(terms))
