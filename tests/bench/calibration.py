"""Peak memory and time of calibrating with many samples, against plain inference on the same samples.

    python tests/bench/calibration.py [--model zoo:text-recognition] [--task text-lines] [--samples 512] [--grams]

Each in a process of its own, on one thread, one sample at a time. Peak RSS is VmHWM; it is to be no more than 1.3 times
that of plain inference. The samples are the task's calibration split, repeated from its begin where it has fewer.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from planish.models.tasks import load
from planish.runtime.calibrate import calibrate
from planish.runtime.cli.sources import locate
from planish.runtime.progress import silent
from planish.runtime.providers import Target
from planish.runtime.session import Feed, Session

ALLOWED = 1.3


def peak() -> int:
    """The most memory that this process has held, in bytes."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def feeds(task: str, count: int) -> Iterator[Mapping[str, Feed]]:
    samples = load(task).samples("calibration")
    for index in range(count):
        yield samples[index % len(samples)].feeds


def infer(model: Path, task: str, count: int) -> dict[str, float]:
    """Seconds are those of the runs alone."""
    session, seconds = Session(model, Target(threads=1)), 0.0
    for feed in feeds(task, count):
        start = time.perf_counter()
        session.run(feed)
        seconds += time.perf_counter() - start
    return {"peak": peak(), "seconds": seconds}


def observe(model: Path, task: str, count: int, grams: bool) -> dict[str, float]:
    """Seconds are all that calibrating takes, the samples left out."""
    waited = 0.0

    def timed() -> Iterator[Mapping[str, Feed]]:
        nonlocal waited
        source = feeds(task, count)
        while True:
            start = time.perf_counter()
            feed = next(source, None)
            waited += time.perf_counter() - start
            if feed is None:
                return
            yield feed

    start = time.perf_counter()
    found = calibrate(model, timed(), grams=("*",) if grams else ())
    seconds = time.perf_counter() - start - waited
    return {"peak": peak(), "seconds": seconds, "tensors": len(found.tensors)}


def apart(words: list[str]) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="zoo:text-recognition")
    parser.add_argument("--task", default="text-lines")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--grams", action="store_true")
    parser.add_argument("--measure", choices=("infer", "calibrate"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    path = locate(options.model, silent).path
    if options.measure == "infer":
        print(json.dumps(infer(path, options.task, options.samples)))
        return
    if options.measure == "calibrate":
        print(json.dumps(observe(path, options.task, options.samples, options.grams)))
        return
    words = ["--model", str(path), "--task", options.task, "--samples", str(options.samples)]
    words += ["--grams"] if options.grams else []
    plain, found = (apart([*words, "--measure", what]) for what in ("infer", "calibrate"))
    ratio = found["peak"] / plain["peak"]
    print(f"{options.samples} samples, {found['tensors']:.0f} tensors")
    print(f"peak RSS {found['peak'] / 1e6:.0f} MB, plain inference {plain['peak'] / 1e6:.0f} MB: {ratio:.2f} times")
    times = found["seconds"] / plain["seconds"]
    each = [1e3 * run["seconds"] / options.samples for run in (found, plain)]
    print(f"{each[0]:.1f} ms a sample, plain inference {each[1]:.1f} ms: {times:.1f} times")
    sys.exit(ratio > ALLOWED)


if __name__ == "__main__":
    main()
