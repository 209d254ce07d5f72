"""An original and a pruned model run step by step on the same samples, and what the pruned one's products lack."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from planish import ir
from planish.ir import Graph
from planish.ir.ops.channels.atoms import Ids
from planish.passes.errors import CalibrationError
from planish.runtime.patches import Places, Rows
from planish.runtime.providers import Array, Target
from planish.runtime.pruning.distributions import Distributions
from planish.runtime.pruning.fitting import Doubles, Moments
from planish.runtime.pruning.held_out import EVERY
from planish.runtime.pruning.kept_tensors import KeptTensors
from planish.runtime.pruning.steps import Steps, reduce_to
from planish.runtime.samples import Feeds
from planish.runtime.session import Session

_ROWS_A_WEIGHT = 128
_FEW_ROWS, _MANY_ROWS = 1 << 13, 1 << 16
"""Of a layer, over all runs, so many rows for each weight of an output, and within these: more say the same again."""
_MOST_PRODUCTS = 1 << 35
"""Of rows, weights and outputs of a layer that feeds a softmax: each step of its fit takes as many, three times."""
_LEAST_ROWS = 16
"""Of a layer in one run."""


class Layer(NamedTuple):
    """What to look at: names of a product's input in the pruned model and of its result in both."""

    x: str
    wanted: str
    original: str
    kept: Ids
    rows: Rows
    groups: int
    channel: int
    feeds_softmax: bool = False


class Seen(NamedTuple):
    """Of one layer: sums over the samples that it is fitted to, and over those that judge the fit."""

    fitted: Moments
    held_out: Moments
    likely: Distributions
    """Of the samples that it is fitted to, where it feeds a softmax."""
    judging: Distributions


class Turn(NamedTuple):
    """Of a run: where its rows begin among those that are taken in turn, and how many runs there are."""

    number: int
    of: int


class Tensors(NamedTuple):
    """Of one layer in one run: its result in the original and in the pruned model, and its input in this one."""

    wanted: Array
    given: Array
    x: Array


class Stepped:
    """A model that runs in steps; what lies between them is kept for every run."""

    def __init__(self, path: Path, steps: Steps, kept: KeptTensors, target: Target) -> None:
        self._path = path
        self._steps = steps
        self._kept = kept
        self._target = target

    def take(self, run: int, feeds: Feeds) -> None:
        """The inputs of a run, before the first step."""
        for name in self._steps.kept(0):
            if name in feeds:
                self._kept.put(run, name, feeds[name])

    def opened(self, step: int, wanted: Sequence[str], now: Graph | None = None) -> Opened:
        """What makes those tensors of what was kept before the step. now: what the model has become."""
        known = self._steps.kept(step - 1)
        names = list(dict.fromkeys(wanted))
        made = [name for name in names if name not in known]
        session = None
        if made:
            graph = ir.load(self._path if now is None else self._copied(now))
            reduce_to(graph, known, made)
            path = self._path.with_name(f"step-{self._path.name}")
            ir.save(graph, path)
            session = Session(path, self._target)
        return Opened(self._kept, session, [name for name in names if name in known])

    def _copied(self, graph: Graph) -> Path:
        path = self._path.with_name(f"now-{self._path.name}")
        ir.save(graph, path)
        return path

    def new(self, step: int) -> list[str]:
        """What the step makes for later ones."""
        known = self._steps.kept(step - 1)
        return [name for name in self._steps.kept(step) if name not in known]

    def keep(self, run: int, tensors: Mapping[str, Array], names: Sequence[str]) -> None:
        for name in names:
            self._kept.put(run, name, tensors[name])

    def leave(self, step: int) -> None:
        """Forget what no later step reads."""
        later = self._steps.kept(step)
        self._kept.drop(name for name in self._steps.kept(step - 1) if name not in later)


@dataclass(frozen=True)
class Opened:
    kept: KeptTensors
    session: Session | None
    known: Sequence[str]

    def run(self, run: int) -> dict[str, Array]:
        """The tensors by name."""
        found: dict[str, Array] = {name: np.asarray(feed) for name, feed in self.kept.get(run, self.known).items()}
        if self.session is not None:
            names = [argument.name for argument in (*self.session.inputs, *self.session.overridable)]
            results = self.session.run(self.kept.get(run, names))
            for argument, result in zip(self.session.outputs, results, strict=True):
                found[argument.name] = np.asarray(result)
        return found


class SideBySide:
    """held_out: of each run, whether its sample judges the fits."""

    def __init__(self, original: Stepped, pruned: Stepped, held_out: Sequence[bool]) -> None:
        self._original = original
        self._pruned = pruned
        self._held_out = held_out

    def look(self, step: int, layers: Sequence[Layer]) -> list[Seen]:
        """What the layers of that step lack by then; the steps before it are done.

        Raises CalibrationError where the two models give a layer's result different shapes.
        """
        found = [Seen(Moments(), Moments(), Distributions(), Distributions()) for _ in layers]
        new = self._original.new(step)
        original = self._original.opened(step, [*(layer.original for layer in layers), *new])
        pruned = self._pruned.opened(step, [name for layer in layers for name in (layer.x, layer.wanted)])
        for run, held_out in enumerate(self._held_out):
            wanted, given = original.run(run), pruned.run(run)
            self._original.keep(run, wanted, new)
            turn = Turn(run // EVERY, len(self._held_out))
            for layer, seen in zip(layers, found, strict=True):
                moments, likely = (seen.held_out, seen.judging) if held_out else (seen.fitted, seen.likely)
                tensors = Tensors(wanted[layer.original], given[layer.wanted], given[layer.x])
                _add(layer, moments, tensors, turn)
                _add_likely(layer, likely, tensors, turn)
        self._original.leave(step)
        return found

    def go_on(self, step: int, now: Graph) -> None:
        """Run that step of the pruned model, whose layers were fitted. now: the model with what became of them."""
        new = self._pruned.new(step)
        opened = self._pruned.opened(step, new, now)
        for run in range(len(self._held_out)):
            self._pruned.keep(run, opened.run(run), new)
        self._pruned.leave(step)


def _add(layer: Layer, moments: Moments, tensors: Tensors, turn: Turn) -> None:
    """Add a run to the sums.

    Raises CalibrationError where the two models give a layer's result different shapes.
    """
    wanted, given, x = tensors
    expected = list(wanted.shape)
    expected[layer.channel] = len(layer.kept)
    if list(given.shape) != expected:
        raise CalibrationError(
            f"{layer.wanted!r} has the shape {list(given.shape)} in the pruned model, and {expected} of what "
            "the original gives there: they are not one model before and after pruning"
        )
    if not given.size:
        return
    places = layer.rows.places(x, _most_rows(layer, x, turn), turn.number)
    wanted = _outputs(wanted, layer, places, layer.kept)
    with np.errstate(invalid="ignore"):  # infinities, which are left out
        lacking = wanted - _outputs(given, layer, places)
    begin = 0
    for rows in layer.rows.of(x, places):
        end = begin + rows.shape[1]
        moments.add(rows, lacking[:, begin:end], wanted[:, begin:end])
        begin = end


def _add_likely(layer: Layer, likely: Distributions, tensors: Tensors, turn: Turn) -> None:
    """Add a run to the distributions that the original gives."""
    wanted, _, x = tensors
    if not layer.feeds_softmax or not wanted.size:
        return
    products = x.shape[0 if layer.rows.transposed else -1] * wanted.shape[-1]
    places = layer.rows.places(x, max(_MOST_PRODUCTS // (products * turn.of), 1), turn.number)
    logits = _outputs(wanted, layer, places, layer.kept)[0]
    begin = 0
    for (rows,) in layer.rows.of(x, places):
        likely.add(rows, logits[begin : begin + len(rows)])
        begin += len(rows)


def _most_rows(layer: Layer, x: Array, turn: Turn) -> int:
    """Of one matrix, or of each image."""
    window = layer.rows.window
    weights, images = x.shape[0 if layer.rows.transposed else -1], 1
    if window is not None:
        weights, images = x.shape[1] // window.group * math.prod(window.kernel), x.shape[0]
    most = min(max(_ROWS_A_WEIGHT * weights, _FEW_ROWS), _MANY_ROWS)
    return max(most // (turn.of * images), _LEAST_ROWS)


def _outputs(result: Array, layer: Layer, places: Places, kept: Ids | None = None) -> Doubles:
    """[groups, rows, outputs], the rows in the order of those of the input; kept: of the outputs."""
    if layer.rows.window is None:
        matrix = result.reshape(-1, result.shape[-1])[places[0]]
        return (matrix if kept is None else matrix[:, kept])[None].astype(np.float64)
    array = result[(slice(None), slice(None), *places)]
    array = (array if kept is None else array[:, kept]).astype(np.float64)
    n, channels = array.shape[:2]
    parts = array.reshape(n, layer.groups, channels // layer.groups, -1)
    return parts.transpose(1, 0, 3, 2).reshape(layer.groups, -1, channels // layer.groups)
