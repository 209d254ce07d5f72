"""Single precision becomes half precision, where that holds the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from planish.ir import DType, Graph, Node, Value
from planish.ir.graph import Attribute
from planish.ir.tensor import ArrayTensor, Tensor
from planish.passes.kernels import cpu
from planish.passes.manager import Pass
from planish.passes.opset import Opsets
from planish.passes.precision.conversion import Conversion
from planish.passes.precision.half import Half
from planish.passes.precision.kept import Survey
from planish.passes.precision.regions import is_worth_it, regions
from planish.passes.precision.slots import exact_source, half_slots, in_half, taken_in_half
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.selection import is_named
from planish.passes.run import Run

_SHOWN = 3
Free = dict[Node, tuple[int, ...]]


@dataclass(frozen=True)
class ConvertPrecision(Pass):
    """Convert a model from float32 to half precision, as far as half precision holds its numbers.

    Approximate: each result is rounded to 11 bits (float16) or 8 (bfloat16). It needs inputs and intermediate numbers
    that do not overflow. What constants show to overflow, what sums or raises to powers, what jumps where it is
    rounded, and what counts or looks up stays in single precision, with a Cast at each border. So do If, Loop and
    Scan, whose bodies are converted inside. Measured ranges tell more: what they show to be too large or too small
    stays, and sums and powers that they show to fit are converted.

    to: float16 or bfloat16. keep: patterns, joined by |, of nodes that stay as they are: of their names, operators or
    results. store: patterns of nodes that stay, too, but whose weights are stored in half precision, with a Cast
    behind them that runtimes work out when they open the model, and fold-constants would. interface: whether the types
    of the model's inputs and outputs stay, or become half, too. ranges: the file that `planish calibrate` wrote.
    `planish convert-precision` finds the nodes to keep and to store for a given signal to noise.
    """

    name: ClassVar[str] = "convert-precision"
    lossy: ClassVar[bool] = True
    to: Literal["float16", "bfloat16"] = "float16"
    keep: str = ""
    store: str = ""
    interface: Literal["keep", "convert"] = "keep"
    ranges: Calibration | None = None

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        if not run.allows("APPROXIMATE") or run.exhausted:
            return
        survey = self.survey(graph, run)
        free = self.chosen(graph, survey, run)
        self.tell(survey, free, run)
        if run.limit is not None:
            free = dict(list(free.items())[: run.limit - len(run.rewrites)])
        if free or self.store:
            self.convert(graph, free, survey.half, run)

    @property
    def half(self) -> Half:
        return Half(DType[self.to.upper()])

    def survey(self, graph: Graph, run: Run) -> Survey:
        found = Survey(
            Half(DType[self.to.upper()]),
            graph.opset_imports.get("", 0),
            run.kernels,
            self.ranges,
            self.keep,
            self.store,
        )
        found.look(graph)
        return found

    def chosen(self, graph: Graph, survey: Survey, run: Run) -> Free:
        """The nodes to convert, once the graph's opset can say so."""
        free = _worth_it(survey.free)
        needed = max((survey.needed.get(node, 0) for node in free), default=0)
        if not needed:
            return free
        if (run.newest_opset or needed) >= needed and Opsets(run.kernels, run.newest_opset).raise_to(graph, needed):
            return free
        for node in [node for node in survey.free if survey.needed.get(node, 0)]:
            survey.kept[node] = f"{node.op} takes {survey.half.name} from opset {survey.needed[node]} on alone"
            del survey.free[node]
        return _worth_it(survey.free)

    def convert(self, graph: Graph, free: Free, half: Half, run: Run) -> None:
        work = Conversion(graph, half, run)
        if self.interface == "convert":
            work.interface([value for value in graph.inputs if _is_taken(value, free) and value not in graph.defaults])
        for node in tuple(graph.walk()):
            if node in free:
                work.convert(node, free[node])
            elif not run.exhausted and exact_source(node, half) and taken_in_half(node.result, free):
                work.convert(node, (), _retargeted(node, half))
            elif self.store and not run.exhausted and is_named(node, self.store):
                work.store(node, half_slots(node, graph.opset_imports.get("", 0)))
        work.settle(interface=self.interface == "convert")

    def tell(self, survey: Survey, free: Free, run: Run) -> None:
        """What stays, and where the target has no kernels."""
        for reason, nodes in _grouped(survey.kept).items():
            run.note(f"{_named(nodes)} in float32: {reason}")
        small = [node for node in survey.free if node not in free]
        if small:
            run.note(f"{_named(small)} in float32: the Casts around would cost more than they save")
        if run.kernels.name != cpu().name:  # of other providers no more is known than that they have some of these
            return
        lacking = Counter(
            node.op
            for node, slots in free.items()
            if not run.kernels.runs(
                in_half(node, slots, survey.half.dtype), max(survey.opset, survey.needed.get(node, 0))
            )
        )
        if lacking:
            shown = ", ".join(f"{op} ({count})" for op, count in lacking.most_common())
            run.note(
                f"{run.kernels.name} has no {self.to} kernel for {shown}: the runtime casts around them and is slower"
            )


def _worth_it(free: Free) -> Free:
    chosen = {node for region in regions(free) if is_worth_it(region, free) for node in region}
    return {node: slots for node, slots in free.items() if node in chosen}


def _is_taken(value: Value, free: Free) -> bool:
    return any(use.position in free.get(use.user, ()) for use in value.uses)


def _retargeted(node: Node, half: Half) -> Mapping[str, Attribute]:
    if node.op == "Cast":
        return {**node.attributes, "to": int(half.dtype)}
    value = node.attribute("value")
    array = half.rounded(value.array()) if isinstance(value, Tensor) else np.zeros(1, half.dtype.numpy)
    return {**node.attributes, "value": ArrayTensor(array)}


def _grouped(kept: Mapping[Node, str]) -> Mapping[str, list[Node]]:
    found: dict[str, list[Node]] = {}
    for node, reason in kept.items():
        found.setdefault(reason, []).append(node)
    return found


def _named(nodes: Iterable[Node]) -> str:
    labels = [f"{node.label} ({node.op})" for node in nodes]
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return f"{', '.join(labels[:_SHOWN])}{more} stay{'s' if len(labels) == 1 else ''}"
