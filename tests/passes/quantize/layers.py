"""Layers X W to round: inputs that go together as activations do, and weights with outliers."""

from typing import NamedTuple

import numpy as np

from planish.passes.quantize.scheme import Doubles


class Layer(NamedTuple):
    weight: Doubles
    inputs: Doubles

    @property
    def gram(self) -> Doubles:
        return self.inputs.T @ self.inputs

    def error(self, rounded: Doubles) -> float:
        """Squared, at the output, worked out without the Gram matrix."""
        return float(np.sum((self.inputs @ (self.weight - rounded)) ** 2))


def layer(rows: int, columns: int, *, samples: int = 200, seed: int = 0) -> Layer:
    """Inputs of few directions plus noise, a mean other than 0, and one channel 20 times as large as the others."""
    rng = np.random.default_rng([seed, rows, columns])
    weight = rng.standard_t(4, (rows, columns)) * 0.05
    directions = rng.standard_normal((max(rows // 8, 1), rows))
    inputs = rng.standard_normal((samples, len(directions))) @ directions + 0.3 * rng.standard_normal((samples, rows))
    inputs += rng.standard_normal(rows)
    if rows:
        inputs[:, rng.integers(rows)] *= 20
    return Layer(weight.astype(np.float32).astype(np.float64), inputs)
