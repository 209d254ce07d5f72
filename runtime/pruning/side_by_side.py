"""An original and a pruned model run on the same samples, and what the pruned one's products lack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from planish import ir
from planish.ir import Graph, Value
from planish.ir.ops.channels.atoms import Ids
from planish.passes.errors import CalibrationError
from planish.runtime.model_run import Face, ModelRun
from planish.runtime.patches import Rows
from planish.runtime.providers import Array, Target
from planish.runtime.pruning.fitting import Doubles, Moments
from planish.runtime.pruning.held_out import is_held_out
from planish.runtime.samples import Feeds, Parts
from planish.runtime.session import Result, Session
from planish.runtime.task import Outputs


class Layer(NamedTuple):
    """What to look at: names of a product's input in the pruned model and of its result in both."""

    x: str
    wanted: str
    original: str
    kept: Ids
    rows: Rows
    groups: int
    channel: int


class Seen(NamedTuple):
    """Of one layer: sums over the samples that it is fitted to, and over those that judge the fit."""

    fitted: Moments
    held_out: Moments


class Watched:
    """A model that shows some of its tensors beside its outputs; the graph is used up."""

    def __init__(self, graph: Graph, names: Sequence[str], path: Path, target: Target, *, outputs: bool) -> None:
        """outputs: whether the model's own are computed, too."""
        known = {value.name: value for value in graph.inputs}
        known |= {value.name: value for node in graph.nodes for value in node.results}
        self._inputs = [value.name for value in graph.inputs if value.name in names]
        self._shown = {name: name for name in names if name not in self._inputs}
        given: dict[str, Value] = dict(zip(graph.output_names, graph.outputs, strict=True)) if outputs else {}
        behind = {value: name for name, value in given.items()}
        for name in self._shown:
            value = known[name]
            self._shown[name] = behind.setdefault(value, name)
            given[self._shown[name]] = value
        self.count = len(graph.output_names) if outputs else 0
        graph.set_results(list(given.values()), list(given))
        ir.save(graph, path)
        self.session = Session(path, target)
        self._places = {argument.name: place for place, argument in enumerate(self.session.outputs)}

    def run(self, feeds: Feeds) -> tuple[Sequence[Result], dict[str, Array]]:
        """The outputs, and the tensors by name."""
        accepted = {argument.name for argument in (*self.session.inputs, *self.session.overridable)}
        results = self.session.run({name: feed for name, feed in feeds.items() if name in accepted})
        found = {name: results[self._places[shown]] for name, shown in self._shown.items()}
        found |= {name: feeds[name] for name in self._inputs if name in feeds}
        return results[: self.count], {name: np.asarray(array) for name, array in found.items()}


def look(original: Watched, pruned: Watched, layers: Sequence[Layer], samples: Parts[object], face: Face) -> list[Seen]:
    """Run both models on the samples; what a task feeds back from one run to the next is the original's.

    Raises CalibrationError where a sample does not fit, or the two models give a layer's result different shapes.
    """
    found = [Seen(Moments(), Moments()) for _ in layers]
    names = [argument.name for argument in original.session.outputs[: original.count]]
    number = 0
    for part in samples.parts:
        for item in part:
            where, held_out = samples.runner.where(item), is_held_out(number)

            def work(feeds: Feeds, where: str = where, held_out: bool = held_out) -> Outputs:
                face.check(feeds, where)
                outputs, wanted = original.run(feeds)
                _, given = pruned.run(feeds)
                for layer, seen in zip(layers, found, strict=True):
                    _add(layer, seen.held_out if held_out else seen.fitted, wanted, given)
                return Outputs(dict(zip(names, outputs, strict=True)), face.label)

            samples.runner.run(item, ModelRun(face, work))
            number += 1
    return found


def _add(layer: Layer, moments: Moments, originals: Mapping[str, Array], pruned: Mapping[str, Array]) -> None:
    wanted = np.take(originals[layer.original], layer.kept, axis=layer.channel)
    given = pruned[layer.wanted]
    if wanted.shape != given.shape:
        raise CalibrationError(
            f"{layer.wanted!r} has the shape {list(given.shape)} in the pruned model, and {list(wanted.shape)} of what "
            "the original gives there: they are not one model before and after pruning"
        )
    if not wanted.size:
        return
    wanted = _outputs(wanted, layer)
    with np.errstate(invalid="ignore"):  # infinities, which are left out
        lacking = wanted - _outputs(given, layer)
    begin = 0
    for rows in layer.rows.of(pruned[layer.x]):
        end = begin + rows.shape[1]
        if layer.rows.window is not None and begin >= lacking.shape[1]:
            break
        moments.add(rows, lacking[:, begin:end], wanted[:, begin:end])
        begin = end


def _outputs(result: Array, layer: Layer) -> Doubles:
    """[groups, rows, outputs], the rows in the order of those of the input."""
    array = result.astype(np.float64)
    if layer.rows.window is None:
        return array.reshape(1, -1, array.shape[-1])
    n, channels = array.shape[:2]
    parts = array.reshape(n, layer.groups, channels // layer.groups, -1)
    return parts.transpose(1, 0, 3, 2).reshape(layer.groups, -1, channels // layer.groups)
