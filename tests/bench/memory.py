"""Peak memory of simplifying a model whose weights lie in external data.

    python tests/bench/memory.py [--gib 3] [--layers 48]

Convolutions with weights of equal size; every fourth is followed by a BatchNormalization, which is folded into it. The
rest of the weights must never be read into memory: peak RSS (VmHWM of a fresh process) against
0.5 GB + 1.2 x the largest transformed weight. Needs twice the model's size of disk.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from planish import ir, passes

ALLOWED_BASE = 0.5e9
ALLOWED_FACTOR = 1.2
EVERY = 4


def build(folder: Path, weight_bytes: int, layers: int) -> Path:
    """A chain of 1x1 convolutions, their weights in one external file that is written a block at a time."""
    channels = int((weight_bytes / 4) ** 0.5)
    nodes: list[onnx.NodeProto] = []
    initializers: list[onnx.TensorProto] = []
    x, offset = "x", 0
    block = np.random.default_rng(0).standard_normal(channels * channels, np.float32) / channels**0.5
    with (folder / "model.onnx.data").open("wb") as data:
        for index in range(layers):
            weight = TensorProto(name=f"w{index}", data_type=TensorProto.FLOAT, dims=[channels, channels, 1, 1])
            weight.data_location = TensorProto.EXTERNAL
            data.write((block + np.float32(index)).tobytes())
            for key, value in (("location", "model.onnx.data"), ("offset", offset), ("length", block.nbytes)):
                weight.external_data.add(key=key, value=str(value))
            offset += block.nbytes
            initializers.append(weight)
            nodes.append(helper.make_node("Conv", [x, weight.name], [f"c{index}"]))
            x = f"c{index}"
            if index % EVERY == 0:
                names = [f"{name}{index}" for name in ("scale", "bias", "mean", "variance")]
                initializers += [numpy_helper.from_array(np.full(channels, 1.5, np.float32), name) for name in names]
                nodes.append(helper.make_node("BatchNormalization", [x, *names], [f"n{index}"]))
                x = f"n{index}"
            nodes.append(helper.make_node("Identity", [x], [f"i{index}"]))
            x = f"i{index}"
    shape = ["batch", channels, 1, 1]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape)],
        initializers,
    )
    path = folder / "model.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    )
    return path


def measure(source: Path, target: Path) -> dict[str, float]:
    """Simplify a model and say what it took; memory in bytes."""
    start, base = time.perf_counter(), peak()
    graph = ir.load(source)
    records = passes.run(graph, "simplify,fuse")
    ir.save(graph, target)
    return {
        "rewrites": sum(len(record.rewrites) for record in records),
        "seconds": time.perf_counter() - start,
        "base": base,
        "peak": peak(),
    }


def peak() -> int:
    """The most memory that this process has held, in bytes."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def measure_apart(source: Path, target: Path) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--measure", str(source), str(target)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=3.0)
    parser.add_argument("--layers", type=int, default=48)
    parser.add_argument("--folder", type=Path, help="where to write the models; a temporary one otherwise")
    parser.add_argument("--measure", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        weight = int(options.gib * 2**30 / options.layers)
        source = build(Path(folder), weight, options.layers)
        found = measure_apart(source, Path(folder) / "out.onnx")
    allowed = ALLOWED_BASE + ALLOWED_FACTOR * weight
    print(
        f"model {options.gib:.2f} GiB, {options.layers} weights of {weight / 1e6:.0f} MB, "
        f"{found['rewrites']:.0f} rewrites, {found['seconds']:.1f} s"
    )
    print(f"peak RSS {found['peak'] / 1e6:.0f} MB (at start {found['base'] / 1e6:.0f}), allowed {allowed / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
