"""What a model loses with weights of few bits: rounded to nearest, all for the outputs at once, and in turn.

    python tests/bench/rounding_in_turn.py [TASK] [--bits 4] [--block 0] [--least 1] [--limit N]

The weights of the model that the task is for, simplified and fused, are rounded for its calibration split, and the
result is graded on its test split. --block 0 is one scale for each output channel; weights of fewer elements than
--least stay float.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from planish import ir, passes
from planish.ir import Graph
from planish.models import tasks, zoo
from planish.passes.quantize.quantize_weights import QuantizeWeights
from planish.runtime.calibrate import calibrate
from planish.runtime.evaluate import evaluate
from planish.runtime.progress import Progress, ProgressBar
from planish.runtime.providers import Target
from planish.runtime.report import size, table
from planish.runtime.rounding_in_turn import round_in_turn
from planish.runtime.task import Task

HEADER = ("weights", "metric", "on the test split", "seconds", "size")
WAYS = ("float", "nearest", "at once", "in turn")


def rounded(
    way: str, path: Path, task: Task[object, object], stage: QuantizeWeights, *, limit: int | None, progress: Progress
) -> Graph:
    target, graph = Target(threads=1), ir.load(path)
    if way == "in turn":
        return round_in_turn(path, task, stage, target=target, limit=limit, progress=progress)
    if way == "at once":
        seen = calibrate(path, task, target=target, limit=limit, tensors=(), grams=("*",), progress=progress)
        stage = replace(stage, rounding="gram", ranges=seen)
    if way != "float":
        passes.run(graph, (stage,))
    return graph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", nargs="?", metavar="TASK", default="natural-images")
    parser.add_argument("--bits", type=int, default=4, choices=(4, 8))
    parser.add_argument("--block", type=int, default=0)
    parser.add_argument("--least", type=int, default=1)
    parser.add_argument("--limit", type=int, help="so many samples for calibration")
    options = parser.parse_args()
    task = tasks.load(options.task)
    stage = QuantizeWeights(bits=options.bits, block=options.block, least=options.least)
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as folder, ProgressBar() as progress:
        path, small = Path(folder) / "float.onnx", Path(folder) / "small.onnx"
        graph = ir.load(zoo.fetch(task.model.removeprefix("zoo:")))
        passes.run(graph, passes.parse("simplify,fuse"))
        ir.save(graph, path)
        for way in WAYS:
            start = time.perf_counter()
            ir.save(rounded(way, path, task, stage, limit=options.limit, progress=progress), small)
            seconds = time.perf_counter() - start
            graded = evaluate(small, task, target=Target(threads=1), progress=progress)
            for metric, found in zip(task.metrics, graded.estimates, strict=True):
                value = f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]"
                rows.append((way, metric.name, value, f"{seconds:.0f}", size(small.stat().st_size)))
    print(table(HEADER, rows))


if __name__ == "__main__":
    main()
