"""What the fuzzer is worth: each pass, broken in small ways, is found to be wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, reject, seed, settings

from planish.ir import Node, Value
from planish.ir.graph import Attribute
from planish.ir.types import Array
from planish.passes.rewrite import Match
from tests.equivalence import RefusedError
from tests.fuzz.check import WrongError, check
from tests.fuzz.generator import Fuzzed, fuzzed, inviting
from tests.fuzz.mutation import Mutation, OffAttributes, OffConstants, OtherAxis, SwappedOperands
from tests.fuzz.worker import MOST_AIMED, modes

MODELS = 600
PATIENCE = [
    HealthCheck.too_slow,
    HealthCheck.filter_too_much,
    HealthCheck.data_too_large,
    HealthCheck.large_base_example,
]


def find(name: str) -> None:
    """Raises WrongError where a pass breaks one of so many models of its idioms."""

    @seed(1)
    @settings(
        max_examples=MODELS, deadline=None, database=None, phases=(Phase.generate,), suppress_health_check=PATIENCE
    )
    @given(fuzzed(MOST_AIMED, inviting((name,))))
    def search(case: Fuzzed) -> None:
        try:
            check(case.model, (name,), modes(case)[0])
        except RefusedError:
            reject()

    search()


# In what it builds

BUILDS: Mapping[str, Sequence[type[Mutation]]] = {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [pytest.param(name, kind, id=f"{name}-{kind.__name__}") for name, kinds in BUILDS.items() for kind in kinds],
)
def test_a_fault_in_what_a_pass_builds_is_found(
    name: str, kind: type[Mutation], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation = kind()
    add, constant = Match.add, Match.constant

    def other_node(
        m: Match, op: str, operands: Sequence[Value | None], attributes: Mapping[str, Attribute] | None = None
    ) -> Value:
        return add(m, op, *mutation.node(op, operands, attributes or {}))

    def other_constant(m: Match, array: Array, hint: str = "") -> Value:
        return constant(m, mutation.constant(np.asarray(array)), hint)

    monkeypatch.setattr(Match, "add", other_node)
    monkeypatch.setattr(Match, "constant", other_constant)
    with pytest.raises(WrongError):
        find(name)


# In what it asks before


def always(*_: object) -> bool:
    return True


def never(*_: object) -> bool:
    return False


def of_same_rank(node: Node) -> bool:
    first = node.operand(0)
    return first is not None and first.rank == node.result.rank


def behind_any_node(value: Value) -> Value:
    return (value.producer.operand(0) if value.producer is not None and value.producer.operands else None) or value


GUARDS: Sequence[tuple[str, str, Callable[..., object] | frozenset[str]]] = ()
"""A pass, what it asks, and what answers instead."""
