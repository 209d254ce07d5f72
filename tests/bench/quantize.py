"""What `planish quantize` makes of models: size, speed and accuracy on samples that it did not see.

    python tests/bench/quantize.py [TASK ...] [--seconds 10] [--limit N] [--json FILE]

For each task the model that it is for is quantized with the default budget on the calibration split, and graded, before
and after, on the test split. Speed is that of the model as it came over the result's, one thread, in pairs, with the
95 % interval; the machine should have nothing else to do. Coverage is of nodes that were to be integer and are.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from planish.models import tasks, zoo
from planish.models.fetch import cache_folder
from planish.runtime.evaluate import evaluate
from planish.runtime.progress import ProgressBar
from planish.runtime.providers import Target
from planish.runtime.quantize import QuantizeResult, quantize
from planish.runtime.quantize_report import quantize_dict
from planish.runtime.report import interval_text, size, table
from planish.runtime.statistics import Interval

TASKS = ("text-lines", "file-types", "natural-images", "digits", "voice-activity")
DROPS = {"natural-images": 0.03}
HEADER = ("task", "before", "after", "size", "", "times as fast", "integer", "left float")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", default=list(TASKS))
    parser.add_argument("--seconds", type=float, default=10.0, help="for a pair of models")
    parser.add_argument("--limit", type=int, help="so many samples for calibration")
    parser.add_argument("--json", type=Path, help="also write what was found to this file")
    options = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    found: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder, ProgressBar() as progress:
        for name in options.tasks:
            task = tasks.load(name)
            source, target = zoo.fetch(task.model.removeprefix("zoo:")), Path(folder) / f"{name}.onnx"
            result = quantize(
                source, target, task, max_drop=DROPS.get(name, 0.005), limit=options.limit, seconds=options.seconds,
                cache=cache_folder() / "times", progress=progress,
            )  # fmt: skip
            grades = [evaluate(model, task, target=Target(threads=1), progress=progress) for model in (source, target)]
            values = [f"{grade.value:.4f} [{grade.low:.4f}, {grade.high:.4f}]" for grade in grades]
            rows.append((name, *values, *_row(result)))
            found.append({"task": name, "metrics": [g.as_dict() for g in grades], **quantize_dict(result)})
    print(table(HEADER, rows))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2))


def _row(result: QuantizeResult) -> tuple[str, ...]:
    latency, coverage = result.chosen.latency, result.coverage
    ratio = "float" if latency is None else interval_text(Interval(latency.ratio, latency.low, latency.high))
    integer = "-"
    if coverage is not None:
        integer = f"{sum(coverage.proved.values())} of {sum(coverage.predicted.values())}"
    before, after = result.candidates[0].bytes, result.chosen.bytes
    return size(before), size(after), ratio, integer, str(len(result.excluded))


if __name__ == "__main__":
    main()
