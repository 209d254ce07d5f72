"""EfficientNet-lite0: inverted residual blocks without squeeze-and-excitation, ReLU6 throughout.

Tan and Le, EfficientNet (2019), in the lite form of TensorFlow's TPU models. Convolutions pad as TensorFlow's SAME does
on an image of 224 x 224. Names of parts are those of the weights.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.nn import functional

_EPS = 1e-3
_CLASSES = 1000
_STEM, _HEAD = 32, 1280
# Blocks, kernel, stride of the first, expansion, channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def _padded(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """For the extents of this net, which are even wherever the stride is 2: one more after than before."""
    total = kernel - stride
    before = total // 2
    return functional.pad(x, (before, total - before, before, total - before))


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.kernel, self.stride = kernel, stride
        self.expands, self.adds = expansion > 1, stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, _EPS)
        self._depthwise_conv = nn.Conv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, _EPS)
        self._project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, _EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        inner = self._depthwise_conv(_padded(inner, self.kernel, self.stride))
        inner = self._bn2(self._project_conv(functional.relu6(self._bn1(inner))))
        return inner + x if self.adds else inner


class EfficientNetLite0(nn.Module):
    """float[batch, 3, 224, 224], RGB from -1 to 1 -> the logits of ImageNet's classes, float[batch, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, _STEM, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(_STEM, _EPS)
        self._blocks = nn.ModuleList(_blocks())
        self._conv_head = nn.Conv2d(_STAGES[-1][-1], _HEAD, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(_HEAD, _EPS)
        self._fc = nn.Linear(_HEAD, _CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = functional.relu6(self._bn0(self._conv_stem(_padded(image, 3, 2))))
        for block in cast("Sequence[Block]", self._blocks):
            x = block(x)
        x = functional.relu6(self._bn1(self._conv_head(x)))
        return self._fc(x.mean((2, 3)))


def _blocks() -> list[Block]:
    found: list[Block] = []
    channels = _STEM
    for count, kernel, stride, expansion, outputs in _STAGES:
        found.append(Block(channels, outputs, kernel, stride, expansion))
        found += [Block(outputs, outputs, kernel, 1, expansion) for _ in range(count - 1)]
        channels = outputs
    return found


def network(weights: Path) -> EfficientNetLite0:
    """`weights`: a state dict as torch.save writes it, read without running any code in it."""
    model = EfficientNetLite0().eval()
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model
