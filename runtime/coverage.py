"""Which nodes that were to work on codes really do: what the plan predicts, and what ONNX Runtime made of it.

A node between DequantizeLinear and QuantizeLinear becomes an integer kernel only where its form and its types are those
that the runtime looks for; else it runs float between conversions, slower than before, and nothing says so. The proof
is the model as ONNX Runtime writes it after its own optimizations: the codes keep their names, and what makes them is
the kernel.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from planish import ir
from planish.ir import Node, Value
from planish.ir.ops.schema import parse_key
from planish.passes.quantize.plan import Prediction
from planish.runtime.providers import Target
from planish.runtime.report import table
from planish.runtime.session import Session

_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
_RENAMING = ("layout", "all")
"""Levels of optimization at which kernels take channels last, and what they make gets other names."""


@dataclass(frozen=True)
class Proof:
    """What was predicted of a node, and what it became."""

    prediction: Prediction
    kernel: str | None
    """What makes its codes: an integer kernel, or QuantizeLinear where it stayed float; None where nothing does, since
    the runtime merged the node with another one."""

    @property
    def holds(self) -> bool:
        """Whether it is the kernel that was predicted; a node that only moves codes about may also be merged away."""
        return self.kernel == self.prediction.kernel or (self.kernel is None and self.prediction.moves)


@dataclass(frozen=True)
class Coverage:
    proofs: tuple[Proof, ...]
    conversions: Mapping[str, int]
    """QuantizeLinear and DequantizeLinear of activations that are left, by operator."""
    borders: int
    """Tensors that are converted: each stands between a float and an integer region."""
    unfolded: int
    """Constants that are dequantized again at every run."""

    @property
    def predicted(self) -> Mapping[str, int]:
        """Nodes by the kernel that was predicted."""
        return Counter(proof.prediction.kernel for proof in self.proofs)

    @property
    def proved(self) -> Mapping[str, int]:
        """Of those, the ones that it was."""
        return Counter(proof.prediction.kernel for proof in self.proofs if proof.holds)

    @property
    def failures(self) -> tuple[Proof, ...]:
        return tuple([proof for proof in self.proofs if not proof.holds])

    @property
    def is_whole(self) -> bool:
        return not self.failures

    def as_dict(self) -> dict[str, object]:
        return {
            "predicted": dict(self.predicted),
            "proved": dict(self.proved),
            "failures": [
                {"node": proof.prediction.node, "predicted": proof.prediction.kernel, "proved": proof.kernel}
                for proof in self.failures
            ],
            "conversions": dict(self.conversions),
            "borders": self.borders,
            "unfolded_constants": self.unfolded,
        }

    def __str__(self) -> str:
        proved = self.proved
        rows = [(name, str(count), str(proved.get(name, 0))) for name, count in sorted(self.predicted.items())]
        lines = [table(("integer kernel", "predicted", "proved"), rows)]
        lines += [
            f"{proof.prediction.node}: {proof.prediction.kernel} was predicted, and it is {proof.kernel or 'nothing'}"
            for proof in self.failures
        ]
        left = ", ".join(f"{count} {op}" for op, count in self.conversions.items()) or "none"
        lines.append(f"conversions left: {left}, of {self.borders} tensors")
        if self.unfolded:
            lines.append(f"constants dequantized at every run: {self.unfolded}")
        return "\n".join(lines)


def prove(
    model: str | os.PathLike[str] | bytes,
    expected: Iterable[Prediction],
    target: Target | None = None,
    config: Mapping[str, str] | None = None,
) -> Coverage:
    """Let ONNX Runtime optimize a quantized model, and look up what it made of each node that was to work on codes.

    config: entries of a session's configuration. On x86 signed activations become unsigned ones, as on no Arm, unless
    session.qdqisint8allowed is 1.
    Raises SessionError where it cannot open the model.
    """
    target = target or Target()
    named = replace(target, optimization="extended") if target.optimization in _RENAMING else target
    makers = {value.name: node for node in _optimized(model, named, config) for value in node.results if value.name}
    proofs = tuple([Proof(prediction, _kernel(prediction, makers)) for prediction in expected])
    final = _optimized(model, target, config)
    left = [node for node in final if node.op in _CONVERSIONS]
    activations = [node for node in left if not _is_constant(node.operands[0])]
    return Coverage(
        proofs,
        Counter(node.op for node in activations),
        len({node.operands[0] for node in activations}),
        len(left) - len(activations),
    )


def _optimized(
    model: str | os.PathLike[str] | bytes, target: Target, config: Mapping[str, str] | None
) -> Sequence[Node]:
    """The nodes that ONNX Runtime runs for a model."""
    with tempfile.TemporaryDirectory(prefix="planish-") as folder:
        path = Path(folder) / "optimized.onnx"
        Session(model, target, config, optimized=path)
        return tuple(ir.load(path).walk())


def _is_constant(value: Value | None) -> bool:
    return value is not None and value.constant is not None


def _kernel(prediction: Prediction, makers: Mapping[str, Node]) -> str | None:
    found = (makers.get(name) for name in prediction.results)
    return next((parse_key(node.op).op_type for node in found if node is not None), None)
