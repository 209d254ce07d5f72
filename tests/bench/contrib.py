"""What operators of com.microsoft are worth on ONNX Runtime's CPU provider, against what planish emits without them.

    python -m tests.bench.contrib [NAME ...] [--seconds 6] [--creations 6]
    python -m tests.bench.contrib --models MODEL ... [--seconds 20]

Without --models, each line times a few nodes, of the sizes of real models, under ORT_ENABLE_ALL on one thread: standard
operators, which ONNX Runtime may fuse by itself, against the one operator. With --models, each model as `deploy` makes
it, against the same for a target that allows com.microsoft, and against the same without the pass `lower-add`. A ratio
is the first one's time over the second one's, with its 95 % interval: above 1 the second is faster. Whole models
decide: a kernel that is faster alone may be a hundredth of one. The machine should have nothing else to do.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from planish import ir, passes, runtime
from planish.ir import Builder, DType, Graph, Value
from planish.passes.kernels import CONTRIB, kernels_for
from planish.runtime.benchmark import MIN_FEEDS
from planish.runtime.feeds import NORMAL, Feeds
from planish.runtime.providers import Target
from planish.runtime.session import Feed
from tests.bench.latency import feeds_of

TARGET = Target(threads=1, optimization="all")
RANDOM = np.random.default_rng(0)
Operands = Sequence[Value]
Build = Callable[[Builder, Operands], Value]


@dataclass(frozen=True)
class Pair:
    """Standard nodes and the operator that does the same, on inputs of these shapes."""

    inputs: Sequence[tuple[int, ...]]
    standard: Build
    contrib: Build
    weights: Sequence[tuple[int, ...]] = ()
    opset: int = 20

    def graphs(self) -> Iterator[Graph]:
        arrays = [RANDOM.standard_normal(shape).astype(np.float32) for shape in self.weights]
        for build in (self.standard, self.contrib):
            b = Builder(opset=self.opset)
            operands = [b.input(f"x{place}", DType.FLOAT, shape) for place, shape in enumerate(self.inputs)]
            operands += [b.initializer(f"w{place}", array) for place, array in enumerate(arrays)]
            b.output("y", build(b, operands))
            yield b.graph()


def contrib(op: str, **attributes: int | float | str) -> Build:
    return lambda b, x: b.node(f"{CONTRIB}::{op}", x, attributes)


def attention(mask: bool) -> Build:
    """Of query, key, value and mask, [1, length, hidden] each, over 12 heads of 32."""

    def build(b: Builder, x: Operands) -> Value:
        split, merged = b.initializer("split", np.array([0, 0, 12, 32])), b.initializer("merged", np.array([0, 0, 384]))
        orders = ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3))
        q, k, v = (
            b.node("Transpose", (b.node("Reshape", (one, split)),), {"perm": order})
            for one, order in zip(x[:3], orders, strict=True)
        )
        scores = b.node("Mul", (b.node("MatMul", (q, k)), b.initializer("scale", np.array(32**-0.5, np.float32))))
        scores = b.node("Add", (scores, x[3])) if mask else scores
        mixed = b.node("MatMul", (b.node("Softmax", (scores,), {"axis": -1}), v))
        return b.node("Reshape", (b.node("Transpose", (mixed,), {"perm": (0, 2, 1, 3)}), merged))

    return build


def multi_head(b: Builder, x: Operands) -> Value:
    operands = (*x[:3], None, None, *x[3:]) if x[3:] else x
    return b.node(f"{CONTRIB}::MultiHeadAttention", operands, {"num_heads": 12, "scale": 32**-0.5})


def skip_norm(b: Builder, x: Operands) -> Value:
    return b.node("LayerNormalization", (b.node("Add", x[:2]), *x[2:]))


def gelu(approximate: str) -> Build:
    return lambda b, x: b.node("Gelu", (b.node("Add", x),), {"approximate": approximate})


def quick(b: Builder, x: Operands) -> Value:
    scaled = b.node("Mul", (x[0], b.initializer("factor", np.array(1.702, np.float32))))
    return b.node("Mul", (x[0], b.node("Sigmoid", (scaled,))))


def scaled_product(b: Builder, x: Operands) -> Value:
    keys = b.node("Transpose", (x[1],), {"perm": (0, 1, 3, 2)})
    return b.node("Mul", (b.node("MatMul", (x[0], keys)), b.initializer("scale", np.array(0.125, np.float32))))


def gemm(b: Builder, x: Operands) -> Value:
    return b.node("Relu", (b.node("Gemm", x),))


def conv(b: Builder, x: Operands) -> Value:
    done = b.node("Conv", (x[0], x[2], x[3]), {"kernel_shape": (1, 1)})
    return b.node("Relu", (b.node("Add", (done, x[1])),))


def fused_conv(b: Builder, x: Operands) -> Value:
    attributes = {"kernel_shape": (1, 1), "activation": "Relu"}
    return b.node(f"{CONTRIB}::FusedConv", (x[0], x[2], x[3], x[1]), attributes)


ROW, WIDE, SCORES = (1, 197, 384), (1, 197, 1536), (1, 6, 197, 64)
PAIRS: Mapping[str, Pair] = {
    "SkipLayerNormalization": Pair(
        (ROW, ROW), skip_norm, contrib("SkipLayerNormalization", epsilon=1e-5), ((384,), (384,))
    ),
    "BiasGelu": Pair((WIDE,), gelu("none"), contrib("BiasGelu"), ((1536,),)),
    "FastGelu": Pair((WIDE,), gelu("tanh"), contrib("FastGelu"), ((1536,),)),
    "QuickGelu": Pair((WIDE,), quick, contrib("QuickGelu", alpha=1.702)),
    "FusedMatMul": Pair((SCORES, SCORES), scaled_product, contrib("FusedMatMul", transB=1, alpha=0.125)),
    "FusedGemm": Pair(((197, 384),), gemm, contrib("FusedGemm", activation="Relu"), ((384, 1536), (1536,))),
    "FusedConv": Pair(((1, 64, 28, 28), (1, 256, 28, 28)), conv, fused_conv, ((256, 64, 1, 1), (256,))),
    "MultiHeadAttention": Pair(((1, 128, 384),) * 3, attention(False), multi_head),
    "MultiHeadAttention, mask": Pair((*((1, 128, 384),) * 3, (1, 1, 128, 128)), attention(True), multi_head),
}


def line(name: str, files: tuple[Path, Path], feeds: Sequence[Mapping[str, Feed]], options: Options) -> str:
    found = runtime.benchmark(*files, feeds, target=TARGET, budget_seconds=options.seconds)
    opened = runtime.benchmark_creation(*files, target=TARGET, repeats=options.creations)
    latency = f"{1e3 * found.arms[0].median:9.3f} {found.ratio:7.3f} ({found.low:.3f}-{found.high:.3f})"
    return (
        f"{name:44} {latency} {found.verdict:11} {opened.ratio:.2f} ({opened.low:.2f}-{opened.high:.2f}) {found.note}"
    )


@dataclass(frozen=True)
class Options:
    """seconds: for each pair. creations: of sessions, for each pair."""

    seconds: float
    creations: int


def operators(names: Sequence[str], folder: Path, options: Options) -> Iterator[str]:
    for name in names or PAIRS:
        files = folder / "standard.onnx", folder / "contrib.onnx"
        for graph, file in zip(PAIRS[name].graphs(), files, strict=True):
            ir.save(graph, file)
        made = Feeds(ir.load(files[0]), {}, {}, 0)
        feeds = [made.make(NORMAL, made.complete(runtime.Binding({})), turn=turn).feeds for turn in range(MIN_FEEDS)]
        yield line(name, files, feeds, options)


def models(names: Sequence[str], folder: Path, options: Options) -> Iterator[str]:
    plain = [stage for stage in passes.PIPELINES["deploy"] if not isinstance(stage, passes.PASSES["lower-add"])]
    arms = {"with com.microsoft": ("deploy", kernels_for("cpu", (CONTRIB,))), "without lower-add": (plain, None)}
    for name in names:
        base, other = folder / "deploy.onnx", folder / "other.onnx"
        runtime.optimize(name, base)
        for arm, (pipeline, kernels) in arms.items():
            graph = ir.load(name, functions="inline")
            passes.run(graph, pipeline, kernels=kernels)
            ir.save(graph, other)
            yield line(f"{Path(name).stem}, {arm}", (base, other), feeds_of(name, Path(name)), options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *PAIRS], metavar="NAME", help=", ".join(PAIRS))
    parser.add_argument("--models", nargs="+", default=[], metavar="MODEL", help="ONNX files, instead of operators")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each pair")
    parser.add_argument("--creations", type=int, default=6, help="of sessions, for each pair")
    given = parser.parse_args()
    options = Options(given.seconds, given.creations)
    print(f"{'operator or model':44} {'ms':>9} {'ratio':>7} (interval)    verdict     session creation")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for text in models(given.models, folder, options) if given.models else operators(given.names, folder, options):
            print(text.rstrip(), flush=True)


if __name__ == "__main__":
    main()
