"""Loops and scans that carry, give back or repeat less, or that do not loop at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from planish.ir import DType, Graph, Node, Value
from planish.ir.graph import Attribute
from planish.ir.infer import infer, refresh
from planish.ir.ops.table import is_pure
from planish.passes.manager import RulePass
from planish.passes.pattern import Op
from planish.passes.replacing import erase_dead
from planish.passes.rewrite import Contract, Match, Rule, rewrite, rule
from planish.passes.run import Run
from planish.passes.simplify.inline_constant_if import nameable


class Layout(NamedTuple):
    """Where a Loop or Scan keeps its carried values: `states` of them, behind so many operands, inputs and outputs."""

    body: Graph
    states: int
    operands: int
    inputs: int
    outputs: int

    @staticmethod
    def of(node: Node) -> Layout | None:
        """None where the node is not as its operator says it must be."""
        body = node.subgraph("body")
        if node.op == "Loop":
            found = Layout(body, len(node.operands) - 2, 2, 2, 1)
        else:
            found = Layout(body, len(node.operands) - node.get_int("num_scan_inputs"), 0, 0, 0)
        fits = len(body.outputs) - found.outputs == len(node.results) >= found.states >= 0
        fits = fits and len(body.inputs) - found.inputs == len(node.operands) - found.operands
        return found if fits and None not in node.operands[found.operands :] else None


loop = Op(("Loop", "Scan"))


# Carried values


@rule(loop, contract=Contract.EXACT)
def unchanged_state(m: Match) -> tuple[Value, ...] | None:
    """A carried value that each iteration passes on as it is -> its initial value, captured"""
    layout = Layout.of(m.root)
    if layout is None:
        return None
    unchanged = [
        state
        for state in range(layout.states)
        if _source(layout.body.outputs[layout.outputs + state]) is layout.body.inputs[layout.inputs + state]
    ]
    if not unchanged:
        return None
    initial = {state: m.root.operands[layout.operands + state] for state in unchanged}
    known = {state: value for state, value in initial.items() if value is not None}
    if len(known) < len(initial) or (len(known) == len(m.root.results) and not is_pure(m.root)):
        return None
    for state, value in known.items():
        _read_instead(m, layout.body.inputs[layout.inputs + state], value)
    return _without(m, layout, known, set(known))


def _read_instead(m: Match, old: Value, new: Value) -> None:
    readers = old.users
    m.graph.replace_all_uses_with(old, new)
    m.run.log += [*readers, *refresh(readers)]


def _source(value: Value) -> Value:
    """The value behind Identities."""
    while value.producer is not None and value.producer.op == "Identity":
        operand = value.producer.operand(0)
        if operand is None:
            break
        value = operand
    return value


@rule(loop, contract=Contract.EXACT)
def unread_results(m: Match) -> tuple[Value, ...] | None:
    """Carried values that lead to nothing that is read, and unread outputs of each iteration -> none"""
    layout = Layout.of(m.root)
    if layout is None:
        return None
    needed = _needed(m.root, layout)
    dropped = {index for index in range(len(m.root.results)) if index not in needed}
    return _without(m, layout, {}, dropped) if dropped and needed else None


def _needed(node: Node, layout: Layout) -> set[int]:
    """The results that are read, and the carried values that these, or what has effects, are made of."""
    outputs = layout.body.outputs[layout.outputs :]
    needed = {index for index, result in enumerate(node.results) if result.is_used}
    roots = [*layout.body.outputs[: layout.outputs], *(outputs[index] for index in needed)]
    roots += [o for inner in layout.body.nodes if not is_pure(inner) for o in _read_by(inner)]
    states = {layout.body.inputs[layout.inputs + state]: state for state in range(layout.states)}
    seen: set[Value] = set()
    while roots:
        value = roots.pop()
        if value in seen:
            continue
        seen.add(value)
        state = states.get(value)
        if state is not None and state not in needed:
            needed.add(state)
            roots.append(outputs[state])
        if value.producer is not None and value.graph is layout.body:
            roots += _read_by(value.producer)
    return needed


def _read_by(node: Node) -> Iterable[Value]:
    """What a node reads, the graphs nested in it too."""
    inside = [inner for nested in node.graphs for inner in (*nested.walk(), nested.returns)]
    return [operand for reader in (node, *inside) for operand in reader.operands if operand is not None]


def _without(m: Match, layout: Layout, known: dict[int, Value], dropped: set[int]) -> tuple[Value, ...]:
    """The results of a node that takes over the body, less some of them; `known` are the values of dropped ones."""
    root, body = m.root, layout.body
    kept = [index for index in range(len(root.results)) if index not in dropped]
    gone = {state for state in dropped if state < layout.states}
    replaced = list(root.results)
    for index, value in known.items():
        replaced[index] = nameable(m, root.results[index], value)
    if not kept:
        return tuple(replaced)
    outputs = [*range(layout.outputs), *(layout.outputs + index for index in kept)]
    values, names = body.outputs, body.output_names
    body.set_results((), ())
    body.set_results([values[i] for i in outputs], [names[i] for i in outputs])
    _sweep(m, body)
    body.inputs = tuple([v for i, v in enumerate(body.inputs) if i - layout.inputs not in gone])
    operands = [o for i, o in enumerate(root.operands) if i - layout.operands not in gone]
    made = m.add_node(Node(root.op, operands, _trimmed(root, layout, kept), len(kept)))
    for index, result in zip(kept, made.results, strict=True):
        replaced[index] = result
    return tuple(replaced)


def _sweep(m: Match, body: Graph) -> None:
    """Erase what nothing reads any more, in the graphs around the body too."""
    for node in reversed(body.nodes):
        if node.graph is body and is_pure(node):
            for left in erase_dead(node):
                m.run.log += left.users


def _trimmed(node: Node, layout: Layout, kept: Sequence[int]) -> dict[str, Attribute]:
    """The attributes, those of Scan that list its outputs shortened."""
    attributes = dict(node.attributes)
    for name in ("scan_output_axes", "scan_output_directions"):
        listed = node.get_ints(name) if name in attributes else None
        if listed is not None:
            attributes[name] = tuple([listed[index - layout.states] for index in kept if index >= layout.states])
    return attributes


# Iterations


def _number(value: Value | None) -> int | None:
    """What a constant of one element holds."""
    tensor = None if value is None else value.constant
    if tensor is None or tensor.size != 1 or tensor.dtype not in (DType.INT64, DType.BOOL) or not tensor.in_memory:
        return None
    return tensor.ints()[0]


def _least_trips(node: Node) -> int:
    """How often the body surely runs: 0, or 1 for once or more."""
    if node.op == "Scan":
        layout = Layout.of(node)
        axes = node.get_ints("scan_input_axes") or ()
        if layout is None:
            return 0
        scanned = node.operand(layout.states)
        axis = axes[0] if axes else 0
        shape = None if scanned is None else scanned.shape
        extent = None if shape is None or not -len(shape) <= axis < len(shape) else shape[axis]
        return 1 if isinstance(extent, int) and extent > 0 else 0
    trips, condition = node.operand(0), node.operand(1)
    starts = condition is None or bool(_number(condition))
    return 1 if starts and (trips is None or (_number(trips) or 0) > 0) else 0


@rule(Op("Loop"), contract=Contract.EXACT)
def no_iteration(m: Match) -> tuple[Value, ...] | None:
    """Loop with a trip count of zero, or a condition that is false -> the initial values"""
    layout = Layout.of(m.root)
    trips, condition = (_number(m.root.operand(index)) for index in range(2))
    if layout is None or not (condition == 0 or (trips is not None and trips <= 0)):
        return None
    if any(result.is_used for result in m.root.results[layout.states :]):
        return m.decline("the shape of what no iteration gives is not known")
    replaced = list(m.root.results)
    for state, initial in enumerate(m.root.operands[2:]):
        if initial is not None and m.root.results[state].is_used:
            replaced[state] = nameable(m, m.root.results[state], initial)
    return tuple(replaced)


@rule(Op("Loop"), contract=Contract.EXACT)
def one_iteration(m: Match) -> tuple[Value, ...] | None:
    """Loop that runs once -> the nodes of its body, and Unsqueeze of what an iteration gives"""
    layout = Layout.of(m.root)
    if layout is None or not _least_trips(m.root):
        return None
    stops = m.root.operand(1) is not None and _number(_source(layout.body.outputs[0])) == 0
    if _number(m.root.operand(0)) != 1 and not stops:
        return None
    body = layout.body
    for old, new in zip(body.inputs[2:], m.root.operands[2:], strict=True):
        if new is not None:
            _read_instead(m, old, new)
    _read_instead(m, body.inputs[0], m.constant(np.array(0, np.int64)))
    _read_instead(m, body.inputs[1], m.constant(np.array(True)))
    outputs = m.inline(body)[1:]
    found: list[Value] = []
    for index, (result, output) in enumerate(zip(m.root.results, outputs, strict=True)):
        if not result.is_used:
            found.append(result)
        elif index < layout.states:
            found.append(nameable(m, result, output))
        else:
            found.append(m.add("Unsqueeze", (output, m.constant(np.array([0], np.int64)))))
    return tuple(found)


# What every iteration computes alike


def _may_move(node: Node) -> bool:
    """A quick test: whether the node stands in a loop's body and needs nothing of it but constants."""
    body = node.graph
    if body is None or body.owner is None or body.owner.op not in loop.ops or node.graphs or not node.operands:
        return False
    for operand in node.operands:
        if operand is not None and operand.graph is body and (operand.constant is None or operand.producer is None):
            return False
    return is_pure(node)


@rule(Op((), where=_may_move), contract=Contract.EXACT)
def move_out(m: Match) -> tuple[Value, ...] | None:
    """A node of the body that needs nothing of it, in a loop that surely runs -> the same before the loop"""
    node, body = m.root, m.graph
    owner = body.owner
    if owner is None or owner.graph is None or not _least_trips(owner):
        return m.decline("the loop may not run, and then nothing of it may fail or cost time")
    held = [o.producer for o in node.operands if o is not None and o.graph is body and o.producer is not None]
    if any(body.returns in result.readers for made in (node, *held) for result in made.results):
        return m.decline("what a body gives back it must make")
    moved = Node(node.op, node.operands, node.attributes, [result.name for result in node.results], node.name)
    moved.source, moved.origin = node.source, node.origin
    for made in (*held, moved):
        owner.graph.insert(made, before=owner)
    infer(moved)
    m.created.append(moved)
    return moved.results


@dataclass(frozen=True)
class SimplifyLoops(RulePass):
    """Inline loops that run once or never, drop what they carry or give back for nothing, and move what every
    iteration computes alike before a loop that surely runs.
    """

    name: ClassVar[str] = "simplify-loops"

    def rules(self) -> Sequence[Rule]:
        return (no_iteration, one_iteration, unchanged_state, unread_results, move_out)

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        """What is known of a loop may have changed in its body, so all are looked at again after any change."""
        done = -1
        while done < len(run.rewrites) and not run.exhausted:
            done = len(run.rewrites)
            loops = [node for node in graph.walk() if node.op in loop.ops]
            inside = [inner for node in loops for inner in node.subgraph("body").nodes]
            rewrite(graph, self.rules(), run, [*loops, *inside])
