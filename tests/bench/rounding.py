"""What rounding costs at the outputs of all-MiniLM-L6-v2's matrices, by method, on the text seen and on other text.

    python tests/bench/rounding.py [--symmetric] [--bits 4] [--block 32] [--matrices N]

Gram matrices come from the calibration topics of the task sentence-retrieval, errors also from every third sentence of
its test topics. An error is the norm ||X W - X Q|| over that of rounding to nearest within the least and the largest
weight. Below each, the bound of lattices: see planish.passes.quantize.rounding.least_output_error.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from planish import ir
from planish.ir import DType, Node
from planish.models.tasks.sentence_retrieval import SentenceRetrieval
from planish.models.zoo import fetch, fetch_asset
from planish.models.zoo.text import Sentences
from planish.passes.quantize.ranges import least_squares, min_max
from planish.passes.quantize.rounding.beam_search import beam_search
from planish.passes.quantize.rounding.layer import output_errors
from planish.passes.quantize.rounding.least_output_error import Rounded, least_output_error
from planish.passes.quantize.rounding.second_order import second_order
from planish.passes.quantize.scheme import Doubles, Scheme, dequantize, parameters, quantize
from planish.runtime.providers import Target
from planish.runtime.session import Session
from planish.runtime.task import Split

MODEL = "all-MiniLM-L6-v2"
TEST_STEP = 3


@dataclass
class Layer:
    """A weight [K, N], and X^T X of the inputs by split."""

    name: str
    weight: Doubles
    grams: dict[Split, Doubles] = field(default_factory=dict[Split, Doubles])


def nearest(weight: Doubles, _: Doubles, scheme: Scheme) -> Rounded:
    chosen = parameters(scheme, *min_max(weight, scheme))
    return Rounded(quantize(weight, chosen), chosen)


def gptq(weight: Doubles, gram: Doubles, scheme: Scheme) -> Rounded:
    chosen = parameters(scheme, *min_max(weight, scheme))
    return Rounded(second_order(weight, gram, chosen), chosen)


def beam(weight: Doubles, gram: Doubles, scheme: Scheme) -> Rounded:
    chosen = parameters(scheme, *min_max(weight, scheme))
    return Rounded(beam_search(weight, gram, chosen), chosen)


def narrow(weight: Doubles, gram: Doubles, scheme: Scheme) -> Rounded:
    return least_output_error(weight, gram, scheme, width=1)


METHODS: dict[str, Callable[[Doubles, Doubles, Scheme], Rounded]] = {
    "nearest": nearest,
    "second order": gptq,
    "beam of 8": beam,
    "least output error, no beam": narrow,
    "least output error": least_output_error,
}


def texts(split: Split) -> Iterator[str]:
    samples = SentenceRetrieval().samples(split)
    for place in range(0, len(samples), TEST_STEP if split == "test" else 1):
        yield from (str(samples[place].feeds["paragraph"]), str(samples[place].feeds["query"]))


def layers(count: int | None) -> Sequence[Layer]:
    """Every product with a constant matrix, its inputs seen by a run of the model as it came."""
    graph = ir.load(fetch(MODEL))
    products = [node for node in graph.nodes if weight_of(node) is not None][:count]
    found = [Layer(node.label, weight) for node in products if (weight := weight_of(node)) is not None]
    inputs = list(dict.fromkeys(value for node in products if (value := node.operand(0)) is not None))
    graph.set_results(inputs, [f"x{i}" for i in range(len(inputs))])
    session = Session(ir.emit(graph).SerializeToString(), Target(threads=1, optimization="disabled"))
    sentences = Sentences(fetch_asset(MODEL, "tokenizer.json"))
    splits: tuple[Split, ...] = ("calibration", "test")
    for split in splits:
        grams: list[Doubles] = [np.zeros(())] * len(inputs)
        for text in texts(split):
            for place, result in enumerate(session.run(sentences([text]))):
                rows = np.asarray(result, np.float64)
                rows = rows.reshape(-1, rows.shape[-1])
                grams[place] = grams[place] + rows.T @ rows
        for layer, node in zip(found, products, strict=True):
            layer.grams[split] = grams[[value is node.operand(0) for value in inputs].index(True)]
    return found


def weight_of(node: Node) -> Doubles | None:
    operand = node.operand(1) if node.op == "MatMul" else None
    if operand is None or operand.constant is None or operand.rank != 2:
        return None
    return operand.constant.array().astype(np.float64)


def bound(layer: Layer, scheme: Scheme) -> float:
    """The squared error on the calibration inputs that no lattice with the scales of least squares falls below."""
    chosen = parameters(scheme, *least_squares(layer.weight, scheme))
    scale, _ = chosen.grid(layer.weight.shape)
    size = len(layer.weight)
    logarithm = np.linalg.slogdet(layer.grams["calibration"])[1] + 2 * np.log(scale).sum(axis=0)
    return float(np.exp(logarithm / size).sum() * size / (2 * np.pi * np.e))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symmetric", action="store_true")
    parser.add_argument("--bits", type=int, default=4, choices=(2, 4, 8))
    parser.add_argument("--block", type=int, default=32)
    parser.add_argument("--matrices", type=int, help="only the first so many")
    options = parser.parse_args()
    scheme = Scheme(DType[f"UINT{options.bits}"], options.symmetric, axis=0, block=options.block)
    total: dict[str, Doubles] = {name: np.zeros(2) for name in (*METHODS, "bound")}
    seconds = dict.fromkeys(METHODS, 0.0)
    for layer in layers(options.matrices):
        errors: dict[str, Doubles] = {"bound": np.array([bound(layer, scheme), np.nan])}
        for name, method in METHODS.items():
            start = time.perf_counter()
            rounded = dequantize(*method(layer.weight, layer.grams["calibration"], scheme))
            seconds[name] += time.perf_counter() - start
            errors[name] = np.array([output_errors(layer.weight, rounded, g).sum() for g in layer.grams.values()])
        print(line(f"{layer.name} {list(layer.weight.shape)}", errors), flush=True)
        total = {name: total[name] + errors[name] for name in total}
    print(line("overall", total))
    print("seconds:", ", ".join(f"{name} {spent:.0f}" for name, spent in seconds.items()))


def line(title: str, errors: dict[str, Doubles]) -> str:
    """Norms over those of rounding to nearest, on the text seen and on other text; the bound is of the text seen."""
    found: list[str] = []
    for name, error in errors.items():
        ratios = np.sqrt(error / errors["nearest"])[~np.isnan(error)]
        found += [] if name == "nearest" else [" ".join([name, *(f"{ratio:.3f}" for ratio in ratios)])]
    return f"{title:32} " + "  ".join(found)


if __name__ == "__main__":
    main()
