"""Where a quantized model loses what the float model had: by tensor, on the same samples, and in its weights."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from planish import ir
from planish.ir import Graph
from planish.passes.errors import CalibrationError
from planish.passes.quantize.coded_values import CodedValue, activations, weights
from planish.passes.quantize.dequantized import dequantized
from planish.runtime.cut import Plan, cut, size_of
from planish.runtime.error_tally import CodeTally, Error, Tally, WeightError, weight_error, weight_snr
from planish.runtime.model_run import Face, ModelRun
from planish.runtime.progress import Progress, silent
from planish.runtime.providers import Array, Target
from planish.runtime.samples import Feeds, Parts, parts_of
from planish.runtime.session import Result
from planish.runtime.staged import StagedSession, give_back
from planish.runtime.task import Outputs, Task

Samples = Task[object, object] | str | os.PathLike[str] | Sequence[Feeds]


@dataclass(frozen=True)
class QuantizationErrors:
    samples: int
    tensors: tuple[Error, ...]
    """Of the tensors that both models have, by name, in the order of the quantized one."""
    weights: tuple[WeightError, ...]
    unmatched: tuple[str, ...]
    """Codes that stand for no tensor of the float model, or one of another size."""

    def as_dict(self) -> dict[str, object]:
        return {
            "samples": self.samples,
            "tensors": [error.as_dict() for error in self.tensors],
            "weights": [error.as_dict() for error in self.weights],
            "unmatched": list(self.unmatched),
        }


def quantization_errors(
    model: str | os.PathLike[str],
    quantized: str | os.PathLike[str],
    samples: Samples,
    *,
    target: Target | None = None,
    limit: int | None = None,
    progress: Progress = silent,
) -> QuantizationErrors:
    """Run both models on samples, and hold each tensor of the second against the first one's of the same name.

    Codes stand for what they were made of: that name without `_quantized`. Integer kernels run where ONNX Runtime makes
    them. The tensors of one run of the float model are kept in a temporary folder, and those of one stage in memory.

    Raises:
        CalibrationError: there are no samples, one does not fit the inputs, or the models share no tensor.
        GraphError, SessionError, TaskError: as `calibrate`.
    """
    where = target or Target(threads=1)
    parts = parts_of(samples, limit)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="planish-")))
        graphs = ir.load(model), ir.load(quantized)
        pairs = _Pairs(*graphs)
        if not pairs.codes and not pairs.reals:
            raise CalibrationError(f"{model} and {quantized} share no tensor: give the model that was quantized")
        floats = _constants(graphs[0])
        of_weights = tuple([_weight(found, floats) for found in weights(graphs[1])])
        del floats
        face = Face.of(model, where)
        shapes = face.shapes(parts)
        plans = [
            cut(graph, names, size_of(shapes, graph), folder / name)
            for graph, names, name in zip(graphs, pairs.names, _folders(folder), strict=True)
        ]
        del graphs
        give_back()
        count = _Both(face, plans, where, pairs, folder / "kept").run(parts, progress)
    tallies = {name: tally.error(name) for name, tally in pairs.tallies.items() if tally.count}
    missing = [name for name in pairs.tallies if name not in tallies]
    return QuantizationErrors(count, tuple(tallies.values()), of_weights, (*pairs.unmatched, *missing))


def _folders(folder: Path) -> tuple[str, ...]:
    names = ("float", "integer", "kept")
    for name in names:
        (folder / name).mkdir()
    return names[:2]


class _Pairs:
    """The tensors of two models that are held against each other."""

    def __init__(self, model: Graph, quantized: Graph) -> None:
        known = {value.name for node in model.nodes for value in node.results if value.name}
        known |= {value.name for value in model.inputs}
        self.codes: dict[str, tuple[str, CodedValue]] = {}
        """By the name of codes, that of the real numbers."""
        self.unmatched: list[str] = []
        for found in activations(quantized):
            name = next((name for name in found.names if name in known), "")
            if name and found.codes.name and found.scale.size == 1:
                self.codes[found.codes.name] = (name, found)
            elif found.codes.name:
                self.unmatched.append(found.codes.name)
        coded = {name for name, _ in self.codes.values()}
        self.reals = dict.fromkeys(
            value.name
            for node in quantized.nodes
            for value in node.results
            if value.name in known - coded and value.constant is None and value.dtype is not None
            and value.dtype.is_float and any(user.op != "QuantizeLinear" for user in value.users)
        )  # fmt: skip
        self.tallies: dict[str, Tally] = {name: CodeTally(found.codes.dtype) for name, found in self.codes.values()}
        self.tallies |= {name: Tally() for name in self.reals}
        order = {value.name: place for place, value in enumerate(_values(quantized))}
        places = {name: order[codes] for codes, (name, _) in self.codes.items()} | {n: order[n] for n in self.reals}
        self.tallies = {name: self.tallies[name] for name in sorted(self.tallies, key=places.__getitem__)}

    @property
    def names(self) -> tuple[frozenset[str], frozenset[str]]:
        """What is to be seen of either model."""
        return frozenset(self.tallies), frozenset((*self.codes, *self.reals))

    def look(self, name: str, found: Array, kept: Mapping[str, Path]) -> None:
        """Hold a tensor of the quantized model against what was kept of the float one."""
        coded = self.codes.get(name)
        real = coded[0] if coded is not None else name
        if real not in kept or (coded is None and name not in self.reals):
            return
        reference = np.load(kept[real], mmap_mode="r")
        if reference.size != found.size:
            return
        tally = self.tallies[real]
        if coded is not None and isinstance(tally, CodeTally):
            tally.see(reference, found, float(coded[1].scale.reshape(())), int(coded[1].zero_point.reshape(())))
        else:
            tally.add(reference, found)


def _values(graph: Graph) -> Iterable[ir.Value]:
    return [value for node in graph.nodes for value in node.results if value.name] + list(graph.inputs)


@dataclass
class _Both:
    """Runs one model, then the other."""

    face: Face
    plans: Sequence[Plan]
    target: Target
    pairs: _Pairs
    folder: Path

    def run(self, parts: Parts[object], progress: Progress) -> int:
        """How many samples there were."""
        opened = [StagedSession(plan, self.target) for plan in self.plans]
        count = 0
        for place, part in enumerate(parts.parts):
            progress("comparing tensors", place / parts.count if parts.count else 0.0)
            for item in part:
                where = parts.runner.where(item)

                def work(feeds: Feeds, where: str = where) -> Outputs:
                    self.face.check(feeds, where)
                    return Outputs(self._compare(opened, feeds), self.face.label)

                parts.runner.run(item, ModelRun(self.face, work))
                count += 1
        progress("done", 1.0)
        return count

    def _compare(self, opened: Sequence[StagedSession], feeds: Feeds) -> Mapping[str, Result]:
        kept: dict[str, Path] = {}

        def keep(name: str, array: Array) -> None:
            if name in self.pairs.tallies:
                path = self.folder / f"{len(kept)}.npy"
                np.save(path, array)
                kept[name] = path

        results = opened[0].run(feeds, keep)
        opened[1].run(feeds, lambda name, array: self.pairs.look(name, array, kept))
        for path in kept.values():
            path.unlink()
        return results


def _weight(found: CodedValue, floats: Mapping[str, ir.Value]) -> WeightError:
    codes = found.codes.constant.array() if found.codes.constant is not None else np.zeros(0, np.int8)
    name = next(iter(found.names), found.codes.name)
    real = dequantized(codes, found.scale, found.zero_point, found.axis, found.block)
    reference = next((floats[name].constant for name in found.names if name in floats), None)
    snr = None
    if real is not None and reference is not None:
        snr = weight_snr(np.asarray(reference.array(), np.float64), np.asarray(real, np.float64))
    return weight_error(name, found.codes.dtype, codes, found.scale.size, snr)


def _constants(graph: Graph) -> Mapping[str, ir.Value]:
    operands = [operand for node in graph.walk() for operand in node.operands if operand is not None]
    return {value.name: value for value in operands if value.constant is not None and value.name}
