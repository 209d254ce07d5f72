"""What passes do to random models changes no bit, finds its end, and leaves nothing for a second run."""

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planish import passes
from tests.equivalence import Inputs, rewritten
from tests.passes.random_graphs import random_model

INPUTS = Inputs(bindings=[{"N": 0}, {"N": 1}, {"N": 3}])
RANDOM = st.randoms(use_true_random=False)


@given(RANDOM)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_all_passes(random: Random) -> None:
    rewritten(random_model(random, 12), "simplify,fuse", fp="strict", inputs=INPUTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*passes.PASSES, "simplify,fuse"])
@given(random=RANDOM)
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_each_pass_alone(name: str, random: Random) -> None:
    rewritten(random_model(random, 20), name, fp="strict", inputs=INPUTS)
