"""Gram matrices of what products with constant weights take, and the names under which they are kept."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from planish.ir import Node
from planish.passes.errors import CalibrationError
from planish.passes.quantize.rounding.bias_correction import centred

Floats = NDArray[np.float64]

PRODUCTS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True, eq=False)
class Gram:
    """Of the rows X that a product contracts with its weight. For MatMul and Gemm they are those of the left operand;
    for Conv there is one for each window, ordered as a filter of the weight is: [channels / group, *kernel], flattened.

    A row with a NaN or an infinity is left out, and counted.
    """

    matrix: Floats
    """X^T X, [groups, k, k]: one group but for a grouped convolution."""
    mean: Floats
    """Column means of X, [groups, k]."""
    count: int
    """Rows of X."""
    skipped: int = 0
    """Rows that were left out."""
    wanted: Floats | None = None
    """Column means in the float model, [groups, k], where X is of one that is quantized in part; a bias makes up for
    the difference, too."""


def aim_of(gram: Gram, group: int, *, has_bias: bool) -> Floats:
    """The Gram matrix that weights are rounded by: of inputs less their means where a bias takes care of these."""
    matrix = gram.matrix[group]
    if not has_bias:
        return matrix
    aim = centred(matrix, gram.mean[group], gram.count)
    np.fill_diagonal(aim, np.maximum(np.diagonal(aim), 0))  # sums of squares, but for rounding
    return aim


def gram_key(node: Node) -> str | None:
    """The name of the Gram matrix for a product's left operand; None where the node is no product with a constant.

    Products that take the same rows share it, whatever the nodes are called and made of: `x`, `x|transposed` for a Gemm
    that transposes, `x|conv(...)` with the geometry of the windows.
    """
    x, w = node.operand(0), node.operand(1)
    if node.op not in PRODUCTS or x is None or w is None or w.constant is None or not x.name or x.constant is not None:
        return None
    if node.op == "MatMul":
        return x.name if len(w.constant.shape) <= 2 else None
    if node.op == "Gemm":
        return f"{x.name}|transposed" if node.get_int("transA") else x.name
    window = Window.of(node)
    return None if window is None else f"{x.name}|conv({window.text()})"


@dataclass(frozen=True)
class Window:
    """How a convolution's windows lie on its input."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    """Begins, then ends; empty where `auto_pad` decides."""
    group: int
    auto_pad: str

    @staticmethod
    def of(node: Node) -> Window | None:
        """None where the weight is no constant of a convolution's rank."""
        w = node.operand(1)
        if node.op != "Conv" or w is None or w.constant is None or len(w.constant.shape) < 3:
            return None
        kernel = w.constant.shape[2:]
        ones, count = (1,) * len(kernel), len(kernel)
        auto = node.get_str("auto_pad")
        pads = node.get_ints("pads") or (0,) * (2 * count)
        if auto == "VALID":
            auto, pads = "NOTSET", (0,) * (2 * count)
        strides, dilations = node.get_ints("strides") or ones, node.get_ints("dilations") or ones
        return Window(kernel, strides, dilations, pads if auto == "NOTSET" else (), node.get_int("group"), auto)

    def text(self) -> str:
        parts = [("kernel", self.kernel), ("strides", self.strides), ("dilations", self.dilations), ("pads", self.pads)]
        said = [f"{name}={'x'.join(map(str, numbers))}" for name, numbers in parts if numbers]
        said += [] if self.auto_pad == "NOTSET" else [f"auto_pad={self.auto_pad}"]
        return " ".join((*said, f"group={self.group}"))


class GramFile(Mapping[str, Gram]):
    """The matrices in an .npz file, each read when it is asked for."""

    def __init__(self, path: Path, counts: Mapping[str, tuple[int, int]]) -> None:
        """counts: of each key, in the order of the file: rows that count and rows that were left out."""
        self.path = path
        self._counts = dict(counts)
        self._numbers = {key: number for number, key in enumerate(counts)}

    def __getitem__(self, key: str) -> Gram:
        """Raises KeyError for a key that is not there, and CalibrationError when the file cannot be read."""
        number = self._numbers[key]
        try:
            with self.path.open("rb") as stream, NpzFile(stream, allow_pickle=False) as stored:
                matrix, mean = stored[f"matrix_{number}"], stored[f"mean_{number}"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise CalibrationError(f"{self.path}: the Gram matrix of {key!r} cannot be read: {error}") from error
        if matrix.ndim != 3 or matrix.shape[1:] != (mean.shape[-1],) * 2 or mean.shape[0] != matrix.shape[0]:
            raise CalibrationError(f"{self.path}: the Gram matrix of {key!r} has the shape {matrix.shape}")
        return Gram(matrix.astype(np.float64), mean.astype(np.float64), *self._counts[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)
