"""Choices and English words, drawn by a random state."""

import string
from collections.abc import Sequence
from typing import TypeVar

from numpy.random import Generator

T = TypeVar("T")

_VOCABULARY = """
about above across after again against almost alone along already always among answer anything apple around arrive
autumn balance basket beautiful because before behind believe between bicycle bottle bridge bright brother building
business butter camera candle careful castle central certain change chapter children circle clean clock coffee cold
collect colour company complete concert contract corner country courage cream customer daily danger dark daughter
decide delivery different dinner doctor double dream early east education eight electric empty energy engine evening
every example exercise expensive factory family famous farmer feather field figure finger finish flight floor flower
follow foreign forest forward fountain freedom friend fruit garden gentle glass golden grammar granite grass great
green ground guitar half hammer handle happy harbour harvest health heavy height history holiday honest hospital hotel
house hundred hurry ice idea important inside island jacket january journey juice jump justice keep kettle kitchen
knife knowledge ladder language large laughter learn leather leave lemon letter library light little local lunch
machine magazine manager market matter meadow measure medicine message middle milk minute mirror modern money month
morning mother mountain museum music narrow nature needle network never night noise north notice number object ocean
office often onion open orange order other outside oxygen package painter paper parent passenger pencil people pepper
perfect picture pillow planet pleasant pocket police position potato power present price printer problem promise public
purple quality quarter question quick quiet rabbit railway rain reason receipt record regular remember repair report
result return ribbon river road rocket room rough round royal safety salt sample school science season second secret
service seven shadow sharp shelter shoulder silver simple sister slow smooth soldier something south special spring
square stamp station storm straight street strong student sugar summer surface swim system table teacher telephone
temple thank theatre thirty thought through thunder ticket tomorrow total tower traffic travel tunnel twelve umbrella
uncle under university until useful valley vegetable village violin visit voice wagon warm water weather wedding weight
welcome west wheel whisper white window winter wonder wooden world writer yellow yesterday young zebra zero
"""
_WORDS = _VOCABULARY.split()


def between(random: Generator, least: int, most: int) -> int:
    return int(random.integers(least, most + 1))


def choose(random: Generator, options: Sequence[T]) -> T:
    return options[between(random, 0, len(options) - 1)]


def number(random: Generator, digits: int) -> str:
    return "".join(choose(random, string.digits) for _ in range(digits))


def words(random: Generator, least: int, most: int) -> list[str]:
    return [choose(random, _WORDS) for _ in range(between(random, least, most))]


def sentence(random: Generator) -> str:
    return " ".join(words(random, 4, 12)).capitalize() + "."
