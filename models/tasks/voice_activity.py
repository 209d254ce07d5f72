"""Voice activity: which frames of 32 ms hold speech, in synthesised speech with noise at 20, 10, 5 and 0 dB."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from planish.models.tasks.speech import FRAME, NOISES, RATE, SPEAKERS, clip
from planish.runtime.errors import TaskError
from planish.runtime.session import Feed
from planish.runtime.task import Floats, Metric, Run, Sample, Samples, Split, Task

_SEED = 20_261_130
_RATIOS = (20.0, 10.0, 5.0, 0.0)
_CALIBRATION = range(1, SPEAKERS, 5)
_CONTEXT = 64
"""Samples before a frame that silero-vad sees with it, at 16 kHz."""

Probabilities = tuple[float, ...]
Labels = tuple[bool, ...]


class VoiceActivity(Task[Probabilities, Labels]):
    """For every silero-vad that takes 16 kHz, frame by frame or a sequence of frames at once.

    A sample is a clip of 6.4 s; its group is the speaker, and no speaker is in both splits.
    """

    name = "voice-activity"
    model = "zoo:silero-vad-op18-ifless"
    metrics = (Metric("ROC AUC"), Metric("accuracy at 0.5"))

    def samples(self, split: Split) -> Sequence[Sample[Labels]]:
        conditions = _conditions(split)
        return Samples(len(conditions), lambda index: _sample(*conditions[index]))

    def predict(self, run: Run, feeds: Mapping[str, Feed]) -> Probabilities:
        """Of speech, by frame."""
        frames = _frames(np.asarray(feeds["sound"], np.float32))
        taken = {argument.name for argument in run.inputs}
        if taken == {"input", "h", "c"}:
            return _at_once(run, frames)
        if taken in ({"input", "state", "sr"}, {"input", "state"}):
            return _one_by_one(run, frames, rate="sr" in taken)
        raise TaskError(
            f"the model takes {', '.join(sorted(taken))}, and voice activity needs a model that takes input and state "
            "(sr too where it has that), or input, h and c, as silero-vad does"
        )

    def grade(self, predictions: Sequence[Probabilities], labels: Sequence[Labels]) -> Floats:
        """By clip: its place, its frames with and without speech, those judged right, and its wins over each clip.

        A win is a frame with speech that is held likelier to have it than a frame of the other clip that has none; a
        tie is half of one.
        """
        guesses = [np.asarray(prediction) for prediction in predictions]
        truths = [np.asarray(label, np.bool_) for label in labels]
        without = [np.sort(guess[~truth]) for guess, truth in zip(guesses, truths, strict=True)]
        rows: list[list[float]] = []
        for place, (guess, truth) in enumerate(zip(guesses, truths, strict=True)):
            right = ((guess > 0.5) == truth).sum()
            wins = [_wins(guess[truth], other) for other in without]
            rows.append([place, truth.sum(), (~truth).sum(), right, *wins])
        return np.asarray(rows, np.float64)

    def score(self, grades: Floats) -> Sequence[float]:
        """The area under the ROC curve of all frames is their wins by all pairs (J. Hanley and B. McNeil, 1982)."""
        places, speech, silence, right = grades[:, :4].T
        pairs = float(speech.sum() * silence.sum())
        wins = float(grades[:, 4:][:, places.astype(np.int64)].sum())
        return [wins / pairs if pairs else np.nan, float(right.sum() / (speech.sum() + silence.sum()))]


def _wins(with_speech: Floats, without: Floats) -> float:
    """`without` in ascending order."""
    below, up_to = (np.searchsorted(without, with_speech, side) for side in ("left", "right"))
    return float((below + up_to).sum()) / 2


def _frames(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """[frames, 576]: each with the end of the one before it, the first with silence."""
    padded = np.pad(sound, (_CONTEXT, 0))
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(padded, _CONTEXT + FRAME)[::FRAME])


def _one_by_one(run: Run, frames: NDArray[np.float32], *, rate: bool) -> Probabilities:
    constant = {"sr": np.asarray(RATE, np.int64)} if rate else {}
    state = np.zeros((2, 1, 128), np.float32)
    found: list[float] = []
    for frame in frames:
        outputs = run({"input": frame[None], "state": state, **constant})
        found.append(float(outputs.tensor("output", (1, 1))[0, 0]))
        state = outputs.tensor("stateN", (2, 1, 128))
    return tuple(found)


def _at_once(run: Run, frames: NDArray[np.float32]) -> Probabilities:
    nothing = np.zeros((1, 1, 128), np.float32)
    outputs = run({"input": frames, "h": nothing, "c": nothing})
    return tuple(outputs.tensor("speech_probs", (len(frames),)).tolist())


@cache
def _conditions(split: Split) -> Sequence[tuple[int, str, float]]:
    """Speaker, noise and ratio of each clip, mixed, so that any few of them hold something of all."""
    speakers = [speaker for speaker in range(SPEAKERS) if (speaker in _CALIBRATION) == (split == "calibration")]
    found = [
        (speaker, noise, _RATIOS[2 * second + (number + second + place) % 2])
        for place, speaker in enumerate(speakers)
        for number, noise in enumerate(NOISES)
        for second in range(2)
    ]
    order: list[int] = np.random.default_rng(_SEED).permutation(len(found)).tolist()
    return [found[place] for place in order]


def _sample(speaker: int, noise: str, ratio: float) -> Sample[Labels]:
    random = np.random.default_rng((_SEED, speaker, list(NOISES).index(noise), int(ratio)))
    made = clip(random, speaker, noise, ratio)
    return Sample({"sound": made.sound}, tuple(made.speech.tolist()), speaker)
