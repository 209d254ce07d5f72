"""Which nodes of a graph work on codes, and the range of every tensor that they read or make."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from planish.ir import DType, Graph, Node, Value
from planish.passes.quantize.forms import Form, form_of
from planish.passes.quantize.placement import Placement
from planish.passes.quantize.scheme import Parameters, parameters

Range = tuple[float, float]
Ranges = Callable[[Value], Range | None]
"""What was observed of a tensor; None where nothing was."""


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
        return producer in self.forms or (producer.op in _CLIPS and producer.operands[0] in self.clips)


_CLIPS = ("Relu", "Clip")
ISLAND = "it stands between no two nodes that work on codes"


def plan(graph: Graph, placement: Placement, ranges: Ranges, wanted: Callable[[Node], str]) -> Plan:
    """What works on codes: all anchors that can, and what lies between them.

    wanted: why a node is to stay as it is, by the caller's choice; nothing where it may be quantized.
    """
    made = Plan()
    for node in graph.nodes:
        form = form_of(node)
        if form is None or (not form.anchor and node.op != "BatchNormalization" and not form.reads(node)):
            continue
        why = wanted(node) or form.obstacle(node) or _unknown(graph, form, node)
        if why:
            made.left[node] = why
        else:
            made.forms[node] = form
    made.clips = _clips(made)
    _drop_without_range(made, ranges)
    _drop_islands(made)
    made.clips = _clips(made)
    made.parameters = _parameters(made, placement, ranges)
    return made


def _unknown(graph: Graph, form: Form, node: Node) -> str:
    for value in form.reads(node):
        if value.dtype is not DType.FLOAT:
            return "it works on other numbers than float32"
        if value.graph is not graph:
            return "it reads a value from outside of its graph"
        if value.producer is not None and value.producer.op == "DequantizeLinear":
            return "it is quantized already"
    return ""


def _clips(made: Plan) -> dict[Value, Node]:
    """The Relus and Clips from 0 that alone read what a node on codes makes."""
    found: dict[Value, Node] = {}
    for node, form in made.forms.items():
        value = node.results[0]
        if form.tied or form.bounds or not value.has_one_use or len(node.results) > 1:
            continue
        user = value.users[0]
        if user.graph is node.graph and user.op in _CLIPS and user.operands[0] is value and _starts_at_zero(user):
            found[value] = user
    return found


def _starts_at_zero(node: Node) -> bool:
    if node.op == "Relu":
        return True
    return _bound(node, 1) == 0 and (node.operand(2) is None or (_bound(node, 2) or 0) > 0)


def _bound(node: Node, place: int) -> float | None:
    value = node.operand(place)
    return None if value is None or value.constant is None else value.constant.uniform()


def _tensors(made: Plan, node: Node, form: Form) -> list[Value]:
    """The activations that a node reads or makes as codes."""
    results = [] if form.real and not _read_as_codes(made, node.result) else [made.made(r) for r in node.results]
    return [*form.reads(node), *results]


def _read_as_codes(made: Plan, value: Value) -> bool:
    value = made.made(value)
    return any(user in made.forms and value in made.forms[user].reads(user) for user in value.users)


def _drop_without_range(made: Plan, ranges: Ranges) -> None:
    for node, form in list(made.forms.items()):
        for value in _tensors(made, node, form):
            if ranges(value) is None and not (form.bounds and value is node.result):
                made.left[node] = f"no range of {value} is known: calibrate it"
                del made.forms[node]
                break


def _drop_islands(made: Plan) -> None:
    """Leave what joins no two nodes on codes as it is: what it would gain, the conversions around it cost."""
    dropped = True
    while dropped:
        dropped = False
        for node, form in list(made.forms.items()):
            if form.anchor or _joins(made, node, form):
                continue
            made.left[node] = ISLAND
            del made.forms[node]
            made.clips = _clips(made)
            dropped = True


def _joins(made: Plan, node: Node, form: Form) -> bool:
    fed = any(made.on_codes(value) for value in form.reads(node))
    return fed and any(_read_as_codes(made, result) for result in node.results)


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
    clips = {clip.result: clip for clip in made.clips.values()}
    found: dict[Value, Parameters] = {}
    for members in groups.members():
        spans = [bounds.get(value) or ranges(value) or (0.0, 0.0) for value in members]
        low, high = min(span[0] for span in spans), max(span[1] for span in spans)
        low = max([low, *(_gate_floor(value) for value in members)])
        for clip in (clips[value] for value in members if value in clips):  # what is tied to it reaches no further
            upper = _bound(clip, 2)
            low, high = max(low, 0.0), max(high, 0.0) if upper is None else max(0.0, min(high, upper))
        shared = parameters(placement.activation_scheme, low, high)
        found.update(dict.fromkeys(members, shared))
    return found


def _gate_floor(value: Value) -> float:
    """Below this a value that is read by nothing but x * HardSigmoid(x) gives 0, so that no code need stand for it."""
    gates = [user for user in value.users if user.op == "HardSigmoid"]
    if len(gates) != 1 or gates[0].get_float("alpha") <= 0:
        return -math.inf
    gate = gates[0].result
    others = [user for user in value.users if user is not gates[0]]
    if not gate.has_one_use or any(user.op != "Mul" or set(user.operands) != {value, gate} for user in others):
        return -math.inf
    return -gates[0].get_float("beta") / gates[0].get_float("alpha")


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


def kernels(made: Plan) -> Mapping[str, int]:
    """How many of each kernel the plan leads to."""
    found: dict[str, int] = {}
    for form in made.forms.values():
        if form.kernel:
            found[form.kernel] = found.get(form.kernel, 0) + 1
    return found
