"""How much of the multiply-accumulates that pruning saves comes back as time.

    python tests/bench/pruned_latency.py [ARCHITECTURE ...] [--ratios 0.25 0.5] [--round-to 16] [--seconds 12]

Nets of their published widths, with seeded weights, pruned by `prune-channels` (of a transformer whole heads go by
`prune-heads`, and hidden units) and optimized. The speed is that of the
optimized whole model over the optimized pruned one's, one thread, in pairs, with the 95 % interval; `of the MACs` is
that speed over the ratio of the multiply-accumulates: 1 where time falls as these do.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from planish import ir, passes
from planish.ir import Graph
from planish.models.architectures.convnets import resnet50
from planish.models.architectures.mobile import mobilenet_v2
from planish.models.architectures.transformers import vit_small
from planish.runtime.benchmark import MIN_FEEDS, benchmark
from planish.runtime.compile import optimize
from planish.runtime.inspect import inspect
from planish.runtime.providers import Target
from planish.runtime.report import interval_text, table
from planish.runtime.statistics import Interval

TARGET = Target(threads=1)
IMAGE = 224
NETS: Mapping[str, Callable[[], Graph]] = {
    "resnet50": lambda: resnet50(
        "dynamo",
        width=64,
        image=IMAGE,
    ),
    "mobilenet-v2": lambda: mobilenet_v2(
        "dynamo",
        width=1.0,
        image=IMAGE,
    ),
    "vit-small": lambda: vit_small(
        "dynamo",
        width=384,
        depth=12,
        heads=6,
        image=IMAGE,
    ),
}
CHANNELS = "prune-channels{{ratio={ratio},round-to={round_to}}}"
HEADS = "prune-heads{{ratio={ratio}}},prune-channels{{ratio={ratio},round-to={round_to},keep=*attn*}}"
HEADER = ("net", "ratio", "MACs", "parameters", "times as fast", "of the MACs")


def row(name: str, ratio: float, folder: Path, options: argparse.Namespace) -> tuple[str, ...]:
    whole, sliced = folder / f"{name}.onnx", folder / f"{name}-{ratio}.onnx"
    if not whole.exists():
        ir.save(NETS[name](), folder / "raw.onnx")
        optimize(folder / "raw.onnx", whole, target=TARGET)
    graph = ir.load(folder / "raw.onnx")
    pruning = HEADS if name.startswith("vit") else CHANNELS
    passes.run(graph, "simplify,fuse," + pruning.format(ratio=ratio, round_to=options.round_to))
    ir.save(graph, folder / "sliced.onnx")
    optimize(folder / "sliced.onnx", sliced, target=TARGET)
    argument = ir.load(whole).inputs[0]
    shape = [dim if isinstance(dim, int) else 1 for dim in argument.shape or ()]
    before, after = (inspect(path, {argument.name: tuple(shape)}) for path in (whole, sliced))
    feeds = [
        {argument.name: np.random.default_rng(seed).standard_normal(shape, np.float32)} for seed in range(MIN_FEEDS)
    ]
    latency = benchmark(whole, sliced, feeds, target=TARGET, budget_seconds=options.seconds)
    left = float(str(after.total_macs)) / float(str(before.total_macs))
    return (
        name,
        f"{ratio:g}",
        f"{left:.3f}",
        f"{after.parameters / before.parameters:.3f}",
        interval_text(Interval(latency.ratio, latency.low, latency.high)),
        f"{latency.ratio * left:.3f} [{latency.low * left:.3f}, {latency.high * left:.3f}]",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", metavar="ARCHITECTURE", default=list(NETS))
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.25, 0.5])
    parser.add_argument("--round-to", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=12.0, help="for a pair of models")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="planish-") as folder:
        rows = [row(name, ratio, Path(folder), options) for name in options.nets for ratio in options.ratios]
    print(table(HEADER, rows))


if __name__ == "__main__":
    main()
