"""What a model's units matter by, measured on samples: what prune-channels takes as its scores."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from planish import ir
from planish.passes.errors import PipelineError
from planish.passes.prune.dependency import Group
from planish.passes.prune.importance import MEASURED, Importance
from planish.passes.prune.importance.activations import dissimilarity, entropy, hessian_diagonal
from planish.passes.prune.importance.consumers import consumers, readings
from planish.passes.prune.importance.removal_order import Consumer, removal_order
from planish.passes.prune.importance.unit_scores import UnitScores, group_keys
from planish.passes.prune.preparation import prepare
from planish.passes.prune.prune_channels import PruneChannels
from planish.passes.prune.prune_heads import PruneHeads
from planish.passes.quantize.gram import Gram
from planish.passes.run import Run
from planish.runtime.fidelity import record
from planish.runtime.files import Model, at_path
from planish.runtime.progress import Progress, silent
from planish.runtime.providers import Target
from planish.runtime.pruning.masks import derivatives
from planish.runtime.pruning.seen_units import Seen, UnitObserver, see
from planish.runtime.reconstruct import Samples
from planish.runtime.samples import Parts, parts_of

Doubles = NDArray[np.float64]
_MOST_RUNS = 1 << 12
"""In which every unit is turned down by itself, on one sample at least."""
_OF_GRAMS: Collection[Importance] = ("obs", "hessian", "similarity")


def importance(
    model: Model,
    samples: Samples,
    criteria: Collection[Importance] = ("obs",),
    *,
    inexact: bool = False,
    whole_heads: bool = False,
    target: Target | None = None,
    limit: int | None = None,
    progress: Progress = silent,
) -> UnitScores:
    """Measure units on samples; no labels are needed, and no gradients.

    Args:
        model: as the pass that prunes is given it: names of groups are those of its nodes.
        inexact: also units that only a pass with this option lets go.
        whole_heads: the units of prune-heads, rather than those of prune-channels.
        limit: so many samples, evenly spread over a task or a folder; the first ones of an iterable.

    Raises:
        CalibrationError: there are no samples, or they do not fit the model.
        PipelineError: there is no such criterion.
        GraphError, SessionError, TaskError: as `calibrate`.
    """
    for name in criteria:
        if name not in MEASURED:
            raise PipelineError(f"importance measures {', '.join(MEASURED)}; there is no {name!r}")
    where = replace(target or Target(), threads=(target or Target()).threads or 1)
    with ExitStack() as stack:
        path = at_path(stack, model, "graph.onnx")
        name = str(model) if not isinstance(model, ir.Graph) else model.name
        parts = parts_of(samples, limit)
        found = measure(path, parts, criteria, where, progress, inexact=inexact, whole_heads=whole_heads)
        return replace(found, model=name)


def measure(
    path: Path,
    samples: Parts[object],
    criteria: Collection[Importance],
    target: Target,
    progress: Progress,
    *,
    inexact: bool = False,
    whole_heads: bool = False,
) -> UnitScores:
    """As `importance`, of a file and samples that were chosen."""
    if "taylor" in criteria:  # which goes through them again
        samples = replace(samples, parts=[list(part) for part in samples.parts])
    graph = ir.load(path)
    prepare(graph, Run())
    groups = (PruneHeads if whole_heads else PruneChannels)(inexact=inexact).find(graph).groups
    seen = see(path, groups, samples, target, progress, grams=not set(criteria).isdisjoint(_OF_GRAMS))
    found = scores_of(groups, seen, [name for name in criteria if name != "taylor"], str(path))
    if "taylor" not in criteria:
        return found
    keyed = zip(group_keys(groups), seen.units, strict=True)
    members = {key: (units.member, units.size) for key, units in keyed if units is not None}
    probes = max(_MOST_RUNS // max(sum(size for _, size in members.values()), 1), 1)
    feeds = record(path, samples, target, probes).feeds
    with tempfile.TemporaryDirectory(prefix="planish-") as folder:
        taylor = derivatives(graph, members, feeds, Path(folder) / "masked.onnx", target)
    scores = {key: {**each, "taylor": taylor[key]} if key in taylor else each for key, each in found.groups.items()}
    return replace(found, groups=scores)


def scores_of(groups: Sequence[Group], seen: Seen, criteria: Collection[Importance], model: str = "") -> UnitScores:
    """Of groups what was seen of them."""
    found: dict[str, Mapping[str, Doubles]] = {}
    for key, group, units in zip(group_keys(groups), groups, seen.units, strict=True):
        facts = _Facts(group, seen.grams, units)
        found[key] = {name: score for name in criteria if (score := _CRITERIA[name](facts)) is not None}
    return UnitScores(found, model, seen.samples)


@dataclass(frozen=True)
class _Facts:
    group: Group
    grams: Mapping[str, Gram]
    units: UnitObserver | None

    @cached_property
    def consumers(self) -> Sequence[Consumer]:
        return list(consumers(self.group, self.grams))


def _obs(facts: _Facts) -> Doubles | None:
    found = removal_order(facts.consumers, facts.group.blocks)
    return None if found is None else found.scores


def _hessian(facts: _Facts) -> Doubles | None:
    return hessian_diagonal(facts.consumers, facts.group.size) if facts.consumers else None


def _similarity(facts: _Facts) -> Doubles | None:
    """By the first product; of its groups each by itself."""
    for reading in readings(facts.group):
        gram = facts.grams.get(reading.key)
        if gram is not None:
            parts = zip(gram.matrix, reading.units, strict=True)
            return np.sum([dissimilarity(matrix, units, facts.group.size) for matrix, units in parts], axis=0)
    return None


_CRITERIA: Mapping[Importance, Callable[[_Facts], Doubles | None]] = {
    "obs": _obs,
    "hessian": _hessian,
    "similarity": _similarity,
    "variance": lambda facts: facts.units.variance if facts.units else None,
    "mean-activation": lambda facts: facts.units.mean_magnitude if facts.units else None,
    "zeros": lambda facts: facts.units.part_of_nonzeros if facts.units else None,
    "entropy": lambda facts: entropy(np.stack(facts.units.means)) if facts.units and facts.units.means else None,
}
