"""What optimizing takes: loading, the passes of `deploy`, saving, and the passes once more on what was saved.

    python tests/bench/optimizer.py [MODEL ...] [--turns 3] [--warm]

A MODEL is a file or a name of the zoo; all of the zoo by default. Imports are not timed. Each turn runs the model in a
process of its own and the saved one in another, so neither finds anything warm; models take turns, and the best of each
step counts. With --warm a process does everything twice and the second time counts, as in a service that optimizes one
model after another.

Milliseconds of processor time, which others on the machine disturb least; `wall` is the sum of the first three steps by
the clock, with what the disk takes to have the file for sure. `again` is the second run as a part of the first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from planish import ir, passes
from planish.models.zoo import ZOO, fetch
from planish.passes.manager import node_count

T = TypeVar("T")


@dataclass
class Steps:
    """Milliseconds of one turn, and the counts of nodes before and after."""

    nodes: int
    after: int
    load: float
    run: float
    save: float
    wall: float


def optimize(source: Path, target: Path) -> Steps:
    """Load, optimize and save a model."""
    begin = time.perf_counter()
    graph, load = timed(lambda: ir.load(source))
    nodes = node_count(graph)
    _, run = timed(lambda: passes.run(graph, "deploy"))
    _, save = timed(lambda: ir.save(graph, target))
    wall = (time.perf_counter() - begin) * 1e3
    return Steps(nodes, node_count(graph), load, run, save, wall)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What work gives, and the milliseconds of processor time that it takes."""
    begin = time.process_time()
    result = work()
    return result, (time.process_time() - begin) * 1e3


def apart(source: Path, target: Path, warm: bool) -> Steps:
    """`optimize` in a process of its own."""
    command = [sys.executable, __file__, "--measure", str(source), str(target), *(["--warm"] if warm else [])]
    return Steps(**json.loads(subprocess.run(command, check=True, capture_output=True).stdout))


def paths(names: Sequence[str]) -> list[Path]:
    for name in names:
        if name not in ZOO and not Path(name).is_file():
            raise SystemExit(f"{name} is neither a file nor one of {', '.join(ZOO)}")
    return [fetch(name) if name in ZOO else Path(name) for name in names]


def row(path: Path, firsts: Sequence[Steps], seconds: Sequence[Steps]) -> tuple[float, float]:
    """Print the best of each step; the first run's milliseconds and the second's part of them."""
    load, run, save, wall = (min([getattr(turn, step) for turn in firsts]) for step in ("load", "run", "save", "wall"))
    second = min([turn.run for turn in seconds])
    print(
        f"{path.stem:30} {firsts[0].nodes:6} {firsts[0].after:6} {load:8.1f} {run:8.1f} {save:8.1f} "
        f"{load + run + save:8.1f} {wall:8.1f} {second:8.1f} {second / run:6.0%}",
        flush=True,
    )
    return load + run + save, second / run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", default=list(ZOO))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--warm", action="store_true", help="time the second time in each process")
    parser.add_argument("--measure", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        if options.warm:
            optimize(*options.measure)
        print(json.dumps(asdict(optimize(*options.measure))))
        return
    found: dict[Path, tuple[list[Steps], list[Steps]]] = {path: ([], []) for path in paths(options.models)}
    with tempfile.TemporaryDirectory() as folder:
        once, twice = Path(folder) / "once.onnx", Path(folder) / "twice.onnx"
        for _ in range(options.turns):
            for path, (firsts, seconds) in found.items():
                firsts.append(apart(path, once, options.warm))
                seconds.append(apart(once, twice, options.warm))
    heads = ("load", "run", "save", "total", "wall", "second", "again")
    print(f"{'model':30} {'nodes':>6} {'after':>6} {' '.join(f'{head:>8}' for head in heads[:-1])} {heads[-1]:>6}")
    rows = [row(path, firsts, seconds) for path, (firsts, seconds) in found.items()]
    totals, parts = zip(*rows, strict=True)
    print(f"median total {statistics.median(totals):.1f} ms; the second run at most {max(parts):.0%} of the first")


if __name__ == "__main__":
    main()
