"""What a model's residual blocks matter by, measured on samples: what prune-blocks takes as its scores."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from planish import ir
from planish.ir import DType, Graph, Node, TensorType, Value
from planish.ir.infer import infer
from planish.passes.errors import CalibrationError
from planish.passes.prune.block_scores import BlockScores
from planish.passes.prune.repeated import repeated_layers
from planish.passes.prune.residual import Block, residual_blocks
from planish.runtime.fidelity import floats_of
from planish.runtime.files import Model, at_path
from planish.runtime.model_run import Face, ModelRun
from planish.runtime.progress import Progress, silent
from planish.runtime.providers import Target
from planish.runtime.reconstruct import Samples
from planish.runtime.samples import Feeds, Parts, parts_of
from planish.runtime.session import Result, Session
from planish.runtime.task import Outputs

Doubles = NDArray[np.float64]


def block_importance(
    model: Model,
    samples: Samples,
    *,
    layers: bool = False,
    target: Target | None = None,
    limit: int | None = None,
    progress: Progress = silent,
) -> BlockScores:
    """Measure what the outputs lose without each block: the mean of |y - y'|^2 / |y|^2, of all float outputs together.

    One run for each block and sample, and no labels. A block without which an output has another shape, or is not
    finite, gets no score: it stays. So does one of a nested graph that makes no difference at all: it may never run.

    Args:
        model: as prune-blocks is given it: names of blocks are those of its sums.
        layers: also layers without a skip, which prune-blocks{layers=true} leaves out.
        limit: so many samples, evenly spread over a task or a folder; the first ones of an iterable.

    Raises:
        CalibrationError: there are no samples or no blocks, samples do not fit the model, or what it gives for one of
            them is not finite or nothing but zeros.
        GraphError, SessionError, TaskError: as `calibrate`.
    """
    where = replace(target or Target(), threads=(target or Target()).threads or 1)
    with ExitStack() as stack:
        path = at_path(stack, model, "graph.onnx")
        name = str(model) if not isinstance(model, Graph) else model.name or "the graph"
        graph = ir.load(path)
        blocks = residual_blocks(graph)
        blocks = (*blocks, *repeated_layers(graph, blocks)) if layers else blocks
        if not blocks:
            raise CalibrationError(f"{name} has no residual block; `planish inspect --groups` lists those of a model")
        flags = [_switched(graph, block, f"block {number}") for number, block in enumerate(blocks)]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="planish-")))
        ir.save(graph, folder / "switched.onnx")
        session = Session(folder / "switched.onnx", where)
        noises = _Switches(session, Face.of(path, where), flags).noises(parts_of(samples, limit), progress)
    means = zip(blocks, noises.mean(axis=0).tolist(), strict=True)
    return BlockScores(tuple([(block.name, mean) for block, mean in means if _is_told(block, mean)]))


def _is_told(block: Block, noise: float) -> bool:
    is_nested = block.end.graph is not None and block.end.graph.owner is not None
    return bool(np.isfinite(noise)) and (noise > 0 or not is_nested)


def _switched(graph: Graph, block: Block, name: str) -> str:
    """Let a new input of the model say whether what is behind a block reads it, or what it was added to."""
    value, skip, home = block.end.result, block.skip, block.end.graph
    flag = graph.add_input(name, TensorType(DType.BOOL, ()))
    chosen = Node("Where", (flag, value, skip))
    if home is not None:
        following = block.end.after
        home.insert(chosen, before=None if following is home.returns else following)
        infer(chosen)
        _read_instead(value, chosen.result, chosen)
    return flag.name


def _read_instead(old: Value, new: Value, but: Node) -> None:
    for user in old.users:
        for position, operand in enumerate(user.operands):
            if operand is old and user is not but and user.graph is not None:
                user.graph.set_operand(user, position, new)


@dataclass(frozen=True)
class _Switches:
    """A model with a flag for each block."""

    session: Session
    face: Face
    flags: Sequence[str]

    def noises(self, samples: Parts[object], progress: Progress) -> Doubles:
        """[runs, blocks]."""
        found: list[Doubles] = []
        for part in samples.parts:
            for item in part:
                where = samples.runner.where(item)
                progress("leaving out blocks", 0.0)

                def work(feeds: Feeds, where: str = where) -> Outputs:
                    self.face.check(feeds, where)
                    results = self._results(feeds)
                    found.append(self._without_each(feeds, results, where))
                    names = [argument.name for argument in self.session.outputs]
                    return Outputs(dict(zip(names, results, strict=True)), self.face.label)

                samples.runner.run(item, ModelRun(self.face, work))
        if not found:
            raise CalibrationError(f"no sample runs {self.face.label}: there is nothing to measure its blocks on")
        return np.stack(found)

    def _without_each(self, feeds: Feeds, results: Sequence[Result], where: str) -> Doubles:
        wanted = floats_of(results)
        power = sum(float(np.square(array).sum()) for array in wanted)
        if not np.isfinite(power) or not power:
            what = "nothing but zeros" if not power else "numbers that are not finite"
            raise CalibrationError(
                f"{where}: {self.face.label} gives {what}, of which no part can be lost: leave that sample out"
            )
        return np.array([_lost(wanted, floats_of(self._results(feeds, flag))) / power for flag in self.flags])

    def _results(self, feeds: Feeds, off: str = "") -> Sequence[Result]:
        return self.session.run({**feeds, **{flag: np.array(flag != off) for flag in self.flags}})


@np.errstate(over="ignore", invalid="ignore")
def _lost(wanted: Sequence[Doubles], given: Sequence[Doubles]) -> float:
    """Infinite where that is no number, or the shapes are others."""
    if [array.shape for array in wanted] != [array.shape for array in given]:
        return np.inf
    lost = sum(float(np.square(a - b).sum()) for a, b in zip(wanted, given, strict=True))
    return lost if np.isfinite(lost) else np.inf
