"""What quantizing all-MiniLM-L6-v2 gives up and gains: nearness to single precision, speed and size, by variant.

    python tests/bench/quantize_minilm.py [--length 128] [--seconds 4] [--gram] [--only PATTERN]

Vectors are compared with those of the model as it came, on every other query and paragraph of the test topics of the
task sentence-retrieval; what a variant is calibrated on is of other topics. Latency is on one thread, a ratio in paired
blocks to the model as it came, and to what `planish optimize` makes of it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planish import ir, passes
from planish.models.tasks.sentence_retrieval import SentenceRetrieval
from planish.models.zoo import fetch, fetch_asset
from planish.models.zoo.text import Sentences
from planish.passes.kernels import Kernels, kernels_for
from planish.passes.quantize.calibration_file import save_calibration
from planish.passes.quantize.linear_product import linear_product
from planish.runtime.benchmark import MIN_FEEDS, benchmark
from planish.runtime.calibrate import calibrate
from planish.runtime.providers import Target
from planish.runtime.session import Feed, Session

MODEL = "all-MiniLM-L6-v2"
STEP = 2
SAMPLES = 48
TARGET = Target(threads=1)


class Variant(NamedTuple):
    """contrib: whether com.microsoft is allowed. attention: also for MultiHeadAttention, in place of its parts."""

    pipeline: str
    contrib: bool = False
    attention: bool = False


TABLES = "quantize-weights{only=Gather}"
VARIANTS: Mapping[str, Variant] = {
    "tables of embeddings": Variant(TABLES),
    "dynamic": Variant(f"quantize-dynamic,{TABLES}"),
    "dynamic, rows of Gelu": Variant(f"quantize-dynamic{{rows=gelu*}},{TABLES}"),
    "dynamic, all rows": Variant(f"quantize-dynamic{{rows=*}},{TABLES}"),
    "dynamic, two terms of Gelu": Variant(f"quantize-dynamic{{terms=gelu*}},{TABLES}"),
    "dynamic, two terms": Variant(f"quantize-dynamic{{terms=*}},{TABLES}"),
    "dynamic, smooth": Variant(f"quantize-dynamic{{ranges=CAL,smooth=0.7}},{TABLES}"),
    "dynamic, smooth, rows of Gelu": Variant(f"quantize-dynamic{{ranges=CAL,smooth=0.7,rows=gelu*}},{TABLES}"),
    "dynamic, smooth, two terms of Gelu": Variant(f"quantize-dynamic{{ranges=CAL,smooth=0.7,terms=gelu*}},{TABLES}"),
    "dynamic, smooth, rows, MultiHeadAttention": Variant(
        f"quantize-dynamic{{ranges=CAL,smooth=0.7,rows=gelu*}},{TABLES}", contrib=True, attention=True
    ),
    "dynamic, smooth, rows, gram": Variant(
        f"quantize-dynamic{{ranges=CAL,smooth=0.7,rows=gelu*,rounding=gram}},{TABLES}"
    ),
    "weights, 8 bits, folded": Variant("quantize-weights{bits=8,block=0,symmetric=true}"),
    "weights, 4 bits, folded": Variant("quantize-weights"),
    "weights, 8 bits, DequantizeLinear": Variant("quantize-weights{bits=8,block=0,form=dq}"),
    "weights, 8 bits, MatMulNBits": Variant("quantize-weights{bits=8,block=128}", contrib=True),
    "weights, 4 bits, DequantizeLinear": Variant("quantize-weights{form=dq}"),
    "weights, 4 bits, MatMulNBits": Variant("quantize-weights", contrib=True),
    "weights, 4 bits, MatMulNBits, level 4": Variant("quantize-weights{accuracy=4}", contrib=True),
    "weights, 4 bits, MatMulNBits, hqq": Variant("quantize-weights{rounding=hqq}", contrib=True),
    "weights, 4 bits, MatMulNBits, gram": Variant("quantize-weights{ranges=CAL,rounding=gram}", contrib=True),
}


def sentences() -> Sequence[Mapping[str, Feed]]:
    split, samples = Sentences(fetch_asset(MODEL, "tokenizer.json")), SentenceRetrieval().samples("test")
    texts = [str(samples[i].feeds[name]) for i in range(0, len(samples), STEP) for name in ("query", "paragraph")]
    return [split([text]) for text in texts]


def vectors(path: Path, feeds: Sequence[Mapping[str, Feed]]) -> NDArray[np.float64]:
    session = Session(path, TARGET)
    found = np.concatenate([np.asarray(session.run(feed)[0], np.float64) for feed in feeds])
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def calibrated(path: Path, cal: Path) -> None:
    graph = ir.load(path)
    products = [node for node in graph.nodes if not isinstance(linear_product(node), str)]
    taken = {x.name for node in products if (x := node.operand(0)) is not None}
    save_calibration(calibrate(path, SentenceRetrieval(), grams=sorted(taken), limit=SAMPLES), cal)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--gram", action="store_true", help="also variants that round by Gram matrices: some minutes")
    parser.add_argument("--only", default="*", help="pattern of the variants' names")
    options = parser.parse_args()
    raw, feeds = fetch(MODEL), sentences()
    truth = vectors(raw, feeds)
    with tempfile.TemporaryDirectory() as folder:
        base, cal = Path(folder, "optimized.onnx"), Path(folder, "cal.json")
        graph = ir.load(raw)
        passes.run(graph, "deploy")
        ir.save(graph, base)
        calibrated(base, cal)
        print(f"{len(feeds)} sentences; latency at length {options.length}, faster is above 1")
        print(f"{'':40} {'MB':>5} {'cosine':>8} {'least':>7}  to raw               to optimized")
        for name, variant in {"as it came": None, "optimized": None, **VARIANTS}.items():
            if not fnmatchcase(name, options.only) or ("gram" in name and not options.gram):
                continue
            path = raw if name == "as it came" else base
            if variant is not None:
                path = Path(folder, "variant.onnx")
                written(base, path, variant, cal)
            cosines = (vectors(path, feeds) * truth).sum(axis=1)
            size = path.stat().st_size / 1e6
            ratios = [ratio(arm, path, options.length, options.seconds) for arm in (raw, base)]
            print(
                f"{name:40} {size:5.1f} {cosines.mean():8.5f} {cosines.min():7.4f}  {ratios[0]}  {ratios[1]}",
                flush=True,
            )


def written(base: Path, path: Path, variant: Variant, cal: Path) -> None:
    kernels: Kernels = kernels_for("cpu", ["com.microsoft"] if variant.contrib else [])
    graph = ir.load(base)
    if variant.attention:
        passes.run(graph, "fuse-multi-head-attention,remove-dead-nodes", kernels=kernels)
    passes.run(graph, variant.pipeline.replace("CAL", str(cal)), kernels=kernels)
    ir.save(graph, path)


def ratio(arm: Path, path: Path, length: int, seconds: float) -> str:
    if arm == path:
        return f"{'1':19}"
    rng = np.random.default_rng(0)
    feeds: list[Mapping[str, Feed]] = [
        {"input_ids": rng.integers(999, 30522, (1, length)), "attention_mask": np.ones((1, length), np.int64)}
        for _ in range(MIN_FEEDS)
    ]
    found = benchmark(arm, path, feeds, target=TARGET, budget_seconds=seconds)
    return f"{found.ratio:.2f} [{found.low:.2f}, {found.high:.2f}]".ljust(19)


if __name__ == "__main__":
    main()
