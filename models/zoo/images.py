"""Images as efficientnet-lite0 takes them."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 224
_CROPPED = SIZE / (SIZE + 32)
"""The part of the shorter side that stays: TensorFlow's models of this family were measured so."""
_MEAN, _SCALE = 127.0, 128.0


def imagenet(image: Image.Image) -> NDArray[np.float32]:
    """The middle square of an image, float32[1, 3, 224, 224], from -1 to 1."""
    rgb = image.convert("RGB")
    side = max(round(min(rgb.size) * _CROPPED), 1)
    left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
    square = rgb.resize((SIZE, SIZE), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    pixels = (np.asarray(square, np.float32) - _MEAN) / _SCALE
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)
