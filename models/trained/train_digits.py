"""The script that made digits.onnx: `python -m planish.models.trained.train_digits OUT.onnx`, a minute on one core.

It walks the net of `planish.models.builders` and keeps, for each operator, how its output's gradient becomes those of
its operands. Needs nothing that planish does not. The same seed gives the same file on machines whose BLAS adds alike,
and a file as good on any other.
"""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from planish import ir
from planish.ir import Graph, Node, Value
from planish.ir.tensor import ArrayTensor
from planish.models.builders import digits_cnn
from planish.models.tasks.digits import training

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]
Backward = Callable[[Floats], Sequence[Floats]]
"""From the gradient of an output to those of the operands that take one, in their order."""
Step = tuple[Floats, Backward]

SEED = 0
EPOCHS = 120
BATCH = 50
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-4
MOMENTUM = 0.1
"""The share of a batch in the running mean and variance."""


def train(graph: Graph, images: Floats, labels: Ints, *, epochs: int = EPOCHS, seed: int = SEED) -> None:
    """Sets the float constants of `graph`, from [n, 1, 8, 8] to 10 logits, by Adam on the cross-entropy.

    D. Kingma and J. Ba, Adam: A Method for Stochastic Optimization, 2015; the decay of weights is decoupled
    (I. Loshchilov and F. Hutter, 2019) and the learning rate falls along a cosine.
    """
    random = np.random.default_rng(seed)
    net = _Net(graph, random)
    steps, total = 0, epochs * (len(images) // BATCH)
    for order in (random.permutation(len(images)) for _ in range(epochs)):
        for start in range(0, len(images) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            logits = net.forward(_distorted(images[chosen], random))
            rate = LEARNING_RATE * (1 + math.cos(math.pi * steps / total)) / 2
            steps += 1
            net.update(net.backward(_cross_entropy_gradient(logits, labels[chosen])), rate, steps)
    for value, array in net.weights.items():
        value.set_constant(ArrayTensor(array))


class _Net:
    """A graph in training: its weights, and the steps of the last batch."""

    def __init__(self, graph: Graph, random: np.random.Generator) -> None:
        self.graph, self.random = graph, random
        self.weights: dict[Value, Floats] = {
            value: value.constant.array().astype(np.float32)
            for value in graph.initializers
            if value.constant is not None and value.constant.dtype is ir.DType.FLOAT
        }
        self.tape: list[tuple[Node, Sequence[Value], Backward]] = []
        self.moments = {value: (np.zeros_like(array), np.zeros_like(array)) for value, array in self.weights.items()}

    def forward(self, images: Floats) -> Floats:
        known: dict[Value, Floats] = {self.graph.inputs[0]: images, **self.weights}
        self.tape.clear()
        for node in self.graph.nodes:
            takes = [value for value in node.operands if value is not None and value in known]
            if takes and node.op != "Shape":
                known[node.result], backward = self.step(node, [known[value] for value in takes])
                self.tape.append((node, takes, backward))
        return known[self.graph.outputs[0]]

    def step(self, node: Node, operands: Sequence[Floats]) -> Step:
        match node.op:
            case "Conv":
                return _conv(*operands)
            case "BatchNormalization":
                x, scale, bias, mean, variance = operands
                return _batch_norm(x, scale, bias, mean, variance)
            case "Gemm":
                return _gemm(*operands)
            case "MaxPool":
                return _max_pool(operands[0])
            case "Add":
                return operands[0] + operands[1], lambda dy: (dy, dy)
            case "Relu":
                x = operands[0]
                return np.maximum(x, 0), lambda dy: (dy * (x > 0),)
            case "Reshape":
                x = operands[0]
                return x.reshape(len(x), -1), lambda dy: (dy.reshape(x.shape),)
            case "Dropout":
                kept = (self.random.random(operands[0].shape, np.float32) < 0.5).astype(np.float32) * 2
                return operands[0] * kept, lambda dy: (dy * kept,)
            case _:
                raise ValueError(f"no gradient is known of {node.op}")

    def backward(self, gradient: Floats) -> dict[Value, Floats]:
        """The gradients of the weights; the running mean and variance have none."""
        known: dict[Value, Floats] = {self.graph.outputs[0]: gradient}
        for node, takes, backward in reversed(self.tape):
            for value, part in zip(takes, backward(known[node.result]), strict=False):
                known[value] = known[value] + part if value in known else part
        return {value: known[value] for value in self.weights if value in known}

    def update(self, gradients: dict[Value, Floats], rate: float, step: int) -> None:
        for value, gradient in gradients.items():
            first, second = self.moments[value]
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient**2 - second)
            weight = self.weights[value]
            towards = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
            weight -= (rate * (towards + WEIGHT_DECAY * weight * (weight.ndim > 1))).astype(np.float32)


def _batch_norm(x: Floats, scale: Floats, bias: Floats, mean: Floats, variance: Floats) -> Step:
    """Of the batch's own mean and variance; the running ones follow in place."""
    over, shape, count = (0, 2, 3), (1, -1, 1, 1), x.size // len(scale)
    found, spread = x.mean(over), x.var(over)
    mean += MOMENTUM * (found - mean)
    variance += MOMENTUM * (spread * count / (count - 1) - variance)
    inverse = (1 / np.sqrt(spread + 1e-5)).astype(np.float32)
    normal = (x - found.reshape(shape)) * inverse.reshape(shape)

    def backward(dy: Floats) -> Sequence[Floats]:
        dscale, dbias = (dy * normal).sum(over), dy.sum(over)
        centred = dy - (dbias.reshape(shape) + normal * dscale.reshape(shape)) / count
        return centred * (scale * inverse).reshape(shape), dscale, dbias

    return normal * scale.reshape(shape) + bias.reshape(shape), backward


def _conv(x: Floats, w: Floats) -> Step:
    """Kernels of 3 x 3, padded to keep the extents."""
    count, channels, height, width = x.shape
    windows = sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3))
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, channels * 9)
    flat = w.reshape(len(w), -1)

    def backward(dy: Floats) -> Sequence[Floats]:
        rows = dy.transpose(0, 2, 3, 1).reshape(-1, len(w))
        parts = (rows @ flat).reshape(count, height, width, channels, 3, 3)
        dx = np.zeros((count, channels, height + 2, width + 2), np.float32)
        for i in range(3):
            for j in range(3):
                dx[:, :, i : i + height, j : j + width] += parts[..., i, j].transpose(0, 3, 1, 2)
        return dx[:, :, 1:-1, 1:-1], (rows.T @ columns).reshape(w.shape)

    return (columns @ flat.T).reshape(count, height, width, len(w)).transpose(0, 3, 1, 2), backward


def _gemm(x: Floats, w: Floats, bias: Floats) -> Step:
    return x @ w.T + bias, lambda dy: (dy @ w, dy.T @ x, dy.sum(0))


def _max_pool(x: Floats) -> Step:
    """Of 2 x 2; equal maxima share the gradient."""
    count, channels, height, width = x.shape
    blocks = x.reshape(count, channels, height // 2, 2, width // 2, 2)
    y = blocks.max((3, 5))
    at = (blocks == y[:, :, :, None, :, None]).astype(np.float32)
    at /= at.sum((3, 5), keepdims=True)
    return y, lambda dy: ((at * dy[:, :, :, None, :, None]).reshape(x.shape),)


def _cross_entropy_gradient(logits: Floats, labels: Ints) -> Floats:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    gradient = shifted / shifted.sum(1, keepdims=True)
    gradient[np.arange(len(labels)), labels] -= 1
    return gradient / np.float32(len(labels))


def _distorted(images: Floats, random: np.random.Generator) -> Floats:
    """Each turned by up to 12 degrees, scaled and slanted by up to a tenth, moved by up to one pixel; bilinear."""
    size, each = images.shape[-1], (len(images), 1, 1)
    angle, slant = random.uniform(-0.21, 0.21, each), random.uniform(-0.1, 0.1, each)
    height, width = random.uniform(0.9, 1.1, (2, *each))
    down, right = random.uniform(-1, 1, (2, *each))
    centre, margin = (size - 1) / 2, 2
    column: Doubles = np.arange(size, dtype=np.float64) - centre
    row = column[:, None]
    y: Doubles = (np.cos(angle) * row - np.sin(angle) * column) * height + down
    x: Doubles = (np.sin(angle) * row + np.cos(angle) * column + slant * row) * width + right
    y, x = (np.clip(axis + centre + margin, 0, size + 2 * margin - 1.001) for axis in (y, x))
    padded = np.pad(images[:, 0], ((0, 0), (margin, margin), (margin, margin)))
    top, left = y.astype(np.int64), x.astype(np.int64)
    return _bilinear(padded, top, left, y - top, x - left)[:, None].astype(np.float32)


def _bilinear(padded: Floats, top: Ints, left: Ints, down: Doubles, right: Doubles) -> Doubles:
    at = np.arange(len(padded))[:, None, None]

    def corners() -> Iterator[Doubles]:
        for i, weight in ((0, 1 - down), (1, down)):
            for j, other in ((0, 1 - right), (1, right)):
                yield padded[at, top + i, left + j] * weight * other

    return np.sum(list(corners()), axis=0)


def main(target: Path, epochs: int = EPOCHS) -> None:
    graph = digits_cnn(SEED)
    train(graph, *training(), epochs=epochs)
    ir.save(graph, target)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m planish.models.trained.train_digits OUT.onnx")
    main(Path(sys.argv[1]))
