"""Clips of speech in noise, and which frames of them hold speech.

speech.npz holds what synthesise_speech.py made: forty sentences by twenty voices of espeak-ng in seven languages, one
voice a whisper; companded by the mu-law to 8 bits a sample (ITU-T G.711's curve, 127 levels to each side of 0).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

RATE = 16_000
FRAME = 512
FRAMES = 200
SPEAKERS = 20
SENTENCES = 2

_LEVELS = 127
_MU = 255.0
_PAUSE = (0.3, 1.5)
"""Seconds between sentences."""
_LOUDNESS = (-32.0, -20.0)
"""Of the speech, in decibels of full scale."""
_AUDIBLE = 1e-4
"""A frame holds speech from this share of the loudest frame's power on."""
_STOP = 3
"""Frames at most, 96 ms, of silence within speech that belong to it, as before the release of a p or t."""
_FULL_SCALE = 32_768


@dataclass(frozen=True)
class Clip:
    """`sound`: 6.4 s from -1 to 1 in steps of 16 bits. `speech`: by frame of 32 ms."""

    sound: NDArray[np.float32]
    speech: Bools


def clip(random: Generator, speaker: int, noise: str, snr: float) -> Clip:
    """A speaker's sentences with pauses, in one of NOISES that lies `snr` decibels under the frames with speech."""
    clean = _talk(random, speaker)
    speech = frames_with_speech(clean)
    loudness = 10 ** (random.uniform(*_LOUDNESS) / 20)
    din = NOISES[noise](random, len(clean))
    mixed = clean / np.sqrt(_power(clean)[speech].mean()) + din * np.sqrt(10 ** (-snr / 10) / np.mean(din**2))
    stored = np.clip(np.rint(mixed * loudness * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1)
    return Clip((stored / _FULL_SCALE).astype(np.float32), speech)


def frames_with_speech(clean: Floats) -> Bools:
    """By frame of a sound without noise that speaks somewhere: the audible ones, and short stops between them."""
    power = _power(clean)
    found = power > _AUDIBLE * power.max()
    for before, after in pairwise(np.flatnonzero(found).tolist()):
        found[before:after] |= after - before <= _STOP + 1
    return found


def compress(sound: Floats) -> NDArray[np.int8]:
    """Of samples from -1 to 1."""
    curved = np.sign(sound) * np.log1p(_MU * np.abs(sound)) / np.log1p(_MU)
    return np.rint(curved * _LEVELS).astype(np.int8)


def expand(codes: NDArray[np.int8]) -> Floats:
    """In steps of 16 bits, so that it is the same wherever powers are rounded another way."""
    level = codes / _LEVELS
    sound = np.sign(level) * ((1 + _MU) ** np.abs(level) - 1) / _MU
    return np.rint(sound * (_FULL_SCALE - 1)) / _FULL_SCALE


@cache
def sentences() -> tuple[Floats, ...]:
    """Each speaker's, one after the other."""
    with np.load(Path(__file__).with_name("speech.npz")) as stored:
        codes, lengths = stored["codes"], stored["lengths"]
    return tuple(np.split(expand(codes), np.cumsum(lengths)[:-1]))


def _talk(random: Generator, speaker: int) -> Floats:
    """It begins anywhere: in a sentence or in a pause."""
    own = sentences()[speaker * SENTENCES :][:SENTENCES]
    pieces: list[Floats] = []
    begin = end = 0
    while end < begin + FRAMES * FRAME:
        pause = np.zeros(int(random.uniform(*_PAUSE) * RATE))
        pieces += [pause, own[int(random.integers(SENTENCES))]]
        end = sum(map(len, pieces))
        begin = begin or int(random.integers(1, end))
    return np.concatenate(pieces)[begin : begin + FRAMES * FRAME]


def _power(sound: Floats) -> Floats:
    return (sound.reshape(-1, FRAME) ** 2).mean(axis=1)


def _white(random: Generator, count: int) -> Floats:
    return random.normal(size=count)


def _pink(random: Generator, count: int) -> Floats:
    """Each octave from 20 Hz on as strong as the next."""
    spectrum = np.fft.rfft(random.normal(size=count))
    frequencies = np.fft.rfftfreq(count, 1 / RATE)
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(frequencies, 20)), count)


def _babble(random: Generator, count: int) -> Floats:
    """Four sources of pink noise below 4 kHz, each swelling and fading at the pace of syllables: no words are in it."""
    seconds = np.arange(count) / RATE
    total = np.zeros(count)
    for _ in range(4):
        pace, phase = random.uniform(2, 6), random.uniform(0, 2 * np.pi)
        total += _pink(random, count) * np.maximum(np.sin(2 * np.pi * pace * seconds + phase), 0)
    spectrum = np.fft.rfft(total)
    spectrum[np.fft.rfftfreq(count, 1 / RATE) > 4000] = 0
    return np.fft.irfft(spectrum, count)


def _hum(random: Generator, count: int) -> Floats:
    """Of the mains, 50 or 60 Hz with its overtones up to the twelfth, and a hiss 20 dB below."""
    seconds, base = np.arange(count) / RATE, 50 + 10 * int(random.integers(2))
    total = 0.1 * random.normal(size=count)
    for harmonic in range(1, 13):
        strength, phase = random.uniform(0.3, 1) / harmonic, random.uniform(0, 2 * np.pi)
        total += strength * np.sin(2 * np.pi * base * harmonic * seconds + phase)
    return total


def _clicks(random: Generator, count: int) -> Floats:
    """About eight a second of 2 to 20 ms, and a hiss below."""
    total = 0.02 * random.normal(size=count)
    for start in random.integers(0, count, random.poisson(8 * count / RATE)):
        length = min(int(random.uniform(0.002, 0.02) * RATE), count - int(start))
        fading = np.exp(-5 * np.arange(length) / length)
        total[start : start + length] += random.uniform(0.2, 1) * fading * random.normal(size=length)
    return total


NOISES: Mapping[str, Callable[[Generator, int], Floats]] = {
    "white": _white,
    "pink": _pink,
    "babble": _babble,
    "hum": _hum,
    "clicks": _clicks,
}
