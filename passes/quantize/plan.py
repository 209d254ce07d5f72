"""Which nodes of a graph work on codes, and the range of every tensor that they read or make."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from planish.ir import Graph, Node, Value
from planish.passes.quantize.forms import CLIPS, Form, biased_form, bound, form_of, gives_real, starts_at_zero
from planish.passes.quantize.gates import floor_of
from planish.passes.quantize.placement import Placement
from planish.passes.quantize.products import overflow, raw_name
from planish.passes.quantize.scheme import Parameters, parameters

Range = tuple[float, float]
Ranges = Callable[[Value], Range | None]
"""What was observed of a tensor; None where nothing was."""


class Prediction(NamedTuple):
    """What a node is to become when a session is created."""

    node: str
    kernel: str
    """The operator on codes, without its domain."""
    results: tuple[str, ...]
    """Names of what it makes, the first that the runtime kept."""
    moves: bool
    """Whether it only moves codes about, so that the runtime may merge it with another node."""


@dataclass
class Plan:
    """forms: the nodes that work on codes, in the graph's order, with how. clips: the Relus and Clips that vanish,
    since the codes of their result reach no further, by the value that they clip. parameters: of every tensor that is
    quantized. left: why the other nodes with a form stay as they are.
    """

    forms: dict[Node, Form] = field(default_factory=dict[Node, Form])
    clips: dict[Value, Node] = field(default_factory=dict[Value, Node])
    parameters: dict[Value, Parameters] = field(default_factory=dict[Value, Parameters])
    left: dict[Node, str] = field(default_factory=dict[Node, str])

    def made(self, value: Value) -> Value:
        """What a node's result is quantized as: behind the clip that vanishes."""
        return self.clips[value].result if value in self.clips else value

    def on_codes(self, value: Value) -> bool:
        """Whether a value is made by a node that works on codes."""
        producer = value.producer
        if producer is None:
            return False
        return producer in self.forms or (producer.op in CLIPS and producer.operands[0] in self.clips)


ISLAND = "it stands between no two nodes that work on codes"


def plan(graph: Graph, placement: Placement, ranges: Ranges, wanted: Callable[[Sequence[Node]], str]) -> Plan:
    """What works on codes: all anchors that can, and what lies between them.

    wanted: why nodes that go together are to stay as they are, by the caller's choice; nothing where they need not.
    """
    made = Plan()
    ranges = cache(ranges)
    for node in graph.nodes:
        form = form_of(node, placement)
        if form is None or (form.reads(node) == () and not form.anchor):
            continue
        biased = biased_form(node, placement)
        if biased is not None and biased.inner is not None:
            form = biased
            made.forms.pop(biased.inner, None)
            made.left.pop(biased.inner, None)
        why = wanted(form.nodes(node)) or form.obstacle(node) or _unknown(graph, form, node)
        if why:
            made.left[node] = why
        else:
            made.forms[node] = form
    _drop_without_range(made, placement, ranges)
    while True:
        _drop_islands(made, placement)
        made.parameters = _parameters(made, placement, ranges)
        if not _drop_overflowing(made):
            return made


def _drop_overflowing(made: Plan) -> bool:
    """Leave products whose bias no int32 codes hold as they are; whether there were some."""
    found: dict[Node, str] = {}
    for node, form in made.forms.items():
        with_bias = node.op in ("Conv", "Gemm", "BatchNormalization") or form.inner is not None
        reads = form.reads(node) if with_bias else ()
        why = overflow(node, float(made.parameters[reads[0]].scale)) if reads else ""
        if why:
            found[node] = why
    for node, why in found.items():
        made.left[node] = why
        del made.forms[node]
    return bool(found)


def _unknown(graph: Graph, form: Form, node: Node) -> str:
    for value in form.reads(node):
        if value.graph is not graph:
            return "it reads a value from outside of its graph"
        if value.producer is not None and value.producer.op == "DequantizeLinear":
            return "it is quantized already"
    return ""


def _clips(made: Plan, placement: Placement) -> dict[Value, Node]:
    """The Relus and Clips from 0 that alone read what a node on codes makes, where their result is quantized.

    There are none where codes reach below 0 in any case.
    """
    found: dict[Value, Node] = {}
    if placement.symmetric:
        return found
    for node, form in made.forms.items():
        value = node.results[0]
        if form.tied or form.bounds or not value.has_one_use:
            continue
        user = value.users[0]
        if user.graph is not node.graph or user.op not in CLIPS or user.operands[0] is not value:
            continue
        if starts_at_zero(user) and (not gives_real(node, form) or _is_read_as_codes(made, user.result)):
            found[value] = user
    return found


def _tensors(made: Plan, node: Node, form: Form) -> list[Value]:
    """The activations that a node reads or makes as codes."""
    results = [made.made(result) for result in node.results if result.is_used]
    if gives_real(node, form) and not any(_is_read_as_codes(made, result) for result in results):
        results = []
    return [*form.reads(node), *results]


def _is_read_as_codes(made: Plan, value: Value, besides: Node | None = None) -> bool:
    readers = (user for user in _readers(value) if user is not besides and user in made.forms)
    return any(value in made.forms[user].reads(user) for user in readers)


def _readers(value: Value) -> Iterator[Node]:
    """The nodes that read a value, and those that take in the product that does."""
    for user in value.users:
        yield user
        if user.op == "MatMul":
            yield from user.result.users


def _drop_without_range(made: Plan, placement: Placement, ranges: Ranges) -> None:
    made.clips = _clips(made, placement)
    for value, clip in made.clips.items():
        if value.producer in made.forms:  # and has not vanished itself
            made.forms.pop(clip, None)
    made.clips = _clips(made, placement)
    bounded = {node.result for node, form in made.forms.items() if form.bounds}
    for node, form in list(made.forms.items()):
        for value in _tensors(made, node, form):
            if ranges(value) is None and value not in bounded:
                made.left[node] = f"no range of {value} is known: calibrate it"
                del made.forms[node]
                break


def _drop_islands(made: Plan, placement: Placement) -> None:
    """Leave what joins no two nodes on codes as it is: what it would gain, the conversions around it cost."""
    while True:
        made.clips = _clips(made, placement)
        islands = [node for node, form in made.forms.items() if not (form.anchor or _joins(made, node, form))]
        if not islands:
            return
        for node in islands:
            made.left[node] = ISLAND
            del made.forms[node]


def _joins(made: Plan, node: Node, form: Form) -> bool:
    reads = form.reads(node)
    fed = any(made.on_codes(value) for value in reads)
    if form.real:  # it gives real numbers, and reads codes where there are some
        return fed or any(_is_read_as_codes(made, value, besides=node) for value in reads)
    return fed and any(_is_read_as_codes(made, made.made(result)) for result in node.results)


def _parameters(made: Plan, placement: Placement, ranges: Ranges) -> dict[Value, Parameters]:
    """One pair of scale and zero point for all that must share it."""
    groups = _Groups()
    for node, form in made.forms.items():
        tensors = _tensors(made, node, form)
        for value in tensors:
            groups.add(value)
        if form.tied:
            for value in tensors[1:]:
                groups.join(tensors[0], value)
    bounds = {node.result: form.bounds for node, form in made.forms.items() if form.bounds}
    clips = {clip.result: clip for clip in (*made.clips.values(), *made.forms) if clip.op in CLIPS}
    found: dict[Value, Parameters] = {}
    for members in groups.members():
        low, high = _span(members, ranges, bounds, clips)
        found.update(dict.fromkeys(members, parameters(placement.activation_scheme, low, high)))
    return found


def _span(
    members: Sequence[Value], ranges: Ranges, bounds: Mapping[Value, Range], clips: Mapping[Value, Node]
) -> Range:
    """What the codes of tensors that share them must reach: all were moved about from the first that was made.

    So they reach no further than its operator lets them, and must not, where the codes stand for a clip.
    """
    known = next((bounds[value] for value in members if value in bounds), None)
    if known is not None:
        return known
    spans = [span for span in map(ranges, members) if span is not None]
    low, high = min([span[0] for span in spans], default=0.0), max([span[1] for span in spans], default=0.0)
    if len(members) == 1:
        low = max(low, floor_of(members[0]))
    for clip in (clips[value] for value in members if value in clips):
        low, upper = 0.0, bound(clip, 2)
        if upper is not None:
            high = min(high, upper) if high > 0 else upper
    return low, max(low, high)


class _Groups:
    """Union-find over values."""

    def __init__(self) -> None:
        self.parent: dict[Value, Value] = {}

    def add(self, value: Value) -> None:
        self.parent.setdefault(value, value)

    def find(self, value: Value) -> Value:
        while self.parent[value] is not value:
            self.parent[value] = value = self.parent[self.parent[value]]
        return value

    def join(self, a: Value, b: Value) -> None:
        self.parent[self.find(b)] = self.find(a)

    def members(self) -> Sequence[list[Value]]:
        found: dict[Value, list[Value]] = {}
        for value in self.parent:
            found.setdefault(self.find(value), []).append(value)
        return list(found.values())


def predictions(made: Plan) -> Sequence[Prediction]:
    """The kernels that the plan leads to, in the graph's order."""
    found: list[Prediction] = []
    for node, form in made.forms.items():
        last = made.made(next((result for result in node.results if result.is_used), node.result))
        quantized = last in made.parameters
        kernel = form.kernel if quantized else form.real
        names = list(dict.fromkeys((raw_name(node.result.name), last.name, node.result.name)))
        if quantized:
            names = [f"{name}_quantized" for name in names]
        found.append(Prediction((form.inner or node).label, kernel or node.op, tuple(names), form.tied))
    return found
