"""Makes speech.npz: two short sentences of each of twenty speakers, by espeak-ng (1.51 made the file that ships).

    python -m planish.models.tasks.synthesise_speech models/tasks/speech.npz

espeak-ng speaks differently from version to version, so what it said ships, at 16 kHz in 8 bits a sample.
"""

import subprocess
import sys
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from planish.models.tasks.speech import RATE, compress

Floats = NDArray[np.float64]

_SPOKEN_RATE = 22_050
_SILENCE = 0.003
"""Of the greatest sample: less than that at the ends is cut off."""


@dataclass(frozen=True)
class Speaker:
    """`voice` and variant, words a minute and `pitch` from 0 to 99 as espeak-ng takes them."""

    voice: str
    speed: int
    pitch: int
    sentences: tuple[str, str]


SPEAKERS = (
    Speaker("en-us", 165, 50, ("Please close the window.", "We leave at half past seven.")),
    Speaker("en-gb+f2", 175, 45, ("Where did you put the keys?", "The kettle is boiling.")),
    Speaker("de", 170, 40, ("Der Zug kommt heute später.", "Ich habe keinen Schlüssel.")),
    Speaker("en-us+m7", 190, 60, ("Nobody answered the door.", "Turn left after the bridge.")),
    Speaker("en-gb", 160, 35, ("It has been raining all day.", "Two tickets to York, please.")),
    Speaker("en-us+f3", 185, 55, ("I will call you tomorrow.", "That chair is broken.")),
    Speaker("en-gb-scotland+m3", 170, 50, ("The harbour froze last winter.", "Who left the light on?")),
    Speaker("en-us+klatt4", 180, 45, ("Put the book on the shelf.", "She speaks very quietly.")),
    Speaker("en-us+Annie", 170, 50, ("Can you hear the birds?", "My brother plays the violin.")),
    Speaker("en-gb-x-rp+m4", 195, 40, ("The museum opens at ten.", "Bring an umbrella with you.")),
    Speaker("en-us+whisperf", 165, 50, ("Do not wake the children.", "Someone is on the stairs.")),
    Speaker("fr-fr", 180, 50, ("Où est la gare, s'il vous plaît ?", "Il fait beau ce matin.")),
    Speaker("es", 185, 45, ("Mañana vamos a la playa.", "La puerta está abierta.")),
    Speaker("en-us+steph", 175, 55, ("The soup needs more salt.", "Our train was full.")),
    Speaker("en-gb+croak", 160, 30, ("Thirty years I have lived here.", "Mind the step.")),
    Speaker("it", 180, 55, ("Vorrei un bicchiere d'acqua.", "Che ore sono adesso?")),
    Speaker("en-us+Andy", 200, 50, ("Check the oil before you go.", "They painted the fence green.")),
    Speaker("pl+f4", 175, 45, ("Gdzie jest najbliższy sklep?", "Dziękuję za pomoc.")),
    Speaker("en-gb+grandma", 165, 50, ("Have another slice of cake.", "The cat sleeps by the fire.")),
    Speaker("ru+m2", 180, 40, ("Сегодня очень холодно.", "Закройте, пожалуйста, дверь.")),
)


def speak(speaker: Speaker, text: str) -> Floats:
    """From -1 to 1 at 16 kHz, without the silence at its ends.

    Raises:
        CalledProcessError, FileNotFoundError: espeak-ng does not know the voice, or is not installed.
    """
    voice = ("-v", speaker.voice, "-s", str(speaker.speed), "-p", str(speaker.pitch))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "spoken.wav")
        subprocess.run(["espeak-ng", *voice, "-w", str(target), text], check=True)
        with wave.open(str(target)) as file:
            rate, frames = file.getframerate(), file.readframes(file.getnframes())
    if rate != _SPOKEN_RATE:
        raise ValueError(f"voice {speaker.voice} speaks at {rate} Hz, not {_SPOKEN_RATE}")
    sound = _resampled(np.frombuffer(frames, np.int16).astype(np.float64))
    sound /= np.abs(sound).max()
    loud = np.flatnonzero(np.abs(sound) > _SILENCE)
    return sound[loud[0] : loud[-1] + 1]


def _resampled(sound: Floats) -> Floats:
    """What lies below 8 kHz, whole; by a Fourier transform of all of it, with 20 ms of silence after it."""
    block = _SPOKEN_RATE // np.gcd(_SPOKEN_RATE, RATE)
    padded = np.pad(sound, (0, -len(sound) % block + block))
    count = len(padded) * RATE // _SPOKEN_RATE
    return np.fft.irfft(np.fft.rfft(padded)[: count // 2 + 1], count)


def main(arguments: Sequence[str]) -> None:
    (target,) = arguments
    sounds = [speak(speaker, text) for speaker in SPEAKERS for text in speaker.sentences]
    np.savez_compressed(
        target,
        codes=np.concatenate([compress(sound) for sound in sounds]),
        lengths=np.array([len(sound) for sound in sounds], np.int32),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
