"""Runs of a model on random inputs, for those who have no samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from planish import ir
from planish.runtime.bindings import Binding, find_bindings
from planish.runtime.errors import SessionError
from planish.runtime.feeds import NORMAL, UNIFORM, Bounds, Feeds, Kind
from planish.runtime.fidelity import References, floats_of
from planish.runtime.isolated import Host
from planish.runtime.providers import Target
from planish.runtime.session import Session

_WIDE = Kind("wide", lambda random, shape: 2.0 * random.standard_normal(shape))
_KINDS = (NORMAL, UNIFORM, _WIDE)
_MOST = 48
_TURNS = 6


@dataclass(frozen=True)
class Inputs:
    """What the caller knows of a model's inputs."""

    bindings: tuple[Binding, ...] = ()
    """Shapes to take; without any, those that the model accepts are searched for."""
    fixed: Mapping[str, float] = field(default_factory=dict[str, float])
    """Values that inputs must hold, such as a sampling rate."""
    ranges: Mapping[str, Bounds] = field(default_factory=dict[str, Bounds])
    """The least and the greatest value of inputs."""


def made_up(model: Path, target: Target, known: Inputs) -> References:
    """What a model makes of normal, uniform and wider normal numbers at each binding, of those that it accepts by
    default; runs whose results are not all finite are left out.

    Raises:
        GraphError: an input that was named is not there.
        SessionError: the model accepts nothing that was tried.
    """
    feeds = Feeds(ir.load(model), known.fixed, known.ranges, 0)
    found = [feeds.complete(binding) for binding in known.bindings] or _accepted(model, feeds, target)
    session = Session(model, target)
    found = [binding for binding in found if not binding.is_empty]
    turns = max(1, min(_TURNS, _MOST // max(len(found) * len(_KINDS), 1)))
    sets = [feeds.make(kind, b, turn=turn).feeds for b in found for kind in _KINDS for turn in range(turns)]
    runs = [(inputs, floats_of(session.run(inputs))) for inputs in sets]
    kept = [run for run in runs if all(np.isfinite(output).all() for output in run[1])]
    if not kept:
        raise SessionError(f"{model} gives nothing finite on random inputs: give samples of your own")
    return References(tuple([inputs for inputs, _ in kept]), tuple([outputs for _, outputs in kept]))


def _accepted(model: Path, feeds: Feeds, target: Target) -> list[Binding]:
    with Host() as host:
        session = host.open(model, target)

        def accepts(binding: Binding) -> bool:
            try:
                results = session.run(feeds.make(NORMAL, binding).feeds)
            except SessionError:
                return False
            return all(not isinstance(result, np.ndarray) or result.size > 0 for result in results)

        found = find_bindings(feeds.symbols, feeds.fixed, accepts)
    if not found:
        raise SessionError(f"{model} accepts none of the inputs that were tried; name shapes that it does, or samples")
    return list(found)
