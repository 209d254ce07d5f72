"""Half of the channels of nets of every shape: sliced is masked, and what can shrink does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from planish.ir import Graph
from tests.passes.prune import topologies
from tests.passes.prune.pruned import Pruned, pruned
from tests.passes.prune.topologies import TOPOLOGIES

_IMAGES = ({"N": 1}, {"N": 3}, {"N": 0})
_PICTURES = ({"N": 1, "H": 8, "W": 12}, {"N": 2, "H": 16, "W": 4})
_WORDS = ({"N": 1, "T": 1}, {"N": 2, "T": 5})


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_half_of_the_channels_of_the_thirteen(name: str) -> None:
    found = [
        pruned(TOPOLOGIES[name](), seed=seed, bindings=_WORDS if name == "attention" else _IMAGES) for seed in (0, 1)
    ]
    print(name, found[0].share, found[0].groups)
    assert found[0].share < 0.6


MORE: dict[str, Callable[[], Graph]] = {
    "u-net": topologies.u_net,
    "gru": topologies.recurrent,
    "gru-1": lambda: topologies.recurrent("GRU", 1),
    "lstm": lambda: topologies.recurrent("LSTM"),
    "rnn": lambda: topologies.recurrent("RNN", 1),
    "attention-23": topologies.fused_attention,
    "attention-23-gqa": lambda: topologies.fused_attention(8, 2),
    "mha": topologies.microsoft_attention,
    "gqa": topologies.grouped_query_attention,
}


@pytest.mark.parametrize("name", MORE)
def test_half_of_the_channels_of_more(name: str) -> None:
    for seed in (0, 1):
        found: Pruned = pruned(MORE[name](), seed=seed, bindings=_PICTURES if name == "u-net" else _WORDS)
    print(name, found.share, found.groups)
    assert found.share < 0.7
