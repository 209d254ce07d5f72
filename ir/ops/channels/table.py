"""The channels of each operator, gathered from the families."""

from __future__ import annotations

from collections.abc import Mapping

from planish.ir.ops.channels import (
    attention,
    einsum,
    elementwise,
    integers,
    linear,
    moving,
    normalization,
    quantization,
    recurrent,
    reduction,
    reshape,
    shape,
)
from planish.ir.ops.channels.tracker import Channels

CHANNELS: Mapping[str, Channels] = {
    **attention.CHANNELS,
    **einsum.CHANNELS,
    **elementwise.CHANNELS,
    **integers.CHANNELS,
    **linear.CHANNELS,
    **moving.CHANNELS,
    **normalization.CHANNELS,
    **quantization.CHANNELS,
    **recurrent.CHANNELS,
    **reduction.CHANNELS,
    **reshape.CHANNELS,
    **shape.CHANNELS,
}
