"""Views of 32 photographs: parts of them, mirrored, brighter or darker, stronger or weaker in contrast.

photographs/LICENCES.md names their sources and licences: eight are CC BY, the others CC0 or public domain. Each was
scaled to 272 pixels on the shorter side.
"""

from functools import cache
from pathlib import Path

from numpy.random import Generator

from planish.models.tasks.random_text import between

try:
    from PIL import Image, ImageEnhance
except ImportError as error:
    raise ImportError(f"photographs are read with Pillow ({error}): pip install 'planish[tasks]'") from error

NAMES = (
    *("admiral", "astronaut", "brick", "bucket", "capitol", "chelsea", "china", "clipper"),
    *("clock", "coffee", "crocodile", "flower", "galaxies", "grass", "gravel", "igloo"),
    *("kitten", "moose", "nebula", "observatory", "palace", "pan", "panda", "photographer"),
    *("raccoon", "retina", "rocket", "screwdriver", "stairs", "tower", "wall", "windmill"),
)
LEAST = 0.5
"""Of the shorter side: the side of a view at least."""
LIGHT = (0.6, 1.4)
"""By what brightness and contrast are multiplied."""


def view(random: Generator, name: str) -> Image.Image:
    """A square."""
    whole = _photograph(name)
    shorter = min(whole.size)
    side = between(random, round(shorter * LEAST), shorter)
    left, top = between(random, 0, whole.width - side), between(random, 0, whole.height - side)
    seen = whole.crop((left, top, left + side, top + side))
    if between(random, 0, 1):
        seen = seen.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    seen = ImageEnhance.Brightness(seen).enhance(random.uniform(*LIGHT))
    return ImageEnhance.Contrast(seen).enhance(random.uniform(*LIGHT))


@cache
def _photograph(name: str) -> Image.Image:
    with Image.open(Path(__file__).with_name("photographs") / f"{name}.jpg") as image:
        return image.convert("RGB")
