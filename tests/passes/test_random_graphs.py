"""What passes do to random models keeps every bit, or rounds as it may; a second run finds nothing left to do."""

from random import Random

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from planish import passes
from tests.equivalence import Inputs, RefusedError, Terms, rewritten
from tests.passes.fuse.random_nets import random_net
from tests.passes.random_graphs import random_model

INPUTS = Inputs(bindings=[{"N": 0}, {"N": 1}, {"N": 3}], refusals=True)
RANDOM = st.randoms(use_true_random=False)


def equivalent(random: Random, length: int, pipeline: str) -> None:
    try:
        rewritten(random_model(random, length), pipeline, fp="strict", inputs=INPUTS)
    except RefusedError:  # ONNX Runtime loses track of some values that branches capture
        reject()


@given(RANDOM)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_all_passes(random: Random) -> None:
    equivalent(random, 12, "simplify,fuse")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*passes.PASSES, "simplify,fuse"])
@given(random=RANDOM)
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_each_pass_alone(name: str, random: Random) -> None:
    equivalent(random, 20, name)


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
