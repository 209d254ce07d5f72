"""Every example in README.md, CONTRIBUTING.md and docs/ runs as it is printed.

A page runs in a folder of its own that holds `model.onnx`, its blocks in order: `python` blocks share their names,
`console` blocks run the lines after `$ `, `sh` blocks every line. Any other block is not an example.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).parents[1]
REQUIRED = ("README.md", "CONTRIBUTING.md")
PAGES = (*REQUIRED, *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))))

# Setting up a checkout, not using planish: the suite is itself run by these.
SET_UP = ("make", "git ", "cd ", "uv ", "pip ", "pytest ", "python -m venv ", "python3 -m venv ", ".venv/bin/pytest ")
# Its examples need PyTorch and scikit-learn: they run with the tests of lowering.
LOWERING = ("docs/lowering.md",)
# These fetch from a package registry; the tests of the zoo and of the demo run them.
FETCHING = ("planish zoo fetch", "planish demo")

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)``` *$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    language: str
    line: int
    """Where its first line stands in the page, from 1."""
    text: str


def blocks_in(page: str) -> Iterator[Block]:
    for match in FENCE.finditer(page):
        indent, body = match["indent"], match["body"]
        text = "".join(line.removeprefix(indent) for line in body.splitlines(keepends=True))
        yield Block(match["language"], page.count("\n", 0, match.start("body")) + 1, text)


def commands_in(block: Block) -> Iterator[str]:
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    yield from (line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))


def examples_in(page: str) -> list[Block]:
    return [block for block in blocks_in(page) if block.language in {"python", "console", "sh"}]


def run_command(command: str, where: str) -> None:
    """Runs a line whose first word is planish; refuses one that this test would leave untried without saying so."""
    if command.startswith(SET_UP + FETCHING):
        return
    assert command.startswith("planish "), f"{where}: `{command}` is not run by any test"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{where}: `{command}` ended with {done.returncode}\n{done.stdout}{done.stderr}"


def run_page(name: str, page: str, names: dict[str, object]) -> None:
    for block in examples_in(page):
        if block.language == "python":
            above = "\n" * (block.line - 1)  # a traceback then names the line of the page
            exec(compile(above + block.text, name, "exec"), names)
        else:
            for command in commands_in(block):
                run_command(command, f"{name}:{block.line}")


def read_page(name: str) -> str:
    assert (ROOT / name).exists(), f"{name} is missing"
    return (ROOT / name).read_text(encoding="utf-8")


def small_net() -> onnx.ModelProto:
    """Conv, BatchNormalization, Relu over 1x3x16x16, with an Identity that any pipeline removes."""
    random = np.random.default_rng(0)
    weights = {
        "w": random.standard_normal((8, 3, 3, 3)),
        "b": random.standard_normal(8),
        "scale": random.uniform(0.5, 2, 8),
        "bias": random.standard_normal(8),
        "mean": random.standard_normal(8),
        "var": random.uniform(0.5, 2, 8),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["conv", "scale", "bias", "mean", "var"], ["norm"]),
        helper.make_node("Identity", ["norm"], ["same"]),
        helper.make_node("Relu", ["same"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8, 16, 16])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The names of a fresh module, in a fresh folder with model.onnx; what an example defines lives in that module."""
    (tmp_path / "model.onnx").write_bytes(small_net().SerializeToString())
    monkeypatch.chdir(tmp_path)
    module = ModuleType("planish_example")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.__dict__


@pytest.mark.parametrize(
    "name", [pytest.param(page, marks=pytest.mark.lowering) if page in LOWERING else page for page in PAGES]
)
def test_examples_run_as_printed(name: str, names: dict[str, object]) -> None:
    run_page(name, read_page(name), names)


def test_the_readme_shows_python_and_the_command_line() -> None:
    blocks = examples_in(read_page("README.md"))
    assert any(block.language == "python" for block in blocks)
    assert any(command.startswith("planish ") for block in blocks for command in commands_in(block))


SAMPLE = """# A page
```python
size = len(open("model.onnx", "rb").read())
```
text `inline` and

```text
planish nothing that runs
```

1. An item
   ```sh
   # a comment
   planish optimize model.onnx \\
       -o out.onnx

   make demo
   ```
```console
$ planish passes
fuse-conv-bn    3 rewrites
```
```
plain
```
"""


def test_blocks_are_found_with_their_lines() -> None:
    found = [(block.language, block.line) for block in blocks_in(SAMPLE)]
    assert found == [("python", 3), ("text", 8), ("sh", 13), ("console", 20), ("", 24)]
    _, shell, console = examples_in(SAMPLE)
    assert list(commands_in(shell)) == ["planish optimize model.onnx      -o out.onnx", "make demo"]
    assert list(commands_in(console)) == ["planish passes"]


def test_python_blocks_share_names_and_fail_where_they_stand(names: dict[str, object]) -> None:
    page = '```python\nfrom pathlib import Path\nPath("seen").touch()\nx = 1\n```\n\n```python\nassert x == 2\n```\n'
    with pytest.raises(AssertionError) as failure:
        run_page("page.md", page, names)
    assert Path("seen").exists()
    last = failure.traceback[-1]
    assert (Path(last.path).name, last.lineno + 1) == ("page.md", 8)


def test_classes_in_examples_are_real(names: dict[str, object]) -> None:
    definition = "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass P:\n    n: int = 1\np = P()\n"
    run_page("page.md", f"```python\n{definition}```\n", names)
    assert repr(names["p"]) == "P(n=1)"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("$ planish no-such-command", "page.md:2: `planish no-such-command` ended with"),
        ("$ rm -r folder", "page.md:2: `rm -r folder` is not run by any test"),
    ],
)
def test_a_command_that_fails_or_is_unknown_fails_the_page(names: dict[str, object], line: str, message: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(message)):
        run_page("page.md", f"```console\n{line}\n```\n", names)


def test_commands_run_in_the_folder_of_the_page(names: dict[str, object]) -> None:
    run_page("page.md", "```sh\nplanish --help > help.txt\n```\n", names)
    assert "optimize" in Path("help.txt").read_text(encoding="utf-8")


def test_set_up_lines_are_left_alone(names: dict[str, object]) -> None:
    run_page(
        "page.md",
        "```sh\nmake no-such-target\npip install nothing\nplanish zoo fetch nothing\n.venv/bin/pytest nothing\n```\n",
        names,
    )
