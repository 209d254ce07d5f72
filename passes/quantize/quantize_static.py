"""Weights and activations become integers with a scale and a zero point, in the form that runtimes look for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal
from weakref import WeakKeyDictionary

import numpy as np

from planish.ir import Graph, Node, Value
from planish.passes.errors import PassError
from planish.passes.manager import Pass
from planish.passes.opset import Opsets
from planish.passes.quantize import histogram_ranges
from planish.passes.quantize.calibration import Calibration, TensorStatistics
from planish.passes.quantize.codes import Codes
from planish.passes.quantize.forms import Form
from planish.passes.quantize.gram import Gram, gram_key
from planish.passes.quantize.held_floats import hold_floats
from planish.passes.quantize.placement import PLACEMENTS
from planish.passes.quantize.plan import ISLAND, Plan, Range, plan
from planish.passes.quantize.scheme import Scheme
from planish.passes.quantize.selection import is_named
from planish.passes.replacing import erase_dead, merge_origins
from planish.passes.run import Run

Method = Literal["minmax", "percentile", "mse", "entropy"]
TargetName = Literal["cpu-x86", "cpu-arm", "tensorrt"]
_OPSET_OF_CHANNELS = 13
_OPSET_OF_EMPTY_RESHAPES = 14
_METHODS = {"mse": histogram_ranges.least_squares, "entropy": histogram_ranges.entropy}
_KNOWN: WeakKeyDictionary[TensorStatistics, dict[tuple[Method, float, Scheme], Range]] = WeakKeyDictionary()
"""Ranges that histograms were searched for: a search plans one graph over and over."""


@dataclass(frozen=True)
class QuantizeStatic(Pass):
    """Let convolutions, matrix products and what lies between them work on 8-bit codes.

    Each tensor is quantized once, behind what makes it: QuantizeLinear and DequantizeLinear around nodes that stay as
    they were. Weights have one scale a channel, biases the steps of the accumulator. A Relu, and a Clip from 0, is left
    out where the codes of its result reach no further. Approximate: every tensor is rounded to 256 steps of its range.
    """

    name: ClassVar[str] = "quantize-static"
    lossy: ClassVar[bool] = True

    ranges: Calibration | None = None
    """What was observed of the tensors of this very graph; a tensor without a range stays as it is."""
    method: Method = "minmax"
    percentile: float = 99.99
    """The middle part of what a tensor holds that the method `percentile` keeps, in percent."""
    rounding: Literal["nearest", "gram"] = "nearest"
    """gram: weights are rounded for the least error of the outputs, where `ranges` hold a Gram matrix of the inputs."""
    target: TargetName = "cpu-x86"
    only: str = "*"
    """Patterns of the nodes to quantize, joined by |: of their names, operators, weights or results."""
    exclude: str = ""
    shift: str = ""
    """Patterns of the convolutions whose weights take 1 as their zero point, with which ONNX Runtime works on x86 by
    its matrix product (AMX) instead of its own kernel: faster where a product is long and has many columns."""

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        if not run.allows("APPROXIMATE"):
            return
        for node in graph.nodes:
            for nested in node.graphs:
                self.run(nested, run)
        made = self.plan(graph, run.newest_opset)
        if made.forms and not self._has_opset(graph, run):
            run.note(f"opset {_OPSET_OF_CHANNELS} has a scale for each channel, and the model cannot be written in it")
            return
        run.notes += [f"{node.label}: {why}" for node, why in made.left.items() if why != ISLAND]
        codes = Codes(graph, PLACEMENTS[self.target], made.parameters)
        keys = {node: gram_key(form.inner or node) for node, form in made.forms.items()}  # names of what is there now
        for node, form in made.forms.items():
            if run.exhausted:
                return
            codes.gram = self._gram(keys[node])
            self.quantize(made, codes, node, form, run)
        if PLACEMENTS[self.target].holds_floats:
            hold_floats(graph, run)

    def plan(self, graph: Graph, newest_opset: int | None = None) -> Plan:
        """What the pass would do to a graph, nested graphs left out, if no opset beyond the newest may be used."""
        placement = PLACEMENTS[self.target]
        if newest_opset is not None and newest_opset < _OPSET_OF_EMPTY_RESHAPES:
            placement = replace(placement, biased_products=False)
        return plan(graph, placement, self._range, self._wanted)

    @staticmethod
    def _has_opset(graph: Graph, run: Run) -> bool:
        root = graph.root
        if root.opset_imports.get("", 0) >= _OPSET_OF_CHANNELS:
            return True
        if run.newest_opset is not None and run.newest_opset < _OPSET_OF_CHANNELS:
            return False
        return Opsets(run.kernels, run.newest_opset).raise_to(root, _OPSET_OF_CHANNELS)

    def _range(self, value: Value) -> Range | None:
        seen = None if self.ranges is None else self.ranges.of(value)
        if seen is None or seen.wanted is not None:
            return None if seen is None else seen.wanted
        return self._choose(seen, PLACEMENTS[self.target].activation_scheme)

    def _choose(self, seen: TensorStatistics, scheme: Scheme) -> Range | None:
        if self.method == "minmax" or seen.histogram is None or seen.observed is None:
            return seen.observed
        known = _KNOWN.setdefault(seen, {})
        key = (self.method, self.percentile, scheme)
        if key not in known:
            counts, edges = seen.histogram.counts.astype(np.float64), seen.histogram.edges
            if self.method == "percentile":
                low, high = histogram_ranges.percentile(counts, edges, self.percentile)
            else:
                low, high = _METHODS[self.method](counts, edges, scheme)
            known[key] = max(low, seen.observed[0]), min(high, seen.observed[1])  # edges lie a little beyond
        return known[key]

    def _gram(self, key: str | None) -> Gram | None:
        if self.rounding == "nearest" or self.ranges is None or key is None:
            return None
        return self.ranges.grams.get(key)

    def _wanted(self, nodes: Sequence[Node]) -> str:
        if not any(is_named(node, self.only) for node in nodes):
            return f"only {self.only} is to be quantized"
        excluded = any(is_named(node, self.exclude) for node in nodes)
        return f"{self.exclude} is not to be quantized" if excluded else ""

    def quantize(self, made: Plan, codes: Codes, node: Node, form: Form, run: Run) -> None:
        sources, last = list(form.nodes(node)), node
        codes.site, codes.shifted = node, any(is_named(source, self.shift) for source in sources)
        codes.created, codes.target = [], codes.ranges.get(made.made(node.result))
        written = form.write(codes, node)
        for old, new in zip(node.results, written.results, strict=True):
            result, new.name = made.made(old), old.name
            if result is not old and result.producer is not None:
                sources.append(result.producer)
                last = result.producer
            replacement = codes.requantized(new, result) if result in codes.ranges else new
            codes.replaced(result, replacement)
            codes.graph.replace_all_uses_with(result, replacement)
        obstacle = Opsets(run.kernels, run.newest_opset).obstacle(codes.created, sources)
        if obstacle:
            raise PassError(self.name, node.op, node, ValueError(obstacle))
        origin = merge_origins(sources)
        for new in codes.created:
            new.origin = origin
        run.log.extend(codes.created)
        run.record(f"quantize-{(form.inner or node).op.lower()}", origin, written.results[0].name)
        erase_dead(last)
        _erase_weights(sources)


def _erase_weights(nodes: Sequence[Node]) -> None:
    """Erase the initializers that only nodes which are gone read."""
    for value in dict.fromkeys(operand for node in nodes for operand in node.operands):
        if value is None or value.constant is None or value.is_used or value.graph is None:
            continue
        if value in value.graph.initializers:
            value.graph.erase(value)
