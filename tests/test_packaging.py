"""What pip installs from a wheel is what the checkout holds: every module, every data file, the types, and no more."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import BytesParser
from importlib import metadata
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("ir", "passes", "runtime", "models")
BUILD_INPUTS = ("pyproject.toml", "README.md", "LICENSE")


def files_of_the_tree() -> set[str]:
    """Every file under the four folders, as a path below the namespace."""
    files = (file for folder in FOLDERS for file in (ROOT / folder).rglob("*") if file.is_file())
    return {f"planish/{file.relative_to(ROOT).as_posix()}" for file in files if "__pycache__" not in file.parts}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel made from that sdist; built from a copy, so the checkout stays clean."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    source.mkdir()
    for name in BUILD_INPUTS:
        shutil.copy(ROOT / name, source)
    for name in (*FOLDERS, "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs."""
    site = tmp_path_factory.mktemp("site")
    (file,) = built.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(site)
    return site


def installed_files(wheel: Path) -> set[str]:
    return {file.relative_to(wheel).as_posix() for file in wheel.rglob("*") if file.is_file()}


def read_metadata(wheel: Path) -> Message:
    (file,) = wheel.glob("*.dist-info/METADATA")
    return BytesParser().parsebytes(file.read_bytes())


def test_the_wheel_holds_the_tree_and_nothing_else(wheel: Path) -> None:
    installed = {name for name in installed_files(wheel) if ".dist-info/" not in name}
    assert installed == files_of_the_tree()


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {PurePosixPath(name).parent for name in files_of_the_tree() if name.endswith(".py")}
    assert [folder for folder in sorted(folders) if f"{folder}/__init__.py" not in files_of_the_tree()] == []


def test_the_wheel_says_that_it_is_typed(wheel: Path) -> None:
    assert {f"planish/{folder}/py.typed" for folder in FOLDERS} <= installed_files(wheel)
    assert "planish/__init__.py" not in installed_files(wheel), "planish is a namespace"


def test_the_wheel_carries_name_licence_and_command(wheel: Path) -> None:
    described = read_metadata(wheel)
    assert (described["Name"], described["Version"]) == ("planish", metadata.version("planish"))
    assert (described["License-Expression"], described["Requires-Python"]) == ("Apache-2.0", ">=3.11")
    (info,) = wheel.glob("*.dist-info")
    assert (info / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    commands = metadata.PathDistribution(info).entry_points.select(group="console_scripts")
    assert [(command.name, command.value) for command in commands] == [("planish", "planish.runtime.cli:main")]


def test_onnxruntime_is_asked_for_by_extras_alone(wheel: Path) -> None:
    required = read_metadata(wheel).get_all("Requires-Dist", [])
    runtimes = {line for line in required if line.startswith("onnxruntime")}
    assert {line.split("; ")[1] for line in runtimes} == {'extra == "cpu"', 'extra == "gpu"'}


def test_the_wheel_imports_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    names = ", ".join(f"planish.{folder}" for folder in FOLDERS)
    files = ", ".join(f"planish.{folder}.__file__" for folder in FOLDERS)
    code = f"import sys; sys.path.insert(0, {str(wheel)!r}); import {names}; print({files}, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert [Path(line) for line in done.stdout.split()] == [
        wheel / "planish" / folder / "__init__.py" for folder in FOLDERS
    ]


def test_the_sdist_holds_what_a_build_needs(built: Path) -> None:
    (file,) = built.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {name.removeprefix("planish/") for name in files_of_the_tree()} | set(BUILD_INPUTS) <= names
