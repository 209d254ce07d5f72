"""Sources: files that are read, and those that are refused; module:attribute; frameworks that are not installed."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from importlib import invalidate_caches
from pathlib import Path

import pytest

from planish.models.lower import LowerError, framework, lower, named_model

SOURCES = """
import math

value = 3

class Maker:
    @staticmethod
    def make():
        return value

def fail():
    print("never seen")
    raise RuntimeError("no weights here")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "planish_nets", raising=False)
    Path("planish_nets.py").write_text(SOURCES, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.onnx", "is ONNX already; planish optimize"),
        ("model.pkl", "is a pickle, and loading one runs whatever code is in it.*--trust-pickle"),
        ("model.joblib", "is a pickle"),
        ("model.txt", r"does not know how to read a \.txt; it reads \.pt2, \.pt"),
        ("model", "does not know how to read a file without an ending"),
    ],
)
def test_files_that_are_refused(name: str, message: str) -> None:
    Path(name).write_bytes(b"cos\nsystem\n(S'touch broken'\ntR.")
    with pytest.raises(LowerError, match=message):
        lower(name, "out.onnx")
    assert not Path("broken").exists()
    assert not Path("out.onnx").exists()


def test_what_is_not_there_or_no_model() -> None:
    Path("folder").mkdir()
    for source, message in (
        ("none.pt2", "none.pt2: no such file"),
        ("folder", r"is a folder without saved_model\.pb"),
        (3, "a int is no model that planish can lower"),
        (Path, "the class Path is no model"),
    ):
        with pytest.raises(LowerError, match=message):
            lower(source)


def test_module_and_attribute() -> None:
    assert named_model("planish_nets:value") == 3
    assert named_model("planish_nets:Maker.make") == 3
    assert named_model("planish_nets.py") == "planish_nets.py"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no_such_nets:make", "the module 'no_such_nets' cannot be imported: ModuleNotFoundError"),
        ("planish_nets:valeu", "there is no attribute 'valeu'; did you mean 'value'"),
        ("planish_nets:fail", "planish_nets:fail: calling it failed: RuntimeError: no weights here"),
    ],
)
def test_bad_module_and_attribute(text: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LowerError, match=message):
        named_model(text)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("file", "name", "extra"),
    [("m.pt2", "pytorch", "torch"), ("m.keras", "tensorflow", "tensorflow"), ("m.joblib", "sklearn", "sklearn")],
)
def test_a_missing_extra_is_named(file: str, name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(framework.FRAMEWORKS[name], packages=("no_such_framework",))
    monkeypatch.setattr(framework, "FRAMEWORKS", {**framework.FRAMEWORKS, name: absent})
    Path(file).write_bytes(b"")
    with pytest.raises(LowerError, match=rf"No module named 'no_such_framework'.*pip install 'planish\[{extra}\]'"):
        lower(file, trust_pickle=True)


@pytest.mark.parametrize(
    ("name", "extra"), [("pytorch", "torch"), ("tensorflow", "tensorflow"), ("sklearn", "sklearn")]
)
def test_a_missing_extra_is_named_where_the_users_own_module_imports_it(
    name: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = replace(framework.FRAMEWORKS[name], packages=("no_such_framework",))
    monkeypatch.setattr(framework, "FRAMEWORKS", {name: absent})
    source = "def make():\n    import no_such_framework.layers\n"
    for content, where in ((source, "calling it failed"), ("import no_such_framework", "cannot be imported")):
        monkeypatch.delitem(sys.modules, "planish_nets", raising=False)
        Path("planish_nets.py").write_text(content, encoding="utf-8")
        invalidate_caches()
        shutil.rmtree("__pycache__", ignore_errors=True)
        with pytest.raises(LowerError, match=rf"{where}: .*'no_such_framework': pip install 'planish\[{extra}\]'$"):
            named_model("planish_nets:make")


def test_quiet_gives_the_streams_back(capfd: pytest.CaptureFixture[str]) -> None:
    with framework.quiet():
        print("lost")
        sys.stderr.write("lost too")
    with pytest.raises(RuntimeError), framework.quiet():
        raise RuntimeError
    print("kept")
    assert capfd.readouterr() == ("kept\n", "")


def test_the_reason_is_the_first_line_of_the_root() -> None:
    outer = RuntimeError("pages of advice")
    outer.__cause__ = ValueError("\n  the root \nadvice")
    assert framework.reason(outer) == "ValueError: the root"
    assert framework.reason(ValueError("these:\n- this\n- that")) == "ValueError: these: - this"
    assert framework.reason(KeyError()) == "KeyError: no reason given"
