"""Lines of English text and pictures of them, as a camera and a text detector would leave them.

The fonts are Pillow's own Aileron (CC0), and Caladea (Apache-2.0), which has serifs, and Lato (SIL OFL 1.1) out of the
packages font-caladea and font-lato. The same random state gives the same picture at the same versions of numpy, Pillow
and the fonts: letters are placed by Pillow's basic layout, which needs no library of the system.
"""

import string
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from planish.models.tasks.random_text import between, choose, number, words

try:
    import font_caladea
    import font_lato
    from PIL import Image, ImageDraw, ImageFilter, ImageFont
except ImportError as error:
    raise ImportError(
        f"lines of text are drawn with Pillow, font-caladea and font-lato ({error}): pip install 'planish[tasks]'"
    ) from error

Picture = NDArray[np.uint8]
"""[height, width, 3], red first."""

SIZES = (16, 48)
"""Of the letters, in pixels from ascender to descender: a recogniser scales them up or down to its own height."""
TURN = 3.0
"""Degrees at most, either way: what a text detector leaves of a slant."""
BLUR = 1 / 24
"""At most, of the letters' size: the radius of a Gaussian."""
NOISE = 30.0
"""At most: the standard deviation of noise in each channel, of 255."""
CONTRAST = 60.0
"""At least, of 255: between the brightness of the text and of the ground."""
SLOPE = 30.0
"""At most, of 255: by how much light grows or falls from the middle of a line to its ends."""

_BRIGHTNESS = np.array([0.299, 0.587, 0.114])
_LATO = tuple(f"Lato-{style}.ttf" for style in ("Light", "Regular", "Bold", "Italic"))
_CALADEA = tuple(f"Caladea-{style}.ttf" for style in ("Regular", "Bold", "Italic", "BoldItalic"))
_FONTS: tuple[Path | None, ...] = (
    *(None,) * 3,
    *(Path(font_lato.font_directory, name) for name in _LATO),
    *(Path(font_caladea.font_directory, name) for name in _CALADEA),
)
"""None is Pillow's own."""

_CODE = string.ascii_uppercase + string.digits


def texts(random: Generator, count: int) -> tuple[str, ...]:
    """So many different lines of 3 to 60 characters, out of those of ASCII."""
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault(choose(random, _KINDS)(random))
    return tuple(found)


def picture(random: Generator, text: str) -> Picture:
    """The text with a margin around it, turned, blurred, in two colours, unevenly lit and with noise."""
    size = between(random, *SIZES)
    letters = _letters(random, text, size)
    letters = letters.rotate(random.uniform(-TURN, TURN), Image.Resampling.BICUBIC, expand=True)
    letters = letters.filter(ImageFilter.GaussianBlur(random.uniform(0, BLUR) * size))
    ink = np.asarray(letters, np.float64)[..., None] / 255
    ground, text_colour = _colours(random)
    light = np.linspace(-1, 1, ink.shape[1])[:, None] * random.uniform(-SLOPE, SLOPE)
    noise = random.normal(0, random.uniform(0, NOISE), (*ink.shape[:2], 3))
    seen = ground + (text_colour - ground) * ink + light + noise
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)


def resized(seen: Picture, width: int, height: int) -> Picture:
    image = Image.fromarray(seen).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8)


def _letters(random: Generator, text: str, size: int) -> Image.Image:
    """White on black; at each side a margin of 1 pixel to a third of the size."""
    font = _font(choose(random, _FONTS), size)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text))
    before, above, behind, below = (between(random, 1, 1 + size // 3) for _ in range(4))
    drawn = Image.new("L", (right - left + before + behind, bottom - top + above + below))
    ImageDraw.Draw(drawn).text((before - left, above - top), text, fill=255, font=font)
    return drawn


@cache
def _font(path: Path | None, size: int) -> ImageFont.FreeTypeFont:
    """Pillow lays its own out by the basic layout in any case."""
    if path is not None:
        return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise ImportError("this Pillow was built without FreeType, and draws letters of one size only")
    return font


def _colours(random: Generator) -> NDArray[np.int64]:
    while True:
        colours = random.integers(0, 256, (2, 3))
        if abs((colours[0] - colours[1]) @ _BRIGHTNESS) >= CONTRAST:
            return colours


def _sentence(random: Generator) -> str:
    chosen = words(random, 2, 6)
    if len(chosen) > 3:
        chosen[1] += choose(random, (",", "", ""))
    return " ".join(chosen).capitalize() + choose(random, (".", "!", "?", ":", "", ""))


def _title(random: Generator) -> str:
    return " ".join(words(random, 1, 3)).title()


def _capitals(random: Generator) -> str:
    return " ".join(words(random, 1, 3)).upper()


def _price(random: Generator) -> str:
    (item,) = words(random, 1, 1)
    amount = f"{between(random, 1, 1999):,}.{number(random, 2)}"
    return f"{item.capitalize()} {choose(random, ('$', ''))}{amount}{choose(random, ('', ' each', ' + 7%'))}"


def _date(random: Generator) -> str:
    year, month, day = between(random, 1950, 2049), between(random, 1, 12), between(random, 1, 28)
    clock = f"{between(random, 0, 23):02}:{between(random, 0, 59):02}"
    return choose(random, (f"{day}/{month}/{year}", f"{year}-{month:02}-{day:02} {clock}", f"{clock}, {day}.{month}."))


def _contact(random: Generator) -> str:
    one, other, third = words(random, 3, 3)
    telephone = f"Tel. +{number(random, 2)} {number(random, 3)} {number(random, 4)}"
    page = f"https://{one}.net/{other}?id={number(random, 3)}"
    return choose(random, (f"{one}.{other}@{third}.com", f"www.{one}-{other}.org", telephone, page))


def _code(random: Generator) -> str:
    letters = "".join(choose(random, _CODE) for _ in range(between(random, 3, 5)))
    return letters + choose(random, ("-", "/", "_", "#", " ")) + number(random, between(random, 2, 5))


def _marked(random: Generator) -> str:
    one, other, third = words(random, 3, 3)
    quoted, possessive = f'"{one}" & {other} ({third})', f"{one}'s {other}; {third}"
    sum_of = f"[{number(random, 2)}] {one}/{other} = {number(random, 3)}"
    return choose(random, (quoted, possessive, sum_of, f"{one}_{other}*{third}", f"<{one}> {{{other}}} ~ {third}^2"))


_KINDS: Sequence[Callable[[Generator], str]] = (
    *(_sentence,) * 4,
    *(_title,) * 2,
    *(_capitals,) * 2,
    *(_price,) * 2,
    _date,
    _contact,
    _code,
    _marked,
)
"""Each as often as it stands here."""
