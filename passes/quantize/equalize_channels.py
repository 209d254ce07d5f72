"""Channels of one tensor are scaled to reach equally far before they share one scale of codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from planish.ir import DType, Graph, Node, Value
from planish.ir.graph import constant
from planish.ir.infer import infer
from planish.passes.manager import Pass
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.codes import floats
from planish.passes.quantize.gates import Gate, gate_before, opened_by_channel
from planish.passes.quantize.scheme import Doubles
from planish.passes.replacing import merge_origins, replace_node
from planish.passes.run import Run

_MOST = 64.0
"""A channel is stretched no further: one that hardly moves would make weights that overflow."""
_LEAST_GAIN = 1.05
_IMAGE = 4


@dataclass(frozen=True)
class EqualizeChannels(Pass):
    """Stretch the channels between a scale that can be changed for free and a depthwise convolution that takes it back.

    What makes the tensor is a BatchNormalization or a Conv, perhaps with a Relu or x * HardSigmoid(x) behind; what
    reads it alone is a Conv with a filter of its own for each channel, whose weights have a scale for each channel. So
    nothing is lost, and every channel gets all of the steps that the widest one has. A gate then opens by channel, and
    no channel is stretched beyond where the widest one reaches before its own gate is shut. Nagel et al. 2019
    (arXiv 1906.04721) equalize weights likewise. Reassociates. The tensor gets another name, since what was observed of
    it does not hold any more: calibrate again.
    """

    name: ClassVar[str] = "equalize-channels"
    lossy: ClassVar[bool] = True  # it serves nothing but quantization

    ranges: Calibration | None = None

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        if not run.allows("REASSOCIATES"):
            return
        for reader in graph.nodes:
            if run.exhausted:
                return
            for nested in reader.graphs:
                self.run(nested, run)
            way = _way(reader)
            factors = None if way is None else self._factors(reader, way)
            if way is not None and factors is not None:
                _equalize(way, reader, factors, run)

    def _factors(self, reader: Node, way: _Way) -> Doubles | None:
        """By which each channel falls short of the widest one; None where nothing is to be gained."""
        seen = None if self.ranges is None else self.ranges.of(reader.operands[0])
        channels = None if seen is None else seen.channels.get(1)
        weight = reader.operands[1]
        if channels is None or weight is None or weight.shape is None or channels.shape != weight.shape[:1]:
            return None
        if channels.max(initial=0) <= 0:
            return None
        open_to = 0.0 if way.gate is None else min(way.gate.shut, float(channels.max()))
        factors = np.clip(np.maximum(channels, open_to) / channels.max(), 1 / _MOST, 1)
        factors[channels == 0] = 1
        return factors if factors.min() < 1 / _LEAST_GAIN else None


class _Way(NamedTuple):
    """From the node whose channels have a scale to the depthwise convolution. between: the tensors, from first to last.

    gate: whose product the convolution reads, where there is one.
    """

    maker: Node
    between: tuple[Value, ...]
    gate: Gate | None


def _way(reader: Node) -> _Way | None:
    if reader.op != "Conv" or reader.graph is None or not _is_depthwise(reader):
        return None
    read = value = reader.operands[0]
    if read is None or value is None or not read.has_one_use:
        return None
    gate = gate_before(read)
    if gate is not None:
        value = gate.x
    elif value.producer is not None and value.producer.op == "Relu":
        value = value.producer.operands[0]
    maker = None if value is None else value.producer
    if value is None or maker is None or maker.graph is not reader.graph or (gate is None and not value.has_one_use):
        return None
    if maker.op not in ("BatchNormalization", "Conv") or value.dtype is not DType.FLOAT or value.rank != _IMAGE:
        return None
    if any(operand is None or operand.constant is None for operand in maker.operands[1:]):
        return None
    return _Way(maker, (value,) if value is read else (value, read), gate)


def _equalize(way: _Way, reader: Node, factors: Doubles, run: Run) -> None:
    maker, gate = way.maker, way.gate
    sources = merge_origins((maker, *([] if gate is None else [gate.node]), reader))
    made = [_scaled_maker(maker, 1 / factors), _scaled_reader(reader, factors)]
    if not all(map(_is_finite, made)):
        run.note(f"{maker.label}: its weights, scaled, would not be finite")
        return
    if gate is not None and gate.node.graph is not None:
        norm, clip = opened_by_channel(gate, factors)
        gate.node.graph.insert(norm, before=gate.node)
        infer(norm)
        norm.result.name = f"{gate.x.name}_gate" if gate.x.name else ""
        norm.origin = merge_origins((gate.node,))
        name = gate.node.result.name
        replace_node(gate.node, clip)
        clip.result.name = _equalized(name)
        made += [norm, clip]
    scaled, read = made[:2]
    replace_node(reader, read)
    replace_node(maker, scaled)
    for value in (scaled.result, *way.between[1:]):
        value.name = _equalized(value.name)
    run.log.extend(made)
    run.record("equalize", sources, scaled.result.name)


def _equalized(name: str) -> str:
    """What a tensor is called whose numbers are others now."""
    return f"{name}_equalized" if name else ""


def _is_depthwise(node: Node) -> bool:
    weight = node.operands[1]
    tensor = None if weight is None else weight.constant
    return tensor is not None and tensor.shape[1] == 1 and tensor.shape[0] == node.get_int("group")


def _scaled_maker(node: Node, factors: Doubles) -> Node:
    if node.op == "BatchNormalization":
        scale, shift = node.operands[1:3]
        changed = [_times(scale, factors), _times(shift, factors)]
        return Node(node.op, (node.operands[0], *changed, *node.operands[3:]), node.attributes)
    weight, bias = node.operands[1], node.operand(2)
    changed = [_times(weight, factors.reshape(-1, 1, 1, 1)), *([] if bias is None else [_times(bias, factors)])]
    return Node(node.op, (node.operands[0], *changed), node.attributes)


def _scaled_reader(node: Node, factors: Doubles) -> Node:
    weight = _times(node.operands[1], factors.reshape(-1, 1, 1, 1))
    return Node(node.op, (node.operands[0], weight, *node.operands[2:]), node.attributes)


def _times(value: Value | None, factors: Doubles) -> Value:
    if value is None:
        raise ValueError("a parameter is missing")
    with np.errstate(over="ignore"):
        return constant((floats(value) * factors).astype(np.float32), value.name)


def _is_finite(node: Node) -> bool:
    constants = [value.constant for value in node.operands[1:] if value is not None]
    return all(np.isfinite(tensor.array()).all() for tensor in constants if tensor is not None)
