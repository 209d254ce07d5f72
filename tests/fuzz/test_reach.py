"""The generator reaches every rule: what never fires is never tested."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import Phase, given, seed, settings

from planish import ir, passes
from planish.passes.manager import RulePass
from tests.fuzz.check import OPTIONS
from tests.fuzz.generator import AIMS, Fuzzed, fuzzed, inviting
from tests.fuzz.worker import MOST_AIMED, PATIENCE

RULES: Mapping[str, frozenset[str]] = {
    name: frozenset(rule.name for rule in kind().rules())
    for name, kind in passes.PASSES.items()
    if issubclass(kind, RulePass) and not kind.lossy
}
UNREACHED: Mapping[str, str] = {
    "fuse-multi-head-attention/multi-head-attention": "needs a target that allows com.microsoft, which none does here",
}
"""Rules, as pass/rule, that no model here makes fire, and why."""
BATCH, MOST_BATCHES = 60, 40


def test_every_pass_is_invited_by_a_move() -> None:
    invited = {name for aims in AIMS.values() for name in aims}
    assert invited <= set(passes.PASSES)
    assert set(RULES) - invited == set()


def test_what_is_not_reached_is_there() -> None:
    assert set(UNREACHED) <= {f"{name}/{rule}" for name, rules in RULES.items() for rule in rules}


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_every_rule_fires(name: str) -> None:
    """On models of the pass's own idioms, as few as it takes."""
    missing = {rule for rule in RULES[name] if f"{name}/{rule}" not in UNREACHED}
    for batch in range(MOST_BATCHES):
        missing -= fired(name, batch)
        if not missing:
            return
    pytest.fail(f"{sorted(missing)} never fired on {BATCH * MOST_BATCHES} models: give {name} an idiom that invites it")


def fired(name: str, batch: int) -> set[str]:
    """The rules of a pass that fire on so many models."""
    found: set[str] = set()
    pipelines = [name, *(text for text in OPTIONS if text.startswith(f"{name}{{"))]

    @seed(batch)
    @settings(
        max_examples=BATCH,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=PATIENCE,
    )
    @given(fuzzed(MOST_AIMED, inviting((name,))))
    def attempt(case: Fuzzed) -> None:
        for pipeline in pipelines:
            records = passes.run(ir.load(case.model), pipeline, fp="fast")
            found.update(rewrite.rule for record in records for rewrite in record.rewrites)

    attempt()
    return found
