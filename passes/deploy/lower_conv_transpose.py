"""A transposed convolution whose windows touch and do not overlap is a matrix product on pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from planish.ir import Node, Value
from planish.ir.graph import Attribute
from planish.passes.deploy.interleave import interleaves
from planish.passes.manager import RulePass
from planish.passes.pattern import Const, Maybe, Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

_BLOCK = 16
"""Channels that a convolution works on at a time, so that fewer cost as much as these."""
_IMAGE = 2
_ACTIVATIONS = frozenset(("Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Sigmoid", "Tanh"))

x, w, b = Var("x"), Const("w"), Const("b")


def _touches(node: Node) -> bool:
    """Whether stride and kernel are the same square, with nothing cut off, widened or grouped."""
    weight, strides = node.operands[1], node.get_ints("strides")
    tensor = None if weight is None else weight.constant
    if tensor is None or strides is None or len(tensor.shape) != _IMAGE + 2 or not tensor.dtype.is_float:
        return False
    if tensor.shape[2:] != strides or strides[0] != strides[1] or strides[0] == 1 or node.get_int("group") != 1:
        return False
    if node.get_str("auto_pad") not in ("NOTSET", "VALID") or node.get_ints("output_shape"):
        return False
    spread = node.get_ints("dilations") or (1,)
    return (
        set(spread) == {1} and not any(node.get_ints("pads") or ()) and not any(node.get_ints("output_padding") or ())
    )


def _follows_an_activation(node: Node) -> bool:
    source = node.operands[0]
    return source is not None and source.producer is not None and source.producer.op in ("DepthToSpace", *_ACTIVATIONS)


@rule(Op("ConvTranspose", (x, w, Maybe(b)), where=_touches), contract=Contract.REASSOCIATES)
def touching_windows(m: Match) -> Value | None:
    """ConvTranspose(x, w[C, M, k, k], b), stride k -> DepthToSpace(Conv(x, w'[k k M, C, 1, 1], b'), k)"""
    weight = m.array(m[w])
    channels, results, kernel, _ = weight.shape
    if interleaves(weight):
        return m.decline("it only puts channels in their places")
    pointwise = weight.transpose(1, 2, 3, 0).reshape(results * kernel * kernel, channels, 1, 1)
    return _blown_up(m, m[x], pointwise, kernel)


@rule(
    Op("ConvTranspose", (x, w, Maybe(b)), where=lambda node: _follows_an_activation(node) and _touches(node)),
    contract=Contract.REASSOCIATES,
    needs="finite values, which zeros among the weights do not spread",
)
def touching_windows_in_a_row(m: Match) -> Value | None:
    """ConvTranspose(f(DepthToSpace(x, n)), w, b), stride k -> DepthToSpace(Conv(f(x), w', b'), n k)

    w' holds w once for each of the n n places, and zeros between them, in the order in which the wider block is read.
    """
    path = _path(m)
    if path is None:
        return m.decline("what it reads comes from no DepthToSpace through activations alone")
    shuffle, activations = path[0], path[1:]
    inner, weight = shuffle.get_int("blocksize"), m.array(m[w])
    channels, results, kernel, _ = weight.shape
    block = inner * kernel
    source = shuffle.operands[0]
    if source is None or block * block * results > _BLOCK:
        return m.decline(f"{block * block * results} channels would cost more than {_BLOCK}")
    wide = np.zeros((results, block, block, channels, inner, inner), weight.dtype)
    for row, column in np.ndindex(block, block):
        at = (row // kernel, column // kernel)
        wide[(slice(None), row, column, slice(None), *at)] = weight[:, :, row % kernel, column % kernel].T
    for activation in activations:
        m.cover(activation)
        source = m.add(activation.op, (source, *activation.operands[1:]), activation.attributes)
    m.cover(shuffle)
    return _blown_up(m, source, wide.reshape(results * block * block, channels * inner * inner, 1, 1), block)


activation = Op(tuple(_ACTIVATIONS), where=_follows_an_activation)


@rule(activation, contract=Contract.REASSOCIATES)
def activation_before_shuffle(m: Match) -> Value | None:
    """f(DepthToSpace(Conv(x, w))) -> DepthToSpace(f(Conv(x, w))), where the convolution can take f in"""
    value = m.root.operands[0]
    shuffle = None if value is None else value.producer
    if value is None or shuffle is None or shuffle.op != "DepthToSpace" or not value.has_one_use:
        return m.decline("no DepthToSpace that nothing else reads stands before it")
    source = shuffle.operands[0]
    if source is None or source.producer is None or source.producer.op != "Conv" or not source.has_one_use:
        return m.decline("no convolution that nothing else reads stands before the DepthToSpace")
    m.cover(shuffle)
    done = m.add(m.root.op, (source, *m.root.operands[1:]), m.root.attributes)
    return m.add("DepthToSpace", (done,), shuffle.attributes)


def _blown_up(m: Match, source: Value, weight: np.ndarray[tuple[int, ...], np.dtype[np.generic]], block: int) -> Value:
    """A pointwise convolution into blocks of pixels, and these put in their places; the bias holds for every pixel."""
    bias = m.get(b)
    operands = [source, m.constant(weight, m[w].name)]
    if bias is not None:
        operands.append(m.constant(np.repeat(m.array(bias), block * block), bias.name))
    blocks = m.add("Conv", operands, {"kernel_shape": (1, 1)})
    order: dict[str, Attribute] = {} if len(weight) == block * block else {"mode": "CRD"}
    return m.add("DepthToSpace", (blocks,), {"blocksize": block, **order})


def _path(m: Match) -> list[Node] | None:
    """The DepthToSpace in the order CRD before the root and the activations behind it, each read once, in order."""
    found: list[Node] = []
    value: Value | None = m[x]
    while value is not None and value.has_one_use and value.producer is not None:
        node = value.producer
        found.insert(0, node)
        if node.op == "DepthToSpace":
            return found if node.get_str("mode") == "CRD" or len(m.array(m[w])) == 1 else None
        if node.op not in _ACTIVATIONS or node.graph is not m.graph:
            return None
        value = node.operands[0]
    return None


@dataclass(frozen=True)
class LowerConvTranspose(RulePass):
    """Make of a transposed convolution with stride = kernel a pointwise convolution and DepthToSpace.

    For images. One node more, and faster where runtimes have faster kernels for convolutions; several in a row, as in
    decoders, share one DepthToSpace. (Shi et al. 2016, Is the deconvolution layer the same as a convolutional layer?)
    """

    name: ClassVar[str] = "lower-conv-transpose"

    def rules(self) -> Sequence[Rule]:
        return (touching_windows_in_a_row, touching_windows, activation_before_shuffle)
