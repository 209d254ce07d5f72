"""Channels of one tensor are scaled to reach equally far before they share one scale of codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from planish.ir import DType, Graph, Node, Value
from planish.ir.graph import constant
from planish.passes.manager import Pass
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.codes import floats
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

    What makes the tensor is a BatchNormalization or a Conv, perhaps with a Relu behind; what reads it alone is a Conv
    with a filter of its own for each channel, whose weights have a scale for each channel. So nothing is lost, and
    every channel gets all of the steps that the widest one has. Nagel et al. 2019 (arXiv 1906.04721) equalize weights
    likewise. Reassociates. The tensor gets another name, since what was observed of it does not hold any more:
    calibrate again.
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
            value, relu = _between(reader)
            factors = None if value is None else self._factors(reader)
            if value is None or value.producer is None or factors is None:
                continue
            maker = value.producer
            sources = merge_origins((maker, reader))
            scaled, read = _scaled_maker(maker, 1 / factors), _scaled_reader(reader, factors)
            if not (_is_finite(scaled) and _is_finite(read)):
                run.note(f"{maker.label}: its weights, scaled, would not be finite")
                continue
            replace_node(reader, read)
            replace_node(maker, scaled)
            for result in (scaled.result, *([] if relu is None else [relu.result])):
                result.name = f"{result.name}_equalized" if result.name else ""
            run.log.extend((scaled, read))
            run.record("equalize", sources, scaled.result.name)

    def _factors(self, reader: Node) -> Doubles | None:
        """By which each channel falls short of the widest one; None where nothing is to be gained."""
        seen = None if self.ranges is None else self.ranges.of(reader.operands[0])
        channels = None if seen is None else seen.channels.get(1)
        weight = reader.operands[1]
        if channels is None or weight is None or weight.shape is None or channels.shape != weight.shape[:1]:
            return None
        if channels.max(initial=0) <= 0:
            return None
        factors = np.clip(channels / channels.max(), 1 / _MOST, 1)
        factors[channels == 0] = 1
        return factors if factors.min() < 1 / _LEAST_GAIN else None


def _between(reader: Node) -> tuple[Value | None, Node | None]:
    """What a maker gives to a depthwise convolution alone, and the Relu on the way."""
    if reader.op != "Conv" or reader.graph is None or not _is_depthwise(reader):
        return None, None
    value, relu = reader.operands[0], None
    if value is not None and value.producer is not None and value.producer.op == "Relu" and value.has_one_use:
        relu = value.producer
        value = relu.operands[0]
    maker = None if value is None else value.producer
    if value is None or maker is None or not value.has_one_use or maker.graph is not reader.graph:
        return None, None
    if maker.op not in ("BatchNormalization", "Conv") or value.dtype is not DType.FLOAT or value.rank != _IMAGE:
        return None, None
    if any(operand is None or operand.constant is None for operand in maker.operands[1:]):
        return None, None
    return value, relu


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
