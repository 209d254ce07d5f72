"""What pruning costs in accuracy, with and without reconstruction, by what channels matter by.

    python tests/bench/pruning.py [--task digits] [--macs 0.7 0.5] [--limit N] [--test N] [IMPORTANCE ...]

The main metric on the task's test split; weights are fitted on its calibration split. The latency is that of the
optimized model over the pruned and optimized one's, with its interval, on one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from planish import ir
from planish.models.tasks import load
from planish.models.zoo import fetch
from planish.passes.prune.importance import CRITERIA, Importance
from planish.passes.prune.prune_channels import PruneChannels
from planish.runtime.benchmark import MIN_FEEDS, benchmark
from planish.runtime.compile import optimize
from planish.runtime.evaluate import evaluate
from planish.runtime.fidelity import record
from planish.runtime.model_run import Face
from planish.runtime.providers import Target
from planish.runtime.pruning.forms import in_form, macs, pruned, ratio_for
from planish.runtime.reconstruct import reconstruct
from planish.runtime.report import interval_text, table
from planish.runtime.samples import parts_of
from planish.runtime.statistics import Interval
from planish.runtime.task import Task

TARGET = Target(threads=1)
ZOO = "zoo:"
HEADER = ("importance", "MACs", "ratio", "pruned", "reconstructed", "seconds", "times as fast")


def rows(task: Task[object, object], importance: Importance, folder: Path, options: argparse.Namespace) -> None:
    source = fetch(task.model.removeprefix(ZOO))
    form, raw, fitted = folder / "form.onnx", folder / "pruned.onnx", folder / "fitted.onnx"
    ir.save(in_form(source, importance, TARGET), form)
    optimize(source, folder / "optimized.onnx", target=TARGET)
    parts = parts_of(task, 1)
    shapes = Face.of(form, TARGET).shapes(parts)
    feeds = record(source, parts, TARGET, 1).alike(MIN_FEEDS)
    found: list[tuple[str, ...]] = []
    for part in options.macs:
        pruning = PruneChannels(importance=importance, round_to=options.round_to)
        ratio, whole = ratio_for(part, form, pruning, shapes), macs(form, shapes)
        if ratio is None or whole is None:
            continue
        ir.save(pruned(form, pruning, ratio), raw)
        begin = time.perf_counter()
        reconstruct(form, raw, task, output=fitted, target=TARGET, limit=options.limit)
        seconds = time.perf_counter() - begin
        optimize(fitted, folder / "fast.onnx", target=TARGET)
        latency = benchmark(folder / "optimized.onnx", folder / "fast.onnx", feeds, target=TARGET, budget_seconds=6)
        values = [f"{evaluate(path, task, target=TARGET, limit=options.test).value:.3f}" for path in (raw, fitted)]
        ratios = interval_text(Interval(latency.ratio, latency.low, latency.high))
        left = (macs(fitted, shapes) or 0) / whole
        found.append((importance, f"{left:.2f}", f"{ratio:.3f}", *values, f"{seconds:.0f}", ratios))
    print(table(HEADER, found), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("importance", nargs="*", choices=(*CRITERIA, []), help="default: all")
    parser.add_argument("--task", default="digits")
    parser.add_argument("--macs", type=float, nargs="+", default=[0.7, 0.5])
    parser.add_argument("--round-to", type=int, default=1)
    parser.add_argument("--limit", type=int, help="so many samples to fit to")
    parser.add_argument("--test", type=int, help="so many samples to test on")
    options = parser.parse_args()
    task = load(options.task)
    whole = evaluate(fetch(task.model.removeprefix(ZOO)), task, target=TARGET, limit=options.test)
    print(f"{task.name}: {whole.metric.name} {whole.value:.3f} [{whole.low:.3f}, {whole.high:.3f}]")
    for importance in options.importance or CRITERIA:
        with tempfile.TemporaryDirectory(prefix="planish-") as folder:
            rows(task, importance, Path(folder), options)


if __name__ == "__main__":
    main()
