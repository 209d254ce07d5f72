"""Voice activity: the area under the curve by hand, what clips are like, and the models that fit."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import parser

from planish.models.tasks import synthesise_speech
from planish.models.tasks.speech import FRAME, NOISES, clip, compress, expand, frames_with_speech, sentences
from planish.models.tasks.voice_activity import VoiceActivity
from planish.models.zoo import fetch
from planish.runtime.errors import TaskError
from planish.runtime.evaluate import evaluate
from planish.runtime.task import Floats, Sample

VARIANTS = ("", "-op15", "-half", "-openvino", "-sequence")
"""Of silero-vad, all that take 16 kHz but the one that the page's table is of."""


def auc(predictions: list[tuple[float, ...]], labels: list[tuple[bool, ...]]) -> float:
    task = VoiceActivity()
    return task.score(task.grade(predictions, labels))[0]


def by_pairs(scores: Floats, truth: NDArray[np.bool_]) -> float:
    """The definition: how often a frame with speech is held likelier than one without, ties by half."""
    gaps = scores[truth][:, None] - scores[~truth]
    return float(((gaps > 0) + (gaps == 0) / 2).mean())


@pytest.mark.parametrize(
    ("scores", "truth", "area"),
    [
        ((0.1, 0.4, 0.35, 0.8), (False, False, True, True), 0.75),
        ((0.1, 0.2, 0.8, 0.9), (False, False, True, True), 1.0),
        ((0.9, 0.8, 0.2, 0.1), (False, False, True, True), 0.0),
        ((0.5, 0.5, 0.5, 0.5), (False, True, False, True), 0.5),
        ((0.2, 0.5, 0.5, 0.7), (False, False, True, True), 3.5 / 4),
    ],
)
def test_the_area_under_the_curve_by_hand(scores: tuple[float, ...], truth: tuple[bool, ...], area: float) -> None:
    assert auc([scores], [truth]) == pytest.approx(area)
    assert auc([(score,) for score in scores], [(held,) for held in truth]) == pytest.approx(area)


def test_of_clips_drawn_again_and_left_out_the_area_is_that_of_their_frames() -> None:
    random = np.random.default_rng(2)
    truth = random.random((6, 30)) < 0.6
    scores = np.round(random.random((6, 30)) + 0.3 * truth, 1)
    task = VoiceActivity()
    grades = task.grade([tuple(row) for row in scores.tolist()], [tuple(row) for row in truth.tolist()])
    for _ in range(5):
        drawn = random.integers(0, 6, 6)
        area, accuracy = task.score(grades[drawn])
        assert area == pytest.approx(by_pairs(scores[drawn].ravel(), truth[drawn].ravel()))
        assert accuracy == pytest.approx(((scores[drawn] > 0.5) == truth[drawn]).mean())


def test_of_speech_alone_there_is_no_curve() -> None:
    assert np.isnan(auc([(0.5, 0.7)], [(True, True)]))


def test_speech_goes_through_short_stops_and_ends_at_pauses() -> None:
    loud = [0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0]
    heard = [0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 0]
    sound = np.repeat(loud, FRAME) * np.sin(np.arange(len(loud) * FRAME))
    assert frames_with_speech(sound).tolist() == [bool(frame) for frame in heard]
    whispers = sound + 0.005 * np.sin(np.arange(len(sound)))
    assert frames_with_speech(whispers).tolist() == [bool(frame) for frame in heard]


@pytest.mark.parametrize(("noise", "ratio"), [("white", 10.0), ("pink", 0.0), ("babble", 5.0), ("hum", 20.0)])
def test_noise_lies_as_far_under_the_speech_as_is_said(noise: str, ratio: float) -> None:
    clean, mixed = (clip(np.random.default_rng(3), 0, noise, snr) for snr in (200.0, ratio))
    assert (clean.speech == mixed.speech).all()
    assert np.abs(mixed.sound).max() < 1
    speech = clean.sound.reshape(-1, FRAME)[clean.speech].astype(np.float64)
    rest = mixed.sound.astype(np.float64) - clean.sound
    assert 10 * np.log10((speech**2).mean() / (rest**2).mean()) == pytest.approx(ratio, abs=0.05)


def test_noises_differ_from_each_other_as_they_should() -> None:
    def shares(noise: str) -> tuple[float, float]:
        """Of the power below 200 Hz, and of the tenth of all 8 ms blocks that has the most."""
        sound = NOISES[noise](np.random.default_rng(4), 64_000)
        spectrum = np.abs(np.fft.rfft(sound)) ** 2
        blocks = np.sort((sound.reshape(-1, 128) ** 2).sum(axis=1))
        return spectrum[:800].sum() / spectrum.sum(), blocks[-len(blocks) // 10 :].sum() / blocks.sum()

    low = {noise: shares(noise)[0] for noise in NOISES}
    bursts = {noise: shares(noise)[1] for noise in NOISES}
    assert low["white"] == pytest.approx(200 / 8000, rel=0.1)
    assert low["white"] < low["pink"] < low["hum"]
    assert bursts["clicks"] > 2 * bursts["babble"]
    assert bursts["babble"] > 1.5 * bursts["white"]


def test_speech_is_stored_to_within_a_quantum() -> None:
    sound = np.linspace(-1, 1, 4001)
    stored = expand(compress(sound))
    assert (stored[0], stored[2000]) == (-32767 / 32768, 0)
    # A step of the code is a factor of 256 ** (1 / 127), or about 1 / 2,850 where the curve is straight.
    assert (np.abs(stored - sound) <= np.abs(sound) * 0.025 + 1e-4).all()


@pytest.fixture(scope="module")
def clips() -> Sequence[Sample[tuple[bool, ...]]]:
    """Those of the test split."""
    return list(VoiceActivity().samples("test"))


@pytest.mark.slow
def test_splits_hold_other_voices_and_any_few_clips_are_mixed(clips: Sequence[Sample[tuple[bool, ...]]]) -> None:
    test, calibration = ({clip.group for clip in part} for part in (clips, VoiceActivity().samples("calibration")))
    assert (len(calibration), len(test)) == (4, 16)
    assert not calibration & test
    assert len({clip.group for clip in clips[:40]}) >= 12
    assert len({sound.tobytes() for sound in sentences()}) == 40


@pytest.mark.slow
def test_when_one_speaks_says_nothing_of_when_another_does(clips: Sequence[Sample[tuple[bool, ...]]]) -> None:
    speech = np.asarray([clip.label for clip in clips])
    assert speech.shape == (160, 200)
    assert 0.5 < speech.mean() < 0.7
    assert np.abs(speech.reshape(160, 10, 20).mean(axis=(0, 2)) - speech.mean()).max() < 0.1


def model(folder: Path, text: str) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}').SerializeToString())
    return path


BODY = """{
    last = Constant <value_ints = [575]> ()  first = Constant <value_ints = [0]> ()
    count = Constant <value_float = 1.0> ()
    start = Gather <axis = 1> (input, first)  end = Gather <axis = 1> (input, last)
    before = ReduceMax <keepdims = 0> (state)  stateN = Add (state, count)
    both = Sub (start, end)  output = Add (both, before)
}"""
BY_FRAME = f"(float[1, 576] input, float[2, 1, 128] state) => (float[1, 1] output, float[2, 1, 128] stateN) {BODY}"


@pytest.mark.parametrize("rate", ["", ", int64 sr"])
def test_state_and_context_go_from_frame_to_frame(tmp_path: Path, rate: str) -> None:
    """The model gives the first sample that it sees, less the last, and how many frames it saw before."""
    file = model(tmp_path, "counter" + BY_FRAME.replace("state)", f"state{rate})", 1))
    found = evaluate(file, VoiceActivity(), limit=1)
    sound = np.asarray(VoiceActivity().samples("test")[0].feeds["sound"])
    firsts = [0.0, *sound[FRAME - 64 :: FRAME].tolist()][:200]
    lasts = sound[FRAME - 1 :: FRAME].tolist()
    expected = [first - last + place for place, (first, last) in enumerate(zip(firsts, lasts, strict=True))]
    assert found.predictions[0] == pytest.approx(expected, abs=1e-4)


def test_a_model_of_sequences_is_run_once_a_clip(tmp_path: Path) -> None:
    file = model(
        tmp_path,
        """sequence (float[frames, 576] input, float[1, 1, 128] h, float[1, 1, 128] c) => (float[frames] speech_probs)
        { states = Add (h, c)  sum = ReduceSum <keepdims = 0> (states)
          most = ReduceMax <axes = [1], keepdims = 0> (input)  speech_probs = Add (most, sum) }""",
    )
    (prediction,) = evaluate(file, VoiceActivity(), limit=1).predictions
    sound = np.asarray(VoiceActivity().samples("test")[0].feeds["sound"])
    seen = np.lib.stride_tricks.sliding_window_view(np.pad(sound, (64, 0)), 576)[::FRAME]
    assert prediction == tuple(seen.max(axis=1).tolist())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("relu (float[1, 576] x) => (float[1, 576] y) { y = Relu (x) }", "the model takes x, and .* needs a model"),
        ("other" + BY_FRAME.replace("output", "speech"), "has no output 'output'"),
    ],
)
def test_a_model_of_something_else_does_not_fit(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TaskError, match=f"task 'voice-activity' does not fit .* at sample 0: .*{message}"):
        evaluate(model(tmp_path, text), VoiceActivity(), limit=1)


ESPEAK = """#!{python}
import sys, wave
import numpy as np
target = sys.argv[sys.argv.index("-w") + 1]
tone = np.rint(9000 * np.sin(2 * np.pi * 1000 * np.arange(22050) / 22050)).astype(np.int16)
with wave.open(target, "wb") as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate({rate})
    file.writeframes(np.pad(tone, 5000).tobytes())
"""


def install_espeak(folder: Path, rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says a second of 1 kHz, with silence around it, to everything."""
    program = folder / "espeak-ng"
    program.write_text(ESPEAK.format(python=sys.executable, rate=rate), encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_what_is_synthesised_is_resampled_and_trimmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_espeak(tmp_path, 22_050, monkeypatch)
    sound = synthesise_speech.speak(synthesise_speech.SPEAKERS[0], "Anything.")
    assert len(sound) == pytest.approx(16_000, abs=40)
    assert np.abs(np.fft.rfft(sound)).argmax() * 16_000 / len(sound) == pytest.approx(1000, abs=1)
    install_espeak(tmp_path, 16_000, monkeypatch)
    with pytest.raises(ValueError, match="voice en-us speaks at 16000 Hz, not 22050"):
        synthesise_speech.speak(synthesise_speech.SPEAKERS[0], "Anything.")


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_silero_vad_hears_speech(variant: str) -> None:
    found = evaluate(fetch(f"silero-vad{variant}"), VoiceActivity(), limit=16)
    assert found.value >= 0.95
