"""What other tools and planish make of the same models: nodes, seconds, memory, and whether the results still agree.

    python tests/bench/peers.py [MODEL ...] [--tools planish onnxslim] [--json FILE] [--keep FOLDER]

A MODEL is a file, a name of the zoo, of the builders, of the architectures (resnet50-dynamo) or of onnx's light models,
or a group of these: zoo, builders, architectures, light. All four groups by default. The tools are installed at pinned
versions into an environment of their own in planish's cache folder, which needs pip and an index; the zoo is fetched in
the same way.

Every tool runs on every model in a fresh process. Nodes are counted without Constant and with nested graphs; `*` marks
a model that needs operators of another domain than ONNX's own. Seconds are from reading the file to having written the
result, without imports; memory is the most that the process has held (VmHWM), imports included. The error is the
largest difference of a finite element as a part of the largest element, in the worst run on the inputs of `planish
compare`; `DIFFERS` is more than rounding explains.
crash: the process died or hung. refused: the tool raised an error. invalid: ONNX Runtime cannot open the result.
checker: onnx's checker refuses it. interface: its inputs or outputs are others. The last two still take part where the
fewest nodes are asked for, since a caller may not mind.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import cast, get_args

import onnx
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir, runtime
from planish.models.architectures import ARCHITECTURES, Exporter
from planish.models.builders import BUILDERS
from planish.models.fetch import cache_folder, exclusive
from planish.models.zoo import ZOO, fetch
from planish.runtime.providers import Target
from planish.runtime.session import Session

PINS = (
    "onnx==1.23.2",
    "onnxruntime==1.31.1",
    "onnxslim==0.1.98",
    "onnxsim==0.8.1",
    "onnxoptimizer==0.4.2",
    "onnxscript==0.7.2",
)
BUILT: Mapping[str, Callable[[], ir.Graph]] = {
    f"{name}-{exporter}": partial(build, exporter)
    for name, build in ARCHITECTURES.items()
    for exporter in cast("tuple[Exporter, ...]", get_args(Exporter))
}
PLANISH = "planish"
RAW = "raw"
_PLAIN = Target(threads=1, optimization="disabled")
_TIMEOUT_SECONDS = 900.0


@dataclass(frozen=True)
class Tool:
    """Python that reads the file `source` and writes `target`; what it imports is not timed."""

    imports: str
    work: str


_ORT = """
options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.{level}
options.optimized_model_filepath = target
onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
"""
TOOLS: Mapping[str, Tool] = {
    "onnxslim": Tool("import onnxslim", "onnxslim.slim(source, target)"),
    "onnxsim": Tool(
        "import onnx, onnxsim",
        "model, sure = onnxsim.simplify(source)\nonnx.save(model, target)",
    ),
    "onnxoptimizer": Tool(
        "import onnx, onnxoptimizer",
        "onnx.save(onnxoptimizer.optimize(onnx.load(source), fixed_point=True), target)",
    ),
    "onnxscript": Tool(
        "import onnx, onnxscript.optimizer, onnxscript.rewriter",
        "model = onnxscript.optimizer.optimize(onnx.load(source))\n"
        "onnx.save(onnxscript.rewriter.rewrite(model), target)",
    ),
    "ort-basic": Tool("import onnxruntime", _ORT.format(level="ORT_ENABLE_BASIC")),
    "ort-all": Tool("import onnxruntime", _ORT.format(level="ORT_ENABLE_ALL")),
    PLANISH: Tool(
        "from planish import ir, passes",
        "graph = ir.load(source)\npasses.run(graph, 'deploy')\nir.save(graph, target)",
    ),
}
_CHILD = """
import json, pathlib, sys, time
source, target, outcome = sys.argv[1:]
{imports}
begin = time.perf_counter()
{work}
seconds = time.perf_counter() - begin
status = pathlib.Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
peak = next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)
pathlib.Path(outcome).write_text(json.dumps(dict(seconds=seconds, megabytes=peak)))
"""


@dataclass(frozen=True)
class Model:
    """A model to try tools on, with what `compare` must know of its inputs."""

    name: str
    path: Path
    bindings: Sequence[runtime.Binding] = ()
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])


@dataclass
class Row:
    """What a tool made of a model."""

    model: str
    tool: str
    verdict: str = "ok"
    nodes: int | None = None
    standard: bool = True
    seconds: float | None = None
    megabytes: float | None = None
    error: float | None = None
    reason: str = ""
    path: str = ""
    """The file, where it is kept."""

    @property
    def good(self) -> bool:
        return self.verdict == "ok"

    @property
    def usable(self) -> bool:
        """Whether it computes what the model does, as far as it could be tried."""
        return self.verdict in ("ok", "checker", "interface")

    def text(self) -> str:
        def number(value: float | None, form: str) -> str:
            return "-" if value is None else format(value, form)

        nodes = number(self.nodes, "d") + ("" if self.standard else "*")
        return (
            f"{self.model:32} {self.tool:14} {nodes:>7} {number(self.seconds, '.2f'):>8} "
            f"{number(self.megabytes, '.0f'):>7} {number(self.error, '.2g'):>9} "
            f"{self.verdict if not self.good else '':8} {self.reason}"
        ).rstrip()


# Models


def models(names: Sequence[str], folder: Path) -> Iterator[Model]:
    """The models of those names; those of builders are written below `folder`."""
    light = Path(onnx.__file__).parent / "backend/test/data/light"
    files = sorted(path.stem for path in light.glob("*.onnx"))
    groups = {"zoo": list(ZOO), "builders": list(BUILDERS), "architectures": list(BUILT), "light": files}
    for name in (member for group in names for member in groups.get(group, [group])):
        if name in ZOO:
            entry = ZOO[name]
            bindings = [runtime.Binding(binding.shapes, binding.fixed) for binding in entry.bindings]
            yield Model(name, fetch(name), bindings, {key: (low, high) for key, (low, high) in entry.ranges.items()})
        elif name in BUILDERS or name in BUILT:
            path = folder / name / f"{RAW}.onnx"
            path.parent.mkdir(parents=True, exist_ok=True)
            ir.save(BUILT[name]() if name in BUILT else BUILDERS[name](), path)
            yield Model(name, path)
        else:
            path = light / f"{name}.onnx" if name in groups["light"] else Path(name)
            if not path.is_file():
                raise SystemExit(f"{name} is neither a file nor one of {', '.join([*groups, *ZOO, *BUILDERS, *BUILT])}")
            yield Model(path.stem, path)


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        if node.op_type != "Constant":
            yield node
        for attribute in node.attribute:
            for nested in (attribute.g, *attribute.graphs):
                yield from nodes_of(nested)


# Tools


def environment() -> Path:
    """The Python of an environment that holds the tools, made at the first call."""
    pins = hashlib.sha256(" ".join((*PINS, sys.version)).encode()).hexdigest()[:12]
    folder = cache_folder() / "peers" / pins
    python, done = folder / "bin" / "python", folder / "done"
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder.parent / f"{pins}.lock"):
        if not done.exists():
            print(f"installing {', '.join(PINS)} into {folder}", file=sys.stderr)
            venv.create(folder, with_pip=True, clear=True)
            subprocess.run([python, "-m", "pip", "install", "-q", *PINS], check=True)
            done.touch()
    return python


def apply(tool: str, model: Model, target: Path, python: Path) -> Row:
    """Run a tool on a model in a process of its own, and look at what it wrote."""
    row = Row(model.name, tool)
    recipe = TOOLS[tool]
    code = _CHILD.format(imports=recipe.imports, work=recipe.work)
    outcome = target.with_suffix(".json")
    interpreter = sys.executable if tool == PLANISH else str(python)
    command = [interpreter, "-P", "-c", code, str(model.path), str(target), str(outcome)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        row.verdict, row.reason = "crash", f"no result after {_TIMEOUT_SECONDS:g} s"
        return row
    if done.returncode or not outcome.exists():
        row.verdict = "crash" if done.returncode < 0 or not done.returncode else "refused"
        row.reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:120]
        return row
    found = cast("dict[str, float | None]", json.loads(outcome.read_text()))
    row.seconds, row.megabytes = found["seconds"], found["megabytes"]
    count(target, row)
    return row


def count(path: Path, row: Row) -> None:
    """Nodes and domains of a model, and whether it is valid."""
    try:
        nodes = list(nodes_of(onnx.load_model_from_string(path.read_bytes()).graph))
        row.nodes = len(nodes)
        row.standard = all(node.domain in ("", "ai.onnx", "ai.onnx.ml") for node in nodes)
        Session(path, _PLAIN)
    except Exception as error:  # what a broken file raises has no common base
        row.verdict, row.reason = "invalid", first_line(error)
        return
    try:
        check_model(path, full_check=row.standard)
    except Exception as error:  # the checker's own error, and those of shape inference
        row.verdict, row.reason = "checker", first_line(error)


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:140]


def judge(model: Model, target: Path, row: Row) -> None:
    """Hold the results against the raw model's."""
    try:
        report = runtime.compare(
            model.path, target, target=Target(threads=1), bindings=model.bindings, ranges=model.ranges
        )
    except (ir.GraphError, runtime.SessionError) as error:
        row.verdict, row.reason = "invalid", first_line(error)
        return
    worst = [output.worst for output in report.outputs]
    row.error = max((found.max_abs / found.scale if found.scale else found.max_abs for found in worst), default=None)
    if not report.equal:
        row.verdict, row.reason = "DIFFERS" if report.runs else "interface", report.reason[:140]


def measure(model: Model, tools: Sequence[str], folder: Path, *, check: bool) -> Iterator[Row]:
    """A row a tool, and before them one of the raw model."""
    raw = Row(model.name, RAW, path=str(model.path.absolute()))
    count(model.path, raw)
    yield raw
    python = environment() if set(tools) - {PLANISH} else Path(sys.executable)
    for tool in tools:
        target = folder / f"{tool}.onnx"
        row = apply(tool, model, target, python)
        row.path = str(target)
        if row.usable and check:
            judge(model, target, row)
        if not row.usable:
            target.unlink(missing_ok=True)
        yield row


# What it amounts to


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """For each tool: on how many models it has the fewest nodes, alone or not, and its faults."""
    tools = list(dict.fromkeys(row.tool for row in rows if row.tool != RAW))
    models = list(dict.fromkeys(row.model for row in rows))
    for title, contest in (
        ("all tools", [row for row in rows if row.tool != RAW]),
        ("ONNX's own operators alone", [row for row in rows if row.tool != RAW and row.standard]),
    ):
        best: dict[str, int] = {}
        for row in contest:
            if row.usable and row.nodes is not None:
                best[row.model] = min(row.nodes, best.get(row.model, row.nodes))
        winners = {m: [r.tool for r in contest if r.usable and r.model == m and r.nodes == best[m]] for m in best}
        yield f"{title}: of {len(models)} models"
        for tool in tools:
            fewest = sum(tool in names for names in winners.values())
            alone = sum(names == [tool] for names in winners.values())
            yield f"  {tool:14} fewest nodes on {fewest:3}, strictly fewest on {alone:3}"
    yield "results with a fault"
    for tool in tools:
        verdicts = [row.verdict for row in rows if row.tool == tool and not row.good]
        words = ", ".join(f"{verdict} {verdicts.count(verdict)}" for verdict in dict.fromkeys(verdicts))
        yield f"  {tool:14} {words or 'none'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", default=["zoo", "builders", "architectures", "light"])
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--keep", type=Path, help="leave what the tools wrote here, as MODEL/TOOL.onnx")
    parser.add_argument("--no-compare", action="store_true", help="do not run the models")
    options = parser.parse_args()
    rows: list[Row] = []
    print(f"{'model':32} {'tool':14} {'nodes':>7} {'seconds':>8} {'MB':>7} {'error':>9}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).absolute()
        for model in models(options.models, folder):
            place = folder / model.name
            place.mkdir(parents=True, exist_ok=True)
            for row in measure(model, options.tools, place, check=not options.no_compare):
                print(row.text(), flush=True)
                rows.append(row)
    print("\n".join(summary(rows)))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
