"""The house holds: imports go one way, libraries stay at their edges, files stay short. Each rule is shown to bite."""

import ast
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("ir", "passes", "runtime", "models")
MAX_LINES = 400

# A file imports from its own folder, from those named here, and from those that one of its patterns adds.
BELOW = {"ir": (), "passes": ("ir",), "runtime": ("ir", "passes"), "models": ("ir",)}
ALSO_BELOW = {
    "models/tasks*": ("passes", "runtime"),
    "models/demo.py": ("passes", "runtime"),
    "models/lower/*": ("runtime",),
}

PROTOBUF = ("ir/load*.py", "ir/emit*.py", "ir/ops/schema*.py", "ir/ops/reference*.py", "models/*")
LIBRARIES = {
    "numpy": ("*",),
    "ml_dtypes": ("*",),
    "networkx": ("*",),
    "joblib": ("runtime/shards.py",),
    "PIL": (
        *("models/tasks/binary_files.py", "models/tasks/line_pictures.py", "models/tasks/photographs.py"),
        "models/zoo/images.py",
    ),
    "font_caladea": ("models/tasks/line_pictures.py",),
    "font_lato": ("models/tasks/line_pictures.py",),
    "onnx": PROTOBUF,
    "google.protobuf": PROTOBUF,
    "onnxruntime": ("runtime/session.py", "runtime/providers.py"),
    "torch": ("models/lower/pytorch.py", "models/zoo/minilm.py", "models/zoo/efficientnet.py"),
    "sklearn": ("models/lower/sklearn.py",),
    "skl2onnx": ("models/lower/sklearn.py",),
    "tensorflow": ("models/lower/tensorflow.py",),
    "keras": ("models/lower/tensorflow.py",),
    "tf2onnx": ("models/lower/tensorflow.py",),
    "tokenizers": ("models/zoo/text.py",),
}

# What an extra brings, and its name there.
OPTIONAL = {
    "onnxruntime": ("cpu", "onnxruntime"),
    "PIL": ("tasks", "pillow"),
    "font_caladea": ("tasks", "font-caladea"),
    "font_lato": ("tasks", "font-lato"),
    "torch": ("torch", "torch"),
    "sklearn": ("sklearn", "scikit-learn"),
    "skl2onnx": ("sklearn", "skl2onnx"),
    "tensorflow": ("tensorflow", "tensorflow"),
    "keras": ("tensorflow", "keras"),
    "tf2onnx": ("tensorflow", "tf2onnx"),
    "tokenizers": ("zoo", "tokenizers"),
}

# Files that load modules by path so that what is not used is not imported.
BY_PATH = (
    *("runtime/__init__.py", "runtime/cli.py", "runtime/cli/*.py", "models/tasks/__init__.py"),
    *("models/lower/framework.py", "models/lower/named.py", "models/zoo/lowered.py"),
)


@dataclass(frozen=True)
class Import:
    module: str
    name: str | None
    """What `from module import name` takes; None for `import module`."""
    level: int
    line: int
    in_function: bool
    for_checkers: bool
    """Under `if TYPE_CHECKING`: read by type checkers, never run."""


@dataclass(frozen=True)
class Source:
    path: str
    lines: int
    imports: tuple[Import, ...]
    by_path: tuple[int, ...]
    """Lines that import a module by a name in a string."""

    @property
    def module(self) -> str:
        return "planish." + self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports_in(node: ast.AST, in_function: bool = False, for_checkers: bool = False) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, None, 0, node.lineno, in_function, for_checkers)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield Import(node.module or "", alias.name, node.level, node.lineno, in_function, for_checkers)
    inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    never_run = node.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" else []
    for child in ast.iter_child_nodes(node):
        yield from imports_in(child, inside, for_checkers or child in never_run)


def imports_by_path(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            if name in {"__import__", "import_module"}:
                yield node.lineno


def read(root: Path, folders: tuple[str, ...] = FOLDERS) -> list[Source]:
    sources: list[Source] = []
    for folder in folders:
        for file in sorted((root / folder).rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            tree = ast.parse(text, file)
            path = file.relative_to(root).as_posix()
            sources.append(Source(path, len(text.splitlines()), tuple(imports_in(tree)), tuple(imports_by_path(tree))))
    return sources


def matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(path, pattern) for pattern in patterns)


def imports_go_one_way(root: Path) -> Iterator[str]:
    for source in read(root):
        folder = source.path.split("/")[0]
        added = [name for pattern, names in ALSO_BELOW.items() if fnmatch(source.path, pattern) for name in names]
        for item in source.imports:
            parts = item.module.split(".")
            if parts[0] != "planish" or item.level:
                continue
            target = parts[1] if len(parts) > 1 else item.name
            if target not in {folder, *BELOW[folder], *added}:
                yield f"{source.path}:{item.line}: {folder} must not import planish.{target}"


def libraries_stay_at_their_edges(root: Path) -> Iterator[str]:
    for source in read(root):
        for item in source.imports:
            package = item.module.split(".")[0]
            if item.level or package == "planish" or package in sys.stdlib_module_names:
                continue
            full = f"{item.module}.{item.name}" if item.name else item.module
            library = next((name for name in LIBRARIES if f"{full}.".startswith(f"{name}.")), None)
            if library is None:
                yield f"{source.path}:{item.line}: {full} is no dependency of planish"
            elif not matches(source.path, LIBRARIES[library]):
                yield f"{source.path}:{item.line}: {library} stays in {', '.join(LIBRARIES[library])}"


def imports_are_absolute_and_at_the_top(root: Path) -> Iterator[str]:
    for source in read(root, (*FOLDERS, "tests")):
        for item in source.imports:
            if item.level:
                yield f"{source.path}:{item.line}: relative import"
            if item.in_function:
                yield f"{source.path}:{item.line}: import inside a function"
            if item.level == 0 and item.module.split(".")[0] in FOLDERS:
                yield f"{source.path}:{item.line}: {item.module} is planish.{item.module}"
        if source.path.startswith("tests/") or matches(source.path, BY_PATH):
            continue
        yield from (f"{source.path}:{line}: import by path" for line in source.by_path)


def modules_load_in_an_order(root: Path) -> Iterator[str]:
    """An edge for every module whose body must have run: the imported one and its packages, less the importer's own."""
    sources = {source.module: source for source in read(root)}
    loads: nx.DiGraph[str] = nx.DiGraph()
    for module, source in sources.items():
        for item in source.imports:
            if item.for_checkers:
                continue
            named = f"{item.module}.{item.name}"
            target = named if named in sources else item.module
            parts = target.split(".")
            ran = {".".join(parts[: length + 1]) for length in range(1, len(parts))}
            own_packages = {package for package in ran if f"{module}.".startswith(f"{package}.")}
            loads.add_edges_from((module, package) for package in ran - own_packages if package in sources)
            if target != module and item.name and target in own_packages:
                loads.add_edge(module, target)  # takes a name from a package that is still running
    for cycle in nx.strongly_connected_components(loads):
        if len(cycle) > 1:
            yield f"{', '.join(sorted(sources[module].path for module in cycle))}: import each other"


def files_are_short(root: Path) -> Iterator[str]:
    for source in read(root, (*FOLDERS, "tests")):
        if source.lines > MAX_LINES:
            yield f"{source.path}: {source.lines} lines, more than {MAX_LINES}"


Rule = Callable[[Path], Iterator[str]]
RULES: tuple[Rule, ...] = (
    imports_go_one_way,
    libraries_stay_at_their_edges,
    imports_are_absolute_and_at_the_top,
    modules_load_in_an_order,
    files_are_short,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_holds(rule: Rule) -> None:
    assert list(rule(ROOT)) == []


@pytest.mark.parametrize(
    ("rule", "files", "message"),
    [
        (imports_go_one_way, {"ir/a.py": "from planish.passes import run"}, "ir must not import planish.passes"),
        (imports_go_one_way, {"ir/a.py": "import planish.runtime.session"}, "ir must not import planish.runtime"),
        (imports_go_one_way, {"passes/a.py": "from planish import runtime"}, "passes must not import planish.runtime"),
        (imports_go_one_way, {"runtime/a.py": "from planish.models import zoo"}, "must not import planish.models"),
        (imports_go_one_way, {"models/zoo.py": "from planish import runtime"}, "must not import planish.runtime"),
        (libraries_stay_at_their_edges, {"passes/a.py": "import onnx.helper"}, "onnx stays in ir/load"),
        (libraries_stay_at_their_edges, {"ir/graph.py": "from google import protobuf"}, "google.protobuf stays in"),
        (libraries_stay_at_their_edges, {"runtime/a.py": "import onnxruntime as ort"}, "onnxruntime stays in"),
        (libraries_stay_at_their_edges, {"models/a.py": "import jax"}, "jax is no dependency"),
        (libraries_stay_at_their_edges, {"models/a.py": "import torch"}, "torch stays in models/lower/pytorch.py"),
        (imports_are_absolute_and_at_the_top, {"ir/a.py": "from . import b"}, "relative import"),
        (imports_are_absolute_and_at_the_top, {"ir/a.py": "def f():\n    import os"}, "a.py:2: import inside"),
        (imports_are_absolute_and_at_the_top, {"tests/a.py": "from ir import b"}, "ir is planish.ir"),
        (imports_are_absolute_and_at_the_top, {"ir/a.py": "f = __import__"}, "import by path"),
        (
            modules_load_in_an_order,
            {"ir/a.py": "from planish.ir import b", "ir/b.py": "import planish.ir.a"},
            "ir/a.py, ir/b.py: import each other",
        ),
        (
            modules_load_in_an_order,
            {"ir/__init__.py": "from planish.ir.a import A", "ir/a.py": "from planish.ir import B"},
            "ir/__init__.py, ir/a.py: import each other",
        ),
        (
            modules_load_in_an_order,
            {
                "ir/a.py": "from planish.ir.ops.schema import S",
                "ir/ops/__init__.py": "from planish.ir.ops.b import B",
                "ir/ops/b.py": "from planish.ir.a import A",
                "ir/ops/schema.py": "",
            },
            "ir/a.py, ir/ops/__init__.py, ir/ops/b.py: import each other",
        ),
        (files_are_short, {"runtime/a.py": "pass\n" * 401}, "runtime/a.py: 401 lines"),
    ],
)
def test_each_rule_bites(tmp_path: Path, rule: Rule, files: dict[str, str], message: str) -> None:
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    violations = list(rule(tmp_path))
    assert len(violations) == 1
    assert message in violations[0]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_sound_house_passes(tmp_path: Path, rule: Rule) -> None:
    files = {
        "ir/__init__.py": "from planish.ir.graph import Graph\nfrom planish.ir.load import load",
        "ir/graph.py": "import numpy as np\nfrom planish.ir import errors, types",
        "ir/errors.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from planish.ir.graph import Node",
        "ir/types.py": "from __future__ import annotations\nimport enum",
        "ir/load.py": "import onnx\nfrom google.protobuf import message\nfrom planish.ir.graph import Graph",
        "ir/ops/__init__.py": "from planish.ir.ops.schema import S",
        "ir/ops/schema.py": "from onnx import defs\nfrom planish.ir.types import T",
        "passes/manager.py": "from planish import ir\nimport planish.ir.graph",
        "runtime/__init__.py": "from importlib import import_module\nimport_module('planish.runtime.session')",
        "runtime/session.py": "import onnxruntime\nfrom planish import passes, runtime",
        "models/tasks.py": "from planish.runtime import compare",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    assert list(rule(tmp_path)) == []


def test_the_dependencies_are_the_libraries_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {requirement.split(">")[0] for requirement in project["dependencies"]}
    assert declared == set(LIBRARIES) - {"google.protobuf"} - set(OPTIONAL)  # protobuf comes with onnx
    for extra, name in OPTIONAL.values():
        assert name in {requirement.split(">")[0] for requirement in project["optional-dependencies"][extra]}


def test_checkers_see_the_installed_tree() -> None:
    assert (ROOT / ".typing" / "planish").resolve() == ROOT
    assert not (ROOT / "__init__.py").exists(), "planish is a namespace"
