"""A float model in which each tensor and each weight that is to be codes is rounded to them, or not, from run to run.

A rounding that is switched off costs next to nothing: it stands in the branch of an If that is not taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from planish.ir import DType, Graph, Node, TensorType, Value
from planish.ir.graph import constant
from planish.ir.infer import infer
from planish.passes.kernels import cpu
from planish.passes.opset import Opsets
from planish.passes.quantize.codes import floats
from planish.passes.quantize.fitting import fitted
from planish.passes.quantize.gram import Gram, gram_key
from planish.passes.quantize.plan import Plan
from planish.passes.quantize.scheme import Parameters, Scheme, dequantize, parameters, quantize
from planish.runtime.providers import Array

_PREFIX = "planish/codes/"
_PRODUCTS = ("Conv", "Gemm", "MatMul")
_QUANTIZING = 10
"""The first opset with QuantizeLinear."""


@dataclass(frozen=True, eq=False)
class Switch:
    """name: of the input that turns the rounding on."""

    name: str
    values: tuple[str, ...]
    """The tensors that share codes, the first of which is rounded; of a weight, the first result of its node."""
    planned: Parameters | None
    """Of the tensors; None of a weight, whose scales are those of its channels."""


@dataclass
class Switches:
    tensors: list[Switch] = field(default_factory=list[Switch])
    weights: list[Switch] = field(default_factory=list[Switch])

    def feeds(self, on: Mapping[Switch, Parameters | None]) -> dict[str, Array]:
        """The added inputs. on: what is rounded, tensors with those scales and zero points, None for the planned."""
        made: dict[str, Array] = {}
        for switch in (*self.tensors, *self.weights):
            made[switch.name] = np.array(switch in on)
            found = on.get(switch) or switch.planned
            if found is not None:
                made[_scale(switch.name)] = np.asarray(found.scale)
                made[_zero_point(switch.name)] = np.asarray(found.zero_point)
        return made


def add_switches(graph: Graph, made: Plan, grams: Mapping[str, Gram]) -> Switches:
    """Let the graph, which is changed, round what the plan has as codes where its new inputs say so.

    grams: those by which weights are rounded for the outputs; other weights are rounded to nearest.
    """
    if graph.opset_imports.get("", 0) < _QUANTIZING:
        Opsets(cpu()).raise_to(graph, _QUANTIZING)
    found = Switches()
    for node, form in made.forms.items():
        product = form.inner or node
        weight = product.operands[1] if product.op in _PRODUCTS else None
        if weight is not None and weight.constant is not None:
            switch = Switch(f"{_PREFIX}weight/{len(found.weights)}", (node.results[0].name,), None)
            found.weights.append(switch)
            _switch_weight(graph, product, weight, switch, grams.get(gram_key(product) or ""))
    for values in _sharing(graph, made):
        switch = Switch(
            f"{_PREFIX}{len(found.tensors)}", tuple([value.name for value in values]), made.parameters[values[0]]
        )
        found.tensors.append(switch)
        _switch_tensor(graph, made, values[0], switch)
    return found


def _sharing(graph: Graph, made: Plan) -> list[list[Value]]:
    """The tensors that share parameters, those made first first: codes move from there as they are."""
    places = {value: place for place, node in enumerate(graph.nodes) for value in node.results}
    found: dict[int, list[Value]] = {}
    for value in sorted(made.parameters, key=lambda value: places.get(value, -1)):
        found.setdefault(id(made.parameters[value]), []).append(value)
    return list(found.values())


def _switch_tensor(graph: Graph, made: Plan, value: Value, switch: Switch) -> None:
    """Rounded for all who read what a node on codes makes, else for those alone that work on codes."""
    if switch.planned is None:
        return
    coded = {form.inner or node for node, form in made.forms.items() if value in form.reads(node)}
    uses = [use for use in value.uses if made.on_codes(value) or use.user in coded]
    on = graph.add_input(switch.name, TensorType(DType.BOOL, ()))
    scale = graph.add_input(_scale(switch.name), TensorType(DType.FLOAT, ()))
    zero_point = graph.add_input(_zero_point(switch.name), TensorType(switch.planned.scheme.dtype, ()))
    rounded = Graph("rounded", outer=graph)
    codes = _added(rounded, Node("QuantizeLinear", (value, scale, zero_point)))
    _added(rounded, Node("DequantizeLinear", (codes, scale, zero_point)))
    before = graph.returns.after if value.producer is None else value.producer.after
    chosen = _chosen(graph, value, on, rounded, before)
    for user, place in uses:
        if user.graph is not None:
            user.graph.set_operand(user, place, chosen)


def _switch_weight(graph: Graph, product: Node, weight: Value, switch: Switch, gram: Gram | None) -> None:
    axis = 0 if product.op == "Conv" or (product.op == "Gemm" and product.get_int("transB")) else 1
    scheme = Scheme(DType.INT8, symmetric=True, axis=axis, narrow=True)
    array, bias = floats(weight), product.operand(2)
    high = np.asarray(scheme.reduce(np.maximum, np.abs(array)), np.float64)
    found = parameters(scheme, -high, high)
    made = None if gram is None else fitted(array, found, gram, has_bias=bias is not None)
    codes = quantize(array.astype(np.float32), found) if made is None else made.codes
    on = graph.add_input(switch.name, TensorType(DType.BOOL, ()))
    graph.set_operand(
        product, 1, _chosen(graph, weight, on, _fixed(graph, "weight", dequantize(codes, found)), product)
    )
    if made is not None and bias is not None and bias.constant is not None:
        moved = (floats(bias) + made.shift).astype(np.float32)
        graph.set_operand(product, 2, _chosen(graph, bias, on, _fixed(graph, "bias", moved), product))


def _fixed(outer: Graph, name: str, array: Array) -> Graph:
    graph = Graph(name, outer=outer)
    _added(graph, Node("Identity", (constant(array),)))
    return graph


def _chosen(graph: Graph, value: Value, on: Value, rounded: Graph, before: Node) -> Value:
    """What the last node of `rounded` gives where a switch is on, else the value."""
    plain = Graph(f"plain-{rounded.name}", outer=graph)
    _added(plain, Node("Identity", (value,)))
    for branch in (rounded, plain):
        result = branch.nodes[-1].result
        result.name = f"{on.name}/{branch.name}"
        branch.set_results((result,), (result.name,))
    node = Node("If", (on,), {"then_branch": rounded, "else_branch": plain})
    graph.insert(node, before=None if before is graph.returns else before)
    infer(node)
    return node.result


def _added(graph: Graph, node: Node) -> Value:
    graph.insert(node)
    infer(node)
    return node.result


def _scale(name: str) -> str:
    return f"{name}/scale"


def _zero_point(name: str) -> str:
    return f"{name}/zero_point"
