"""Wheels out of a package index, and files kept in the user's cache: what stands between a name and a checked file.

Imports nothing beyond the standard library, so that listing the zoo costs no import of onnx or numpy.
"""

import hashlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

Download = Callable[[str, Path], Path]
"""Puts the wheel of a requirement `package==version` into an empty folder and gives its path; raises DownloadError."""

_PIP_DOWNLOAD = (
    *("-m", "pip", "download", "--no-input", "--disable-pip-version-check", "--retries", "2"),
    # Nothing of the wheel is installed or run: its Python range is moot (rapidocr-onnxruntime refuses 3.13), and that
    # without native code serves every machine (magika: 3 MB instead of 16, the same model).
    *("--no-deps", "--only-binary=:all:", "--platform", "any", "--ignore-requires-python"),
)


class DownloadError(Exception):
    """No wheel came; the message is the reason in the words of the tool that failed."""


def download_wheel(requirement: str, folder: Path) -> Path:
    """The wheel of `package==version`, by pip with the user's own settings of pip (index, proxy, certificates)."""
    wheels = folder / "wheels"
    _run([_python_with_pip(folder / "venv"), *_PIP_DOWNLOAD, "--dest", str(wheels), requirement])
    found = sorted(wheels.glob("*.whl"))
    if len(found) != 1:
        raise DownloadError(f"pip left {len(found)} wheels for {requirement} where one was expected")
    return found[0]


def _python_with_pip(folder: Path) -> str:
    """This interpreter, or where it has no pip (environments made by uv) that of a new virtual environment in `folder`.

    `python -m venv` needs the standard library alone and no network. `uv tool run pip` would need uv on the path and
    download pip first, by settings that are not pip's.
    """
    if importlib.util.find_spec("pip") is not None:
        return sys.executable
    _run([sys.executable, "-m", "venv", str(folder)])
    return str(folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, encoding="utf-8", errors="replace", check=False
        )
    except OSError as error:
        raise DownloadError(f"cannot start {command[0]!r}: {error}") from error
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise DownloadError(lines[-1].strip() if lines else f"{command[2]} ended with status {done.returncode}")


def cache_folder() -> Path:
    """`$PLANISH_CACHE`, else `planish` where the operating system wants a user's caches; OSError without a home."""
    if chosen := os.environ.get("PLANISH_CACHE"):
        return Path(chosen).absolute()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else _home() / "AppData" / "Local") / "planish"
    if sys.platform == "darwin":
        return _home() / "Library" / "Caches" / "planish"
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))  # the specification ignores a relative path
    return (xdg if xdg.is_absolute() else _home() / ".cache") / "planish"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise OSError(f"{error}".rstrip(".")) from error


@contextmanager
def exclusive(path: Path) -> Generator[None]:
    """Hold the lock on file `path` against every other process and thread; the system frees it if its holder dies."""
    with path.open("ab") as file:  # closing it frees the lock; the file stays, since removing it would race
        if sys.platform == "win32":
            _lock_on_windows(file.fileno())
        else:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        yield


def _lock_on_windows(descriptor: int) -> None:
    if sys.platform == "win32":
        while True:  # msvcrt's own waiting gives up after ten seconds
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            except PermissionError:
                time.sleep(0.1)
            else:
                return


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """`path` holds all of `content` or does not exist. The caller holds the lock of the folder."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
