"""Well-known nets by name, with seeded weights, in the spelling of PyTorch's exporters.

    graph = ARCHITECTURES["resnet50"]("dynamo")

Defaults are of the full depth and a small width, so that a test can run them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from planish.ir import Graph
from planish.models.architectures.convnets import convnext_tiny, densenet121, resnet50
from planish.models.architectures.layers import Exporter
from planish.models.architectures.mobile import efficientnet_b0, mobilenet_v2, mobilenet_v3
from planish.models.architectures.swin import swin_tiny
from planish.models.architectures.transformers import bert, vit_small


class Architecture(Protocol):
    """Each takes sizes of its own besides, by name."""

    def __call__(self, exporter: Exporter, *, seed: int = 0) -> Graph: ...


ARCHITECTURES: Mapping[str, Architecture] = {
    "bert": bert,
    "convnext-tiny": convnext_tiny,
    "densenet121": densenet121,
    "efficientnet-b0": efficientnet_b0,
    "mobilenet-v2": mobilenet_v2,
    "mobilenet-v3": mobilenet_v3,
    "resnet50": resnet50,
    "swin-tiny": swin_tiny,
    "vit-small": vit_small,
}
