"""How fast ONNX Runtime runs what tools and planish make of models, against the models as they came.

    python tests/bench/latency.py [MODEL ...] [--tools planish onnxslim] [--seconds 6] [--creations 6] [--json FILE]

Models and tools are those of tests/bench/peers.py, which makes the files (and needs pip and an index the first time).
Both the model and what a tool made of it run under ORT_ENABLE_ALL on one thread, in turn, in processes of their own,
as `planish.runtime.benchmark` has them. A ratio is the raw model's time over the tool's, with its 95 % interval: above
1 the tool's is faster. The machine should have nothing else to do. Every pair takes `--seconds` and some to start.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from planish import ir, runtime
from planish.models.zoo import ZOO
from planish.runtime.benchmark import MIN_FEEDS
from planish.runtime.bindings import find_bindings
from planish.runtime.feeds import NORMAL, Feeds
from planish.runtime.providers import Target
from planish.runtime.session import Feed, Session

PEERS = Path(__file__).with_name("peers.py")
RAW = "raw"
TARGET = Target(threads=1, optimization="all")


@dataclass(frozen=True)
class Timing:
    """Of what one tool made of one model. Ratios are over the raw model, with the ends of their intervals."""

    model: str
    tool: str
    ratio: float
    low: float
    high: float
    verdict: str
    milliseconds: float
    creation: float | None
    creation_low: float | None
    creation_high: float | None
    note: str

    def text(self) -> str:
        creation = "-"
        if self.creation is not None:
            creation = f"{self.creation:.2f} ({self.creation_low:.2f}-{self.creation_high:.2f})"
        latency = f"{self.milliseconds:9.3f} {self.ratio:7.3f} ({self.low:.3f}-{self.high:.3f})"
        return f"{self.model:32} {self.tool:14} {latency} {self.verdict:11} {creation:20} {self.note}".rstrip()


def made(models: Sequence[str], tools: Sequence[str], folder: Path, *, check: bool) -> dict[str, dict[str, Path]]:
    """By model and tool, the files that compute what the model does; the raw one among them."""
    rows = folder / "rows.json"
    command = [sys.executable, str(PEERS), *models, "--json", str(rows), "--keep", str(folder)]
    command += ["--tools", *tools] if tools else []
    subprocess.run([*command, *(() if check else ("--no-compare",))], check=True)
    found: dict[str, dict[str, Path]] = {}
    for row in cast("list[dict[str, str]]", json.loads(rows.read_text())):
        if row["verdict"] in ("ok", "checker", "interface"):
            found.setdefault(row["model"], {})[row["tool"]] = Path(row["path"])
    return found


def feeds_of(name: str, raw: Path) -> Sequence[Mapping[str, Feed]]:
    """Inputs of one size: the zoo's last, else the largest of those that the model is found to accept."""
    entry = ZOO.get(name)
    ranges = {} if entry is None else {key: (low, high) for key, (low, high) in entry.ranges.items()}
    feeds = Feeds(ir.load(raw, functions="inline"), {}, ranges, 0)
    session = Session(raw, TARGET)

    def accepts(binding: runtime.Binding) -> bool:
        try:
            session.run(feeds.make(NORMAL, binding).feeds)
        except runtime.SessionError:
            return False
        return True

    if entry is not None:
        binding = feeds.complete(runtime.Binding(entry.bindings[-1].shapes, entry.bindings[-1].fixed))
    else:
        found = find_bindings(feeds.symbols, {}, accepts)
        if not found:
            raise SystemExit(f"{name} accepts none of the inputs that were tried")
        binding = max(found, key=lambda one: sum(math.prod(shape) for shape in one.shapes.values()))
    return [feeds.make(NORMAL, binding, turn=turn).feeds for turn in range(MIN_FEEDS)]


def timings(name: str, files: Mapping[str, Path], seconds: float, creations: int) -> Iterator[Timing]:
    """One a tool; the raw model runs anew beside each."""
    raw = files[RAW]
    feeds = feeds_of(name, raw)
    for tool, path in files.items():
        if tool == RAW:
            continue
        found = runtime.benchmark(raw, path, feeds, target=TARGET, budget_seconds=seconds)
        opened = runtime.benchmark_creation(raw, path, target=TARGET, repeats=creations) if creations else None
        yield Timing(
            model=name,
            tool=tool,
            ratio=found.ratio,
            low=found.low,
            high=found.high,
            verdict=found.verdict,
            milliseconds=1e3 * found.arms[1].median,
            creation=None if opened is None else opened.ratio,
            creation_low=None if opened is None else opened.low,
            creation_high=None if opened is None else opened.high,
            note=found.note,
        )


def means(rows: Sequence[Timing]) -> Iterator[str]:
    """Geometric means of each tool over the models that every tool got right, so that they compare."""
    tools = list(dict.fromkeys(row.tool for row in rows))
    models = {row.model for row in rows}
    shared = {m for m in models if {row.tool for row in rows if row.model == m} == set(tools)}
    yield f"geometric means over the {len(shared)} of {len(models)} models that every tool got right"
    for tool in tools:
        own = [row for row in rows if row.tool == tool and row.model in shared]
        creations = [row.creation for row in own if row.creation is not None]
        verdicts = [row.verdict for row in rows if row.tool == tool]
        counts = ", ".join(f"{verdict} {verdicts.count(verdict)}" for verdict in sorted(set(verdicts)))
        latency, creation = (geometric([row.ratio for row in own]), geometric(creations))
        yield f"  {tool:14} latency {latency:.3f}, session creation {creation:.3f}; over all models: {counts}"


def geometric(ratios: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--tools", nargs="+", default=[])
    parser.add_argument("--seconds", type=float, default=6.0, help="for each pair of models")
    parser.add_argument("--creations", type=int, default=6, help="of sessions, for each pair; 0 for none")
    parser.add_argument("--no-compare", action="store_true", help="time results whatever they compute")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    rows: list[Timing] = []
    with tempfile.TemporaryDirectory() as folder:
        files = made(options.models, options.tools, Path(folder), check=not options.no_compare)
        print(f"\n{'model':32} {'tool':14} {'ms':>9} {'ratio':>7} (interval)    verdict     creation")
        for name, paths in files.items():
            for row in timings(name, paths, options.seconds, options.creations):
                print(row.text(), flush=True)
                rows.append(row)
    print("\n".join(means(rows)))
    if options.json:
        options.json.write_text(json.dumps([vars(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
