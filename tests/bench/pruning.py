"""What pruning costs in accuracy, with and without reconstruction, by what channels matter by.

    python tests/bench/pruning.py [--task digits] [--macs 0.7 0.5] [--limit N] [--test N] [--uniform] [IMPORTANCE ...]

The main metric on the task's test split with its interval; weights are fitted, and importances measured, on its
calibration split. Each group loses what hurts the outputs the least or, with --uniform, the same part. The latency is
that of the optimized model over the pruned and optimized one's, with its interval, on one thread; --seconds 0 leaves it
out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from planish import ir
from planish.models.tasks import load
from planish.models.zoo import fetch
from planish.passes.prune.importance import CRITERIA, MEASURED, Importance
from planish.passes.prune.prune_channels import PruneChannels
from planish.runtime.benchmark import MIN_FEEDS, benchmark
from planish.runtime.compile import optimize
from planish.runtime.evaluate import evaluate
from planish.runtime.fidelity import record
from planish.runtime.model_run import Face
from planish.runtime.progress import silent
from planish.runtime.providers import Target
from planish.runtime.pruning.forms import in_form, macs, ratio_for
from planish.runtime.pruning.group_plan import GroupPlan
from planish.runtime.reconstruct import reconstruct
from planish.runtime.report import interval_text, table
from planish.runtime.samples import parts_of
from planish.runtime.statistics import Interval
from planish.runtime.task import Task

TARGET = Target(threads=1)
ZOO = "zoo:"
HEADER = ("importance", "MACs", "pruned", "reconstructed", "s to choose", "s to fit", "times as fast")


def rows(task: Task[object, object], importance: Importance, folder: Path, options: argparse.Namespace) -> None:
    source = fetch(task.model.removeprefix(ZOO))
    form, raw, fitted = folder / "form.onnx", folder / "pruned.onnx", folder / "fitted.onnx"
    ir.save(in_form(source, importance, TARGET), form)
    optimize(source, folder / "optimized.onnx", target=TARGET)
    parts = parts_of(task, options.limit)
    shapes = Face.of(form, TARGET).shapes(parts)
    feeds = record(source, parts, TARGET, 1).alike(MIN_FEEDS)
    pruning = PruneChannels(importance=importance, round_to=options.round_to)
    plan = GroupPlan(form, pruning, parts, shapes, TARGET, folder, silent)
    found: list[tuple[str, ...]] = []
    for part in options.macs:
        begin = time.perf_counter()
        how = ratio_for(part, form, plan.measured, shapes) if options.uniform else plan.ratios(part)
        whole = macs(form, shapes)
        if how is None or whole is None:
            continue
        ir.save(plan.pruned(how), raw)
        chosen = time.perf_counter()
        reconstruct(form, raw, task, output=fitted, target=TARGET, limit=options.limit)
        seconds = chosen - begin, time.perf_counter() - chosen
        values: list[str] = []
        for path in (raw, fitted):
            seen = evaluate(path, task, target=TARGET, limit=options.test)
            values.append(f"{seen.value:.3f} [{seen.low:.3f}, {seen.high:.3f}]")
        speed = "-"
        if options.seconds:
            optimize(fitted, folder / "fast.onnx", target=TARGET)
            latency = benchmark(
                folder / "optimized.onnx", folder / "fast.onnx", feeds, target=TARGET, budget_seconds=options.seconds
            )
            speed = interval_text(Interval(latency.ratio, latency.low, latency.high))
        left = (macs(fitted, shapes) or 0) / whole
        found.append((importance, f"{left:.2f}", *values, *[f"{each:.0f}" for each in seconds], speed))
    print(table(HEADER, found), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("importance", nargs="*", choices=(*CRITERIA, *MEASURED, []), help="default: all")
    parser.add_argument("--task", default="digits")
    parser.add_argument("--macs", type=float, nargs="+", default=[0.7, 0.5])
    parser.add_argument("--round-to", type=int, default=1)
    parser.add_argument("--uniform", action="store_true", help="the same part of every group")
    parser.add_argument("--seconds", type=float, default=6.0, help="to measure a pair of models for")
    parser.add_argument("--limit", type=int, help="so many samples to fit to")
    parser.add_argument("--test", type=int, help="so many samples to test on")
    options = parser.parse_args()
    task = load(options.task)
    whole = evaluate(fetch(task.model.removeprefix(ZOO)), task, target=TARGET, limit=options.test)
    print(f"{task.name}: {whole.metric.name} {whole.value:.3f} [{whole.low:.3f}, {whole.high:.3f}]")
    for importance in options.importance or (*CRITERIA, *MEASURED):
        with tempfile.TemporaryDirectory(prefix="planish-") as folder:
            rows(task, importance, Path(folder), options)


if __name__ == "__main__":
    main()
