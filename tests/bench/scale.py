"""How the time of load, `deploy` and emit grows with the graph.

    python tests/bench/scale.py [--layers 500 2500] [--repeats 3]

A chain of transformer-like layers of 21 nodes each, as exporters write them: Shape/Gather/Unsqueeze/Concat/Reshape
chains
over a dynamic batch and sequence, attention, and Gelu spelled out. Each run is a process of its own; sizes take turns,
and the ratio is of runs of the same turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from planish import ir, passes

NODES_PER_LAYER = 21
WIDTH, HEADS = 8, 2


class _Layers:
    """Writes the layers' nodes and initializers."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(0)

    def node(self, op: str, inputs: list[str], output: str, **attributes: int | list[int]) -> str:
        node = helper.make_node(op, inputs, [output], name=f"{output}_node")
        node.attribute.extend([helper.make_attribute(name, value) for name, value in attributes.items()])
        self.nodes.append(node)
        return output

    def weight(self, name: str, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def dim(self, of: str, axis: int, name: str) -> str:
        shape = self.node("Shape", [of], f"{name}_shape")
        index = self.weight(f"{name}_index", np.array(axis))
        dim = self.node("Gather", [shape, index], f"{name}_dim", axis=0)
        return self.node("Unsqueeze", [dim, self.weight(f"{name}_axes", np.array([0]))], f"{name}_vector")

    def layer(self, x: str, name: str) -> str:
        batch, sequence = self.dim(x, 0, f"{name}_b"), self.dim(x, 1, f"{name}_s")
        heads = self.weight(f"{name}_heads", np.array([HEADS]))
        rest = self.weight(f"{name}_rest", np.array([WIDTH // HEADS]))
        target = self.node("Concat", [batch, sequence, heads, rest], f"{name}_target", axis=0)
        weight = self.weight(f"{name}_w", self.random.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 8)
        product = self.node("MatMul", [x, weight], f"{name}_product")
        bias = self.weight(f"{name}_b", self.random.standard_normal(WIDTH).astype(np.float32))
        biased = self.node("Add", [product, bias], f"{name}_biased")
        split = self.node("Reshape", [biased, target], f"{name}_split")
        turned = self.node("Transpose", [split], f"{name}_turned", perm=[0, 2, 1, 3])
        weighed = self.node("Softmax", [turned], f"{name}_weighed", axis=-1)
        back = self.node("Transpose", [weighed], f"{name}_back", perm=[0, 2, 1, 3])
        width = self.weight(f"{name}_width", np.array([WIDTH]))
        merged_target = self.node("Concat", [batch, sequence, width], f"{name}_merged_target", axis=0)
        merged = self.node("Reshape", [back, merged_target], f"{name}_merged")
        return self.node("Add", [x, self.gelu(merged, name)], f"{name}_out")

    def gelu(self, x: str, name: str) -> str:
        root = self.weight(f"{name}_root", np.array(1.4142135, np.float32))
        scaled = self.node("Div", [x, root], f"{name}_scaled")
        erf = self.node("Erf", [scaled], f"{name}_erf")
        plus = self.node("Add", [erf, self.weight(f"{name}_one", np.array(1, np.float32))], f"{name}_plus")
        times = self.node("Mul", [x, plus], f"{name}_times")
        return self.node("Mul", [times, self.weight(f"{name}_half", np.array(0.5, np.float32))], f"{name}_gelu")


def build(layers: int) -> onnx.ModelProto:
    """A model of NODES_PER_LAYER * layers nodes."""
    made = _Layers()
    x = "x"
    for index in range(layers):
        x = made.layer(x, f"l{index}")
    shape = ["batch", "sequence", WIDTH]
    graph = helper.make_graph(
        made.nodes,
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape)],
        made.initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def measure(path: Path) -> dict[str, float]:
    """Seconds of each step on a model, and what it did."""
    start = time.perf_counter()
    graph = ir.load(path)
    loaded, before = time.perf_counter(), len(graph)
    records = passes.run(graph, "deploy")
    rewritten = time.perf_counter()
    proto = ir.emit(graph)
    emitted = time.perf_counter()
    return {
        "nodes": before,
        "after": len(proto.graph.node),
        "rewrites": sum(len(record.rewrites) for record in records),
        "load": loaded - start,
        "passes": rewritten - loaded,
        "emit": emitted - rewritten,
        "total": emitted - start,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[500, 2500])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    runs: dict[int, list[dict[str, float]]] = {layers: [] for layers in options.layers}
    with tempfile.TemporaryDirectory() as folder:
        for layers in options.layers:
            (Path(folder) / f"{layers}.onnx").write_bytes(build(layers).SerializeToString())
        for _ in range(options.repeats):
            for layers in options.layers:
                command = [sys.executable, __file__, "--measure", str(Path(folder) / f"{layers}.onnx")]
                runs[layers].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    print(f"{'nodes':>8} {'after':>8} {'rewrites':>9} {'load s':>8} {'passes s':>9} {'emit s':>8} {'total s':>8}")
    for turns in runs.values():
        best = min(turns, key=lambda turn: turn["total"])
        print(
            f"{best['nodes']:8.0f} {best['after']:8.0f} {best['rewrites']:9.0f} {best['load']:8.2f} "
            f"{best['passes']:9.2f} {best['emit']:8.2f} {best['total']:8.2f}"
        )
    first, last = (runs[layers] for layers in (options.layers[0], options.layers[-1]))
    ratios = [b["total"] / a["total"] for a, b in zip(first, last, strict=True)]
    print(
        f"{last[0]['nodes'] / first[0]['nodes']:.1f} times the nodes: {statistics.median(ratios):.2f} times the time "
        f"(turns: {', '.join(f'{ratio:.2f}' for ratio in ratios)})"
    )


if __name__ == "__main__":
    main()
