"""Half of the channels of nets of every shape: sliced is masked, and what can shrink does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from planish.ir import Graph
from tests.passes.prune import topologies
from tests.passes.prune.pruned import pruned
from tests.passes.prune.topologies import TOPOLOGIES

_IMAGES = ({"N": 1}, {"N": 3}, {"N": 0})
_PICTURES = ({"N": 1, "H": 8, "W": 12}, {"N": 2, "H": 16, "W": 4})
_WORDS = ({"N": 1, "T": 1}, {"N": 2, "T": 5})


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_half_of_the_channels_of_the_thirteen(name: str) -> None:
    """The residual of attention is the model's input, and so are what reads and writes it as wide as before."""
    for seed in (0, 1):
        found = pruned(TOPOLOGIES[name](), seed=seed, bindings=_WORDS if name == "attention" else _IMAGES)
        assert found.share <= (0.52 if name == "attention" else 0.32)


MORE: dict[str, Callable[[], Graph]] = {
    "u-net": topologies.u_net,
    "group norm of many operators": topologies.spelled_group_norm,
    "pixel shuffle of many operators": topologies.spelled_pixel_shuffle,
    "gru": topologies.recurrent,
    "gru-1": lambda: topologies.recurrent("GRU", 1),
    "lstm": lambda: topologies.recurrent("LSTM"),
    "rnn": lambda: topologies.recurrent("RNN", 1),
    "attention-23": topologies.fused_attention,
    "attention-23-gqa": lambda: topologies.fused_attention(8, 2),
    "mha": topologies.microsoft_attention,
    "gqa": topologies.grouped_query_attention,
}

_BETWEEN_FIXED = ("attention-23", "attention-23-gqa", "mha", "gqa")
"""Products between the model's input and its output and what shrinks: of these, one side alone can."""


_OF_WORDS = ("gru", "gru-1", "lstm", "rnn", *_BETWEEN_FIXED)


@pytest.mark.parametrize("name", MORE)
def test_half_of_the_channels_of_more(name: str) -> None:
    for seed in (0, 1):
        found = pruned(MORE[name](), seed=seed, bindings=_WORDS if name in _OF_WORDS else _PICTURES)
        assert found.share <= (0.52 if name in _BETWEEN_FIXED else 0.32)
