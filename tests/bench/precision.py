"""What half precision costs on the zoo's models, and how much of each is half within a budget of noise.

    python tests/bench/precision.py [MODEL ...] [--snr 50] [--to float16] [--seed 7]

Signal to noise in dB, of the worst output of the worst run, on random inputs at the bindings of the zoo. `all`: of all
that the pass may convert, each number rounded as hardware of half precision rounds it; `found`: the same of what was
chosen; `runtime`: as ONNX Runtime's CPU provider runs it; `fresh`: that, on inputs that the search did not see. Runs
are left out of which single precision itself, worked out in another order, loses as much. Shares are of the weights'
bytes and of nodes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from planish import ir
from planish.models.zoo import ZOO, ZooModel, fetch
from planish.runtime.bindings import Binding
from planish.runtime.feeds import NORMAL, UNIFORM, Feeds
from planish.runtime.fidelity import floats_of
from planish.runtime.made_up import Inputs
from planish.runtime.precision import convert_precision
from planish.runtime.progress import ProgressBar
from planish.runtime.providers import Target
from planish.runtime.report import size, table
from planish.runtime.session import Session

HEADER = (
    "model",
    "all",
    "found",
    "runtime",
    "fresh",
    "runs",
    "left out",
    "bytes half",
    "nodes half",
    "before",
    "after",
    "s",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", default=list(ZOO))
    parser.add_argument("--snr", type=float, default=50.0)
    parser.add_argument("--to", choices=("float16", "bfloat16"), default="float16")
    parser.add_argument("--seed", type=int, default=7, help="of the fresh inputs")
    options = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as folder, ProgressBar() as progress:
        for name in options.models:
            begin, target = time.perf_counter(), Path(folder) / "half.onnx"
            found = convert_precision(
                fetch(name), target, to=options.to, snr=options.snr, inputs=inputs_of(ZOO[name]), progress=progress
            )
            seconds = time.perf_counter() - begin
            decibels = (found.everywhere, found.found, found.on_provider, fresh(ZOO[name], target, options.seed))
            rows.append(
                (
                    name,
                    *(f"{number:.1f}" for number in decibels),
                    str(found.runs),
                    str(found.left_out),
                    f"{100 * found.share:.1f} %",
                    f"{found.half_nodes} of {found.nodes}",
                    size(found.bytes_before),
                    size(found.bytes_after),
                    f"{seconds:.0f}",
                )
            )
    print(table(HEADER, rows))


def inputs_of(model: ZooModel) -> Inputs:
    return Inputs(tuple(Binding(binding.shapes, binding.fixed) for binding in model.bindings), {}, model.ranges)


def fresh(model: ZooModel, half: Path, seed: int) -> float:
    """Of the worst run; those are left out of which the float model keeps less than 56 dB with all optimizations on."""
    path = fetch(model.name)
    feeds = Feeds(ir.load(path), {}, model.ranges, seed)
    plain = Target(threads=1, optimization="disabled")
    sessions = Session(path, plain), Session(path, Target(threads=1)), Session(half, plain)
    worst = np.inf
    for known in inputs_of(model).bindings:
        for kind in (NORMAL, UNIFORM):
            given = feeds.make(kind, feeds.complete(known)).feeds
            wanted, again, got = (floats_of(session.run(given)) for session in sessions)
            for a, b, c in zip(wanted, again, got, strict=True):
                signal = np.square(a).sum()
                if np.square(a - b).sum() < 0.25e-5 * signal:
                    worst = min(worst, float(-10 * np.log10(np.square(a - c).sum() / signal + 1e-30)))
    return worst


if __name__ == "__main__":
    main()
