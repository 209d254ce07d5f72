"""Nets of random moves whose channels may shrink: each move takes numbers that choose what it is done to and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from planish.ir import Graph, Value
from planish.ir.graph import Attribute
from tests.passes.prune.topologies import Net

Choice = tuple[int, int, int]
"""Which move, what it is done to, and how."""
_SIDE = 4
SCALE = 0.1
"""Outputs are differences of numbers about as large as 1: smaller ones are as exact as these."""


class RandomNet(Net):
    """Images [N, channels, 4, 4], the last of which most moves go on from."""

    def __init__(self) -> None:
        super().__init__(("N", 3, _SIDE, _SIDE), seed=1)
        self.images: list[Value] = [self.conv(self.x, (3, 8), 1)]

    def channels(self, x: Value) -> int:
        found = (x.shape or (0, 0))[1]
        return found if isinstance(found, int) else 0

    def pick(self, choice: int) -> Value:
        return self.images[-1 - choice % min(len(self.images), 3)]

    def grow(self, choices: Sequence[Choice]) -> Graph:
        for move, place, how in choices:
            made = MOVES[move % len(MOVES)](self, self.pick(place), how)
            if made is not None and 1 < self.channels(made) <= 48:
                self.images.append(made)
        unread = [x for x in self.images if not x.is_used] or self.images[-1:]
        for index, image in enumerate(unread):
            pooled = self.op("Flatten", self.op("GlobalAveragePool", image))
            self.b.output(f"y{index}", self.op("MatMul", pooled, self.weight(self.channels(image), 2)))
        return self.b.graph()

    def divisor(self, x: Value, how: int) -> int:
        """Of the number of channels."""
        found = [n for n in range(1, self.channels(x) + 1) if self.channels(x) % n == 0]
        return found[how % len(found)]


Move = Callable[[RandomNet, Value, int], Value | None]


def plain(n: RandomNet, x: Value, how: int) -> Value:
    return n.conv(x, (n.channels(x), (8, 12, 16, 6)[how % 4]), 1 + 2 * (how // 4 % 2))


def grouped(n: RandomNet, x: Value, how: int) -> Value:
    group = n.divisor(x, how)
    return n.conv(x, (n.channels(x), group * (1 + how // 7 % 4)), 1, group=group)


def transposed(n: RandomNet, x: Value, how: int) -> Value:
    group = n.divisor(x, how) if how % 3 else 1
    w = n.weight(n.channels(x), 1 + how % 5 * 2, 1, 1)
    return n.op("ConvTranspose", x, w, group=group)


def activation(n: RandomNet, x: Value, how: int) -> Value:
    op = ("Relu", "Sigmoid", "HardSwish", "Tanh", "Elu", "Abs")[how % 6]
    return n.op(op, x)


def normalized(n: RandomNet, x: Value, how: int) -> Value:
    channels = n.channels(x)
    if how % 4 == 0:
        return n.op("InstanceNormalization", x, n.positive(channels), n.weight(channels), epsilon=1e-2)
    if how % 4 == 1:
        groups = n.divisor(x, how // 4)
        parameters = n.positive(channels), n.weight(channels)
        return n.op("GroupNormalization", x, *parameters, num_groups=groups, epsilon=1e-2)
    if how % 4 == 2:
        return n.op("LpNormalization", x, axis=1)
    return n.norm(x, channels)


def added(n: RandomNet, x: Value, how: int) -> Value:
    same = [y for y in n.images if n.channels(y) == n.channels(x)]
    return n.op(("Add", "Mul", "Max", "Sub")[how % 4], x, same[how // 4 % len(same)])


def scaled(n: RandomNet, x: Value, how: int) -> Value:
    channels = n.channels(x)
    shape = ((channels, 1, 1), (1, channels, 1, 1), (1, channels, 1, _SIDE), (_SIDE,), (1, 1, _SIDE, 1))[how % 5]
    return n.op(("Add", "Mul")[how // 5 % 2], n.weight(*shape), x)


def joined(n: RandomNet, x: Value, how: int) -> Value:
    others = [n.images[how // 3 % len(n.images)], x, n.weight(1, 2, _SIDE, _SIDE)][: how % 3 + 1]
    if how % 3 == 2:
        others[2] = n.op("Expand", others[2], n.ints(1, 2, _SIDE, _SIDE))
        others = others[:2]
    return n.op("Concat", x, *others, axis=1 if how % 2 else -3)


def split(n: RandomNet, x: Value, how: int) -> Value:
    first = 1 + how % (n.channels(x) - 1)
    parts = n.b.nodes("Split", (x, n.ints(first, n.channels(x) - first)), {"axis": 1}, results=2)
    if n.channels(parts[1]) > 1:
        n.images.append(parts[1])
    return parts[0]


def halves(n: RandomNet, x: Value, how: int) -> Value | None:
    count = n.divisor(x, how)
    if not 1 < count < 5:
        return None
    parts = n.b.nodes("Split", (x,), {"axis": -3, "num_outputs": count}, results=count)
    return n.op("Mul", parts[0], n.op("Sigmoid", parts[-1]))


def sliced(n: RandomNet, x: Value, how: int) -> Value:
    channels = n.channels(x)
    start, end = how % channels - channels * (how // 64 % 2), (2**31 - 1, -1, channels - 1)[how // 8 % 3]
    step = 1 + how // 128 % 2
    return n.op("Slice", x, n.ints(start), n.ints(end), n.ints(1), n.ints(step))


def gathered(n: RandomNet, x: Value, how: int) -> Value:
    channels = n.channels(x)
    places = np.random.default_rng(how).integers(-channels, channels, 1 + how % 12)
    return n.op("Gather", x, n.b.constant(places.astype((np.int64, np.int32)[how % 2])), axis=1)


def padded(n: RandomNet, x: Value, how: int) -> Value:
    before, behind = how % 3, how // 3 % 3 - 1
    return n.op("Pad", x, n.ints(0, before, 0, 0, 0, behind, 0, 0))


def shuffled(n: RandomNet, x: Value, how: int) -> Value:
    groups = n.divisor(x, how)
    each = n.channels(x) // groups
    y = n.op("Reshape", x, n.ints(0, groups, each, _SIDE, -1) if how % 2 else n.ints(-1, groups, each, _SIDE, _SIDE))
    y = n.op("Transpose", y, perm=(0, 2, 1, 3, 4))
    return n.op("Reshape", y, n.ints(0, groups * each, _SIDE, _SIDE) if how % 3 else n.ints(0, -1, _SIDE, _SIDE))


def shuffled_pixels(n: RandomNet, x: Value, how: int) -> Value | None:
    if how % 2 == 0:
        y = n.op("SpaceToDepth", x, blocksize=2)
    elif n.channels(x) % 4:
        return None
    else:
        y = n.op("DepthToSpace", x, blocksize=2, mode=("DCR", "CRD")[how // 2 % 2])
    scale = 2.0 if how % 2 == 0 else 0.5
    scales = n.b.constant(np.array([1, 1, scale, scale], np.float32))
    return n.b.node("Resize", (y, None, scales), {"mode": "nearest"})


def last(n: RandomNet, x: Value, how: int) -> Value:
    """Channels last, and a product over them."""
    channels, width = n.channels(x), (8, 6, 12)[how % 3]
    y = n.op("Transpose", x, perm=(0, 2, 3, 1))
    if how % 2:
        y = n.op("Reshape", y, n.ints(0, _SIDE * _SIDE, channels))
    y = n.linear(y, (channels, width))
    if how % 2:
        y = n.op("Reshape", y, n.ints(-1, _SIDE, _SIDE, width))
    return n.op("Transpose", y, perm=(0, 3, 1, 2))


def heads(n: RandomNet, x: Value, how: int) -> Value:
    """Attention over pixels, with heads that are split in one of three ways."""
    count, size = (2, 3, 4)[how % 3], (2, 4, 5)[how // 3 % 3]
    y = n.op("Transpose", n.op("Reshape", x, n.ints(0, n.channels(x), _SIDE * _SIDE)), perm=(0, 2, 1))

    def part() -> Value:
        z = n.linear(y, (n.channels(x), count * size))
        return n.op("Transpose", n.op("Reshape", z, n.ints(0, _SIDE * _SIDE, count, size)), perm=(0, 2, 1, 3))

    q, k, v = part(), part(), part()
    if how % 5 == 0:
        q = n.op("Mul", q, n.weight(1, count, 1, size if how % 2 else 1))
    scores = n.op("Softmax", n.op("MatMul", q, n.op("Transpose", k, perm=(0, 1, 3, 2))), axis=-1)
    z = n.op("Reshape", n.op("Transpose", n.op("MatMul", scores, v), perm=(0, 2, 1, 3)), n.ints(0, 0, count * size))
    z = n.linear(z, (count * size, 8))
    return n.op("Reshape", n.op("Transpose", z, perm=(0, 2, 1)), n.ints(0, 8, _SIDE, _SIDE))


def squeezed(n: RandomNet, x: Value, how: int) -> Value:
    """A gate, by a product of matrices or of pixels."""
    channels = n.channels(x)
    if how % 2:
        y = n.op(("GlobalAveragePool", "GlobalMaxPool")[how // 2 % 2], x)
        return n.op("Mul", x, n.op("Sigmoid", n.conv(n.op("Relu", n.conv(y, (channels, 6), 1)), (6, channels), 1)))
    y = n.op("ReduceMean", x, n.ints(2, 3), keepdims=0)
    y = n.op("Gemm", y, n.weight(channels, 6), n.weight(6))
    y = n.op("Sigmoid", n.op("Gemm", n.op("Relu", y), n.weight(channels, 6), n.weight(channels), transB=1))
    return n.op("Mul", x, n.op("Unsqueeze", y, n.ints(2, 3) if how % 4 else n.ints(-1, -2)))


def flattened(n: RandomNet, x: Value, how: int) -> Value:
    channels = n.channels(x)
    y = n.op("Flatten", x) if how % 2 else n.op("Reshape", x, n.ints(-1, channels * _SIDE * _SIDE))
    y = n.op("Relu", n.op("Gemm", y, n.weight(channels * _SIDE * _SIDE, 10), n.weight(10)))
    y = n.op("Gemm", y, n.weight(10, 2 * _SIDE * _SIDE), n.weight(1, 2 * _SIDE * _SIDE))
    return n.op("Reshape", y, n.ints(-1, 2, _SIDE, _SIDE))


def reduced(n: RandomNet, x: Value, how: int) -> Value:
    """A sum or an extreme over channels, which the others are multiplied with."""
    op = ("ReduceSum", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceL1", "ReduceSumSquare")[how % 6]
    return n.op("Mul", x, n.op("Sigmoid", n.op(op, x, n.ints(1))))


def over_channels(n: RandomNet, x: Value, how: int) -> Value:
    if how % 3 == 0:
        return n.op("Mul", x, n.op("Softmax", x, axis=1))
    if how % 3 == 1:
        return n.op("LRN", x, size=3)
    attributes: dict[str, Attribute] = {"axis": -1}
    y = n.b.node("LayerNormalization", (n.op("Transpose", x, perm=(0, 2, 3, 1)), n.positive(n.channels(x))), attributes)
    return n.op("Transpose", y, perm=(0, 3, 1, 2))


def repeated(n: RandomNet, x: Value, how: int) -> Value:
    if how % 2:
        return n.op("Tile", x, n.ints(1, 1 + how // 2 % 3, 1, 1))
    wide = n.op("Expand", n.op("Unsqueeze", x, n.ints(2)), n.ints(1, n.channels(x), 2, 1, 1))
    return n.op("Reshape", wide, n.ints(0, 2 * n.channels(x), _SIDE, _SIDE))


def chosen(n: RandomNet, x: Value, how: int) -> Value:
    condition = n.op("Greater", x, n.weight(n.channels(x) if how % 2 else 1, 1, 1))
    return n.op("Where", condition, x, n.weight(1))


def remembered(n: RandomNet, x: Value, how: int) -> Value:
    op, gates = (("LSTM", 4), ("GRU", 3), ("RNN", 1))[how % 3]
    count, hidden = n.channels(x), 5
    y = n.op("Transpose", n.op("Reshape", x, n.ints(0, count, _SIDE * _SIDE)), perm=(2, 0, 1))
    w, r, b = n.weight(1, gates * hidden, count), n.weight(1, gates * hidden, hidden), n.weight(1, 2 * gates * hidden)
    z = n.b.nodes(op, (y, w, r, b), {"hidden_size": hidden}, results=2)[how // 3 % 2]
    if how // 3 % 2 == 0:
        return n.op("Reshape", n.op("Transpose", z, perm=(2, 1, 3, 0)), n.ints(-1, hidden, _SIDE, _SIDE))
    z = n.op("Gemm", n.op("Squeeze", z, n.ints(0)), n.weight(hidden, 2 * _SIDE * _SIDE))
    return n.op("Reshape", z, n.ints(-1, 2, _SIDE, _SIDE))


MOVES: Sequence[Move] = (
    *(plain, grouped, transposed, activation, normalized, added, scaled, joined, split, halves, sliced, gathered),
    *(padded, shuffled, shuffled_pixels, last, heads, squeezed, flattened, reduced, over_channels, repeated, chosen),
    *(remembered, plain, plain, grouped, added),
)
