"""Source code and markup in twenty languages, put together from the parts in source_files.txt.

In the parts §a to §d stand for words, §A and §B for words with a capital, §n and §m for numbers, §s for a sentence: the
same within one part.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from string import Template
from typing import NamedTuple

from numpy.random import Generator

from planish.models.tasks.random_text import between, choose, sentence, words

_MARK = re.compile(r"^§§ ([a-z]+)\n", re.MULTILINE)


class _Part(Template):
    delimiter = "§"
    idpattern = "[abcdABnms]"


class _Source(NamedTuple):
    head: str
    bodies: list[str]
    foots: list[str]
    """One, or none."""


def languages() -> tuple[str, ...]:
    return tuple(_sources())


def source(language: str, random: Generator) -> bytes:
    """A head, two to six bodies, and a foot."""
    parts = _sources()[language]
    bodies = [choose(random, parts.bodies) for _ in range(between(random, 2, 6))]
    return "".join(_filled(random, part) for part in (parts.head, *bodies, *parts.foots)).encode()


@cache
def _sources() -> Mapping[str, _Source]:
    """By content type, as magika names it."""
    text = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8")
    _, *pieces = _MARK.split(text)
    found: dict[str, _Source] = {}
    current = _Source("", [], [])
    for mark, piece in zip(pieces[::2], pieces[1::2], strict=True):
        if mark == "body":
            current.bodies.append(piece)
        elif mark == "foot":
            current.foots.append(piece)
        else:
            current = found[mark] = _Source(piece, [], [])
    return found


def _filled(random: Generator, part: str) -> str:
    a, b, c, d, one, other = words(random, 6, 6)
    names = {"a": a, "b": b, "c": c, "d": d, "A": one.capitalize(), "B": other.capitalize()}
    return _Part(part).substitute(names, n=between(random, 1, 99), m=between(random, 2, 999), s=sentence(random))
