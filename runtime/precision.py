"""Half precision within a budget of noise: what loses accuracy is found on samples, and stays in single precision."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planish import ir, passes
from planish.ir import DType, Graph, Node
from planish.ir.emit_file import check_target
from planish.passes.kernels import cpu
from planish.passes.precision.convert_precision import ConvertPrecision
from planish.passes.precision.regions import WEIGHT
from planish.passes.precision.slots import half_slots
from planish.passes.quantize.selection import is_named
from planish.passes.run import Run
from planish.runtime.calibrate import calibrate
from planish.runtime.compile import ModelPath
from planish.runtime.errors import SessionError
from planish.runtime.fidelity import References, floats_of, record
from planish.runtime.made_up import Inputs, made_up
from planish.runtime.precision_choice import Choice, Costs, choose
from planish.runtime.progress import Progress, silent
from planish.runtime.providers import Target
from planish.runtime.rounding_switches import Slots, add_switches
from planish.runtime.samples import Feeds, parts_of
from planish.runtime.session import Feed, Session
from planish.runtime.task import Task

Doubles = NDArray[np.float64]
Places = NDArray[np.intp]
HalfName = Literal["float16", "bfloat16"]
Samples = Task[object, object] | str | os.PathLike[str] | Iterable[Feeds]
"""What calibrate takes: a task, a folder of .npz files, or feeds."""
_RUNS = 24
"""On which the result must hold."""
_PROBES = 4
"""At most so many of these tell parts apart."""
_STEPS, _FILLS = 16, 12
_LEAST, _AIM = 0.6, 0.85
"""Of the budget: where the search ends, and where it aims."""
_MARGIN = 0.8
"""Of the budget, what a search may use up: there are other inputs than those that it sees."""
_STRIDE = 4.0
_TINY = 1e-300
_FLOOR = 0.25
"""A run counts where single precision itself takes no more than this part of the budget."""


@dataclass(frozen=True)
class PrecisionResult:
    """What became of a model. Signal to noise in dB, of the worst run, against the model as it came."""

    source: Path
    target: Path
    wanted: float
    found: float
    """The lower one: with each number rounded where hardware of half precision rounds it, and as it runs here."""
    everywhere: float
    """The same where all that the pass may convert is half."""
    on_provider: float
    """As ONNX Runtime's CPU provider runs the result, which rounds constants and little else."""
    runs: int
    left_out: int
    """Runs in which single precision itself, worked out in another order, takes a good part of the budget."""
    nodes: int
    half_nodes: int
    """Those that work on half precision."""
    weight_bytes: int
    """Of constants in single precision."""
    half_weight_bytes: int
    """Of these, those that are now stored in half."""
    bytes_before: int
    bytes_after: int
    slower: str
    """Where the CPU provider has no kernel of half precision and casts around the operators, which; else nothing."""
    stage: ConvertPrecision
    """What to write in a pipeline to have the same again, behind the passes that ran before it."""

    @property
    def share(self) -> float:
        """Of the bytes of weights, those that are stored in half precision."""
        return self.half_weight_bytes / max(self.weight_bytes, 1)


def convert_precision(
    source: ModelPath,
    target_path: ModelPath,
    samples: Samples | None = None,
    *,
    to: HalfName = "float16",
    snr: float = 50.0,
    keep: str = "",
    pipeline: str = "simplify,fuse",
    inputs: Inputs | None = None,
    limit: int | None = None,
    progress: Progress = silent,
) -> PrecisionResult:
    """Write as much of a model in half precision as leaves its outputs so many dB above what rounding does to them.

    What each node costs alone is measured, its weights and its numbers apart; what costs most for what it is worth
    stays in single precision, and a node's weights may be stored in half though it computes in single.

    Args:
        samples: a task, a folder of .npz files, or feeds; None for random numbers, of which `inputs` says more.
        keep: patterns of nodes that stay in single precision whatever they cost.
        pipeline: passes that run before. A model whose affine chains are folded into weights rounds less often.
        limit: so many samples.

    Raises:
        CalibrationError, GraphError, PassError, SessionError, TaskError: as `calibrate` and `optimize`.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="planish-")))
        graph = ir.load(source)
        check_target(graph, target_path)
        passes.run(graph, passes.parse(f"{pipeline},remove-dead-nodes" if pipeline else "remove-dead-nodes"))
        optimized = folder / "optimized.onnx"
        ir.save(graph, optimized)
        progress("running the model as it is", 0.0)
        target = Target(threads=1, optimization="disabled")
        if samples is None:
            references = made_up(Path(source), target, inputs or Inputs())
        else:
            references = record(source, parts_of(samples, limit), target, _RUNS)
        seen = None if samples is None else calibrate(optimized, references.feeds, target=target)
        begin = ConvertPrecision(to=to, keep=keep, ranges=seen)
        trial = _Trial(optimized, folder, begin, references, target)
        found = trial.search(10 ** (-snr / 10), progress)
        result, notes = trial.converted(found.stage)
        ir.save(result, target_path)
        progress("done", 1.0)
        on_provider = _noises(Session(target_path, target), references, np.flatnonzero(trial.counted), {}).max()
        return PrecisionResult(
            source=Path(source),
            target=Path(target_path),
            wanted=snr,
            found=_decibels(found.noise),
            everywhere=_decibels(found.everywhere),
            on_provider=_decibels(on_provider),
            runs=len(references.feeds),
            left_out=int(np.count_nonzero(~trial.counted)),
            slower="; ".join(note for note in notes if "is slower" in note),
            stage=found.stage,
            bytes_before=Path(source).stat().st_size,
            bytes_after=Path(target_path).stat().st_size,
            **_counts(result, ir.load(optimized), DType[to.upper()])._asdict(),
        )


class _Found(NamedTuple):
    stage: ConvertPrecision
    noise: float
    everywhere: float


class _Trial:
    """A model with switches, and the runs on which it is tried."""

    def __init__(
        self, optimized: Path, folder: Path, begin: ConvertPrecision, references: References, target: Target
    ) -> None:
        graph = ir.load(optimized)
        self.optimized, self.folder, self.target = optimized, folder, target
        self.begin = begin
        self.references = references
        run = Run(target=cpu())
        free = begin.chosen(graph, begin.survey(graph, run), run)
        self.switches = add_switches(graph, free, _storing(graph, free, begin), begin.half, run.kernels)
        path = folder / "switched.onnx"
        ir.save(graph, path)
        self.session = Session(path, target)
        self.sizes = np.array([part.bytes for part in self.switches.parts], np.float64)
        self.computes = np.array([part.computes for part in self.switches.parts], np.bool_)
        self.counted = np.ones(len(references.feeds), np.bool_)

    def search(self, budget: float, progress: Progress) -> _Found:
        floor = self.noises((), (), np.arange(len(self.references.feeds)))
        self.counted = floor <= _FLOOR * budget
        if not self.counted.any():
            raise SessionError(
                "single precision itself, worked out in another order, keeps no more than "
                f"{_decibels(float(floor.min())):.0f} dB on these inputs: give samples that the model was made for"
            )
        whole = Choice(np.ones(len(self.sizes), np.bool_), self.computes)
        noises = self.of(whole)
        everywhere = float(noises.max())
        if everywhere <= budget:
            return _Found(self.stage(whole), everywhere, everywhere)
        choice, noise = self.within(_MARGIN * budget, floor, np.flatnonzero(self.counted)[noises.argmax()], progress)
        return _Found(self.stage(choice), noise, everywhere)

    def within(self, budget: float, floor: Doubles, first: int, progress: Progress) -> tuple[Choice, float]:
        """What holds and is worth most.

        Noises of parts add up to that of all but roughly, and costs are known of few runs at first. Where a run turns
        out to miss the budget, its costs are found, too; then the budget that it is given is lowered by what it missed.
        """
        none = np.zeros(len(self.sizes), np.bool_)
        best, noise = Choice(none, none), float(self.of(Choice(none, none)).max())
        places = np.flatnonzero(self.counted)
        known = {first: self.costs(first, floor[first], progress)}
        given = {first: budget}
        for step in range(_STEPS):
            progress("choosing", step / _STEPS)
            constants, tensors = (np.stack([cost[i] for cost in known.values()], axis=1) for i in (0, 1))
            costs = Costs(self.sizes, self.computes, constants, tensors, floor[list(known)])
            found = choose(costs, np.array(list(given.values())))
            noises = self.of(found)
            worst = int(places[noises.argmax()])
            if noises.max() <= budget:
                if found.worth(self.sizes) > best.worth(self.sizes):
                    best, noise = found, float(noises.max())
                if noises.max() >= _LEAST * budget or np.array_equal(found.half, self.computes):
                    break
                given = {
                    place: min(_STRIDE, _AIM * budget / max(noises.max(), _TINY)) * part
                    for place, part in given.items()
                }
            elif worst not in known and len(known) < _PROBES:
                known[worst] = self.costs(worst, floor[worst], progress)
                given[worst] = min(given.values())
            else:
                parts = dict(zip(places.tolist(), noises.tolist(), strict=True))
                over = {place: max(1.0, parts[place if worst in known else worst] / budget) for place in known}
                given = {
                    p: part * max(1 / _STRIDE, 1 / (over[p] / _AIM if over[p] > 1 else 1)) for p, part in given.items()
                }
        return self.filled(best, noise, budget)

    def filled(self, choice: Choice, noise: float, budget: float) -> tuple[Choice, float]:
        """With what else the budget turns out to hold, tried one after the other: the largest weights first."""
        sizes = self.sizes
        order = sorted(np.flatnonzero(~choice.stored & (sizes > 0)), key=lambda place: -sizes[place])
        for place in order[:_FILLS]:
            stored = choice.stored.copy()
            stored[place] = True
            worst = float(self.of(Choice(stored, choice.half)).max())
            if worst <= budget:
                choice, noise = Choice(stored, choice.half), worst
        return choice, noise

    def costs(self, run: int, floor: float, progress: Progress) -> tuple[Doubles, Doubles]:
        """Of the constants and of the tensors of each part alone, on one run."""
        parts, places = self.switches.parts, np.array([run])
        constants, tensors = np.zeros((2, len(parts)))
        for place, part in enumerate(parts):
            progress(f"rounding {part.name}", place / len(parts))
            if part.constants:
                constants[place] = self.noises((place,), (), places)[0] - floor
            if part.computes:
                tensors[place] = self.noises((), (place,), places)[0] - floor
        return np.maximum(constants, 0), np.maximum(tensors, 0)

    def of(self, choice: Choice) -> Doubles:
        """On the runs that count: the more of what it is where nodes round their results, and of what it is here."""
        stored, half = np.flatnonzero(choice.stored | choice.half).tolist(), np.flatnonzero(choice.half).tolist()
        places = np.flatnonzero(self.counted)
        converted = self.folder / "half.onnx"
        ir.save(self.converted(self.stage(choice))[0], converted)
        here = _noises(Session(converted, self.target), self.references, places, {})
        return np.maximum(self.noises(stored, half, places), here)

    def converted(self, stage: ConvertPrecision) -> tuple[Graph, Sequence[str]]:
        """The model, and what the pass has to say of it."""
        graph = ir.load(self.optimized)
        (record,) = passes.run(graph, (stage,))
        return graph, record.notes

    def noises(self, stored: Sequence[int], half: Sequence[int], places: Places) -> Doubles:
        return _noises(self.session, self.references, places, self.switches.feeds(stored, half))

    def stage(self, choice: Choice) -> ConvertPrecision:
        """The pass that converts what was chosen."""
        keep = [self.begin.keep] if self.begin.keep else []
        store: list[str] = []
        for part, stored, half in zip(self.switches.parts, choice.stored, choice.half, strict=True):
            if stored and not half:
                store.append(escape(part.name))
            elif part.computes and not half:
                keep.append(escape(part.name))
        return replace(self.begin, keep="|".join(keep), store="|".join(store))


def _storing(graph: Graph, free: Slots, begin: ConvertPrecision) -> Slots:
    """The nodes that do not compute in half precision, though their weights could be stored in it."""
    found: dict[Node, tuple[int, ...]] = {}
    for node in graph.walk():
        if node in free or is_named(node, begin.keep):
            continue
        slots = [place for place in half_slots(node, graph.opset_imports.get("", 0)) if _may_store(node, place, begin)]
        if slots:
            found[node] = tuple(slots)
    return found


def _may_store(node: Node, place: int, begin: ConvertPrecision) -> bool:
    operand = node.operands[place]
    tensor = None if operand is None else operand.constant
    return tensor is not None and tensor.size >= WEIGHT and not begin.half.loss(tensor)


def _noises(session: Session, references: References, places: Places, more: Mapping[str, Feed]) -> Doubles:
    """Of the worst output of each run."""
    found: list[float] = []
    for place in places:
        results = floats_of(session.run({**references.feeds[int(place)], **more}))
        pairs = zip(references.outputs[int(place)], results, strict=True)
        found.append(max((_noise(wanted, got) for wanted, got in pairs), default=0.0))
    return np.array(found)


class _Counts(NamedTuple):
    nodes: int
    half_nodes: int
    weight_bytes: int
    half_weight_bytes: int


def _counts(result: Graph, before: Graph, half: DType) -> _Counts:
    working = [node for node in result.walk() if node.op not in ("Cast", "Constant")]
    return _Counts(
        nodes=len(working),
        half_nodes=sum(any(r.dtype is half for r in node.results) for node in working),
        weight_bytes=_constant_bytes(before, DType.FLOAT),
        half_weight_bytes=2 * _constant_bytes(result, half),
    )


def _constant_bytes(graph: Graph, dtype: DType) -> int:
    read = {operand for node in graph.walk() for operand in node.operands if operand is not None}
    return sum(value.constant.nbytes for value in read if value.constant is not None and value.dtype is dtype)


def _noise(wanted: Doubles, found: Doubles) -> float:
    """|y - y'|^2 / |y|^2 where y is finite; infinite where y' is not."""
    valid = np.isfinite(wanted)
    if wanted.shape != found.shape or not np.isfinite(found[valid]).all():
        return math.inf
    power, error = (float(np.square(x[valid]).sum()) for x in (wanted, wanted - found))
    return error / power if power else math.inf if error else 0.0


def _decibels(noise: float) -> float:
    return -10 * math.log10(noise) if noise > 0 else math.inf
