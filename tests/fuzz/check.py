"""Whether pipelines keep what a random model means: its interface, its results, and their own promise to be done."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir, passes
from planish.ir import DType
from planish.ir.ops.shape import constant_ints
from planish.passes.manager import RulePass
from planish.passes.run import Fp
from planish.runtime.errors import SessionError
from planish.runtime.session import Feed, Result, Session
from tests.equivalence import (
    EXACT_RULES,
    FAITHFUL,
    PLAIN,
    Array,
    RefusedError,
    defaults,
    differences,
    inputs_of,
    op_types,
)
from tests.fuzz.noise import Floats, Noise, allowed, allowed_to_kernels
from tests.hostile import Kind, boundaries, hostile

RUNS = 8
_EXTENTS = (3, 1, 0, 4, 2)
_KINDS: Sequence[Kind] = ("ordinary", "special", "extreme")
_SUMS = frozenset(("MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "Attention"))
"""Whose kernel ONNX Runtime chooses by whether an operand is constant, so that the order of the sum may change."""
APPROXIMATE = frozenset(
    rule.name
    for kind in passes.PASSES.values()
    if issubclass(kind, RulePass) and not kind.lossy
    for rule in kind().rules()
    if rule.contract.name == "APPROXIMATE"
)
_NO_NAN = frozenset(
    rule.name
    for kind in passes.PASSES.values()
    if issubclass(kind, RulePass) and not kind.lossy
    for rule in kind().rules()
    if rule.needs.startswith("no NaN")
)
"""Rules that say so: a maximum finds a NaN or not, by where it lies, so that none need show in the results."""
OPTIONS = ("fuse-hard-swish{spell=HardSigmoid}", "fuse-swish{spell=Sigmoid}", "fuse-softplus{only-limits=true}")
"""Passes with other options than their own, which change what rules they have."""
RAW = "the model as it came"
"""What is being tried while no result of a pass is: a process that dies then dies by ONNX Runtime's own fault."""
EVERY_PASS = ",".join(FAITHFUL)
"""In turn, whether or not a pipeline has them: a second turn may find more to do."""
_APPROXIMATE_STEP = 1e-3
_NESTING = frozenset(("If", "Loop", "Scan", "SequenceMap"))
_FEW, _MANY = 6, 64
_AGAIN = 3
_OWN_FAULTS = ("Shape mismatch attempting to re-use buffer", "Trying to get a TensorSeq, but got: (null)")
"""Words of ONNX Runtime where it fails by itself: it reduces an empty tensor to another shape than it announced, and
then fails on its own memory plan; or it takes out a Cast of a Cast that only a nested graph reads.
"""


class WrongError(AssertionError):
    """A pipeline broke a model; the message says which and how, `kind` what failures of one cause share."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass
class Checked:
    """What came of one model; `fired` counts pairs of pass and rule."""

    runs: int = 0
    fired: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])


@dataclass
class Original:
    """The model as it came: what it gives on each of the inputs that ONNX Runtime takes."""

    proto: onnx.ModelProto
    fp: Fp
    told: Callable[[str], None] = lambda _: None
    feeds: list[dict[str, Feed]] = field(default_factory=list[dict[str, Feed]])
    results: list[list[Result]] = field(default_factory=list[list[Result]])
    noises: dict[float | None, Noise] = field(default_factory=dict[float | None, Noise])
    proven: set[tuple[bytes, bool, float | None]] = field(default_factory=set[tuple[bytes, bool, float | None]])
    """Models that agree with this one, to the bit or not, and with what noise."""

    def __post_init__(self) -> None:
        ops = op_types(self.proto.graph)
        self.random = any(op.startswith("Random") for op in ops)
        self.sums = not _SUMS.isdisjoint(ops) or _has_half(self.proto)
        session = self.session(self.proto)
        for feeds in feeds_of(self.proto, ordinary=self.fp != "strict"):
            session = self.session(self.proto) if self.random else session
            try:
                results = session.run(feeds)
            except SessionError:
                continue
            if _as_declared(self.proto, results):
                self.feeds.append(feeds)
                self.results.append(results)
        if not self.feeds:
            raise RefusedError("ONNX Runtime refuses the model on every input")

    def session(self, proto: onnx.ModelProto) -> Session:
        try:
            return Session(proto.SerializeToString(), PLAIN)
        except SessionError as error:
            raise RefusedError(str(error)) from error

    def repeats(self, feeds: Mapping[str, Feed], expected: Sequence[Result]) -> bool:
        """Whether the model gives the same again: some kernels of ONNX Runtime leave memory as they find it."""
        again = [self.session(self.proto).run(feeds) for _ in range(_AGAIN)]
        return not any(_wrong(results, expected, [None] * len(expected)) for results in again)

    def meets_nan(self, feeds: Mapping[str, Feed]) -> bool:
        """Whether a value on the way to the results is NaN; nested graphs are not looked into."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        known = {info.name for info in proto.graph.output}
        names = [name for node in proto.graph.node if not node.attribute or node.op_type not in _NESTING
                 for name in node.output if name and name not in known]  # fmt: skip
        proto.graph.output.extend([onnx.helper.make_empty_tensor_value_info(name) for name in names])
        try:
            results = Session(proto.SerializeToString(), PLAIN).run(feeds)
        except SessionError:
            return False
        return any(isinstance(r, np.ndarray) and r.dtype.kind == "f" and bool(np.isnan(r).any()) for r in results)

    def noise(self, step: float | None) -> Noise:
        if step not in self.noises:
            self.noises[step] = Noise(self.proto, step)
        return self.noises[step]


def check(
    proto: onnx.ModelProto, pipelines: Sequence[str], fp: Fp, told: Callable[[str], None] = lambda _: None
) -> Checked:
    """Run each pipeline on the model and hold the results against the model's own.

    told: of each pipeline before it runs, and of RAW before the model runs with noise, so that someone knows which
    it was when the process dies.
    Raises RefusedError for a model that is invalid or that ONNX Runtime cannot run, and WrongError for one that a
    pipeline breaks.
    """
    try:
        check_model(proto, full_check=True)
    except Exception as error:  # the checker's own error, and those of shape inference
        raise RefusedError(f"invalid: {error}") from error
    try:
        original = Original(proto, fp, told)
    except ir.GraphError as error:
        raise WrongError(f"a valid model is not loaded: {error}", "loading") from error
    checked = Checked(runs=len(original.feeds))
    for pipeline in pipelines:
        told(pipeline)
        try:
            checked.fired.update(attempt(original, pipeline))
        except WrongError:
            raise
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            raise WrongError(f"{pipeline} at fp={fp}: {words}", _without_names(words)) from error
    return checked


def _without_names(words: str) -> str:
    """An error's message less what differs from model to model."""
    return re.sub(r"'[^']*'|%\S+|\d+|\[[^]]*\]", "_", words.splitlines()[0])[:120]


def attempt(original: Original, pipeline: str) -> Counter[tuple[str, str]]:
    """The rules that fired, once the result is proven."""
    graph = ir.load(original.proto)
    records = passes.run(graph, pipeline, fp=original.fp)
    fired = Counter((record.name, rewrite.rule) for record in records for rewrite in record.rewrites)
    after = ir.emit(graph)
    if not fired:
        if after.SerializeToString() != original.proto.SerializeToString():
            raise WrongError(f"{pipeline}: no rewrite, and other bytes", "other bytes")
        return fired
    check_model(after, full_check=True)
    same_interface(original.proto, after, raised=any(record.opset for record in records))
    rules = {rule for _, rule in fired}
    wrong = disagreement(original, after, rules, pipeline)
    if wrong:
        culprit = blame(original, pipeline, sum(fired.values()))
        raise WrongError(f"{pipeline} at fp={original.fp} by {culprit}: {wrong}", f"values by {culprit}")
    if pipeline != EVERY_PASS:
        done_at_once(after, pipeline, original.fp)
    return fired


def done_at_once(after: onnx.ModelProto, pipeline: str, fp: Fp) -> None:
    """Raise WrongError if a second run finds more to do, or writes other bytes."""
    graph = ir.load(after)
    more = [rewrite for record in passes.run(graph, pipeline, fp=fp) for rewrite in record.rewrites]
    if more:
        kind = f"a second run by {more[0].pass_name}/{more[0].rule}"
        raise WrongError(f"{pipeline} at fp={fp}: {kind}: {'; '.join(map(str, more[:3]))}", kind)
    if ir.emit(graph).SerializeToString() != after.SerializeToString():
        raise WrongError(f"{pipeline} at fp={fp}: a second run writes other bytes", "other bytes")


def blame(original: Original, pipeline: str, rewrites: int) -> str:
    """The pass and the rule whose rewrite is the first after which the results are wrong."""
    good, bad = 0, rewrites
    while bad - good > 1:
        middle = (good + bad) // 2
        graph, made = limited(original, pipeline, middle)
        if disagreement(original, ir.emit(graph), {rewrite.rule for rewrite in made}, pipeline):
            bad = middle
        else:
            good = middle
    _, made = limited(original, pipeline, bad)
    last = max(made, key=lambda rewrite: rewrite.number)
    return f"{last.pass_name}/{last.rule}"


def limited(original: Original, pipeline: str, limit: int) -> tuple[ir.Graph, list[passes.Rewrite]]:
    """The model after so many rewrites, and these."""
    graph = ir.load(original.proto)
    records = passes.run(graph, pipeline, fp=original.fp, limit=limit)
    return graph, [rewrite for record in records for rewrite in record.rewrites]


def same_interface(before: onnx.ModelProto, after: onnx.ModelProto, *, raised: bool) -> None:
    """Inputs, outputs and overridable initializers as they were; opsets too, unless a pass said that it raised one."""
    assert inputs_of(after) == inputs_of(before), "the inputs are others"
    assert list(after.graph.output) == list(before.graph.output), "the outputs are others"
    assert defaults(after) == defaults(before), "the overridable initializers are others"
    assert raised or list(after.opset_import) == list(before.opset_import), "the opsets are others"


def disagreement(original: Original, after: onnx.ModelProto, rules: set[str], pipeline: str) -> str:
    """In words, where the results are others than the original's; nothing where they agree."""
    exact = EXACT_RULES.issuperset(rules) and not original.sums
    step = _APPROXIMATE_STEP if rules & APPROXIMATE else None
    agreement = (after.SerializeToString(), exact, step)
    if agreement in original.proven:
        return ""
    session = Session(after.SerializeToString(), PLAIN)
    for feeds, expected in zip(original.feeds, original.results, strict=True):
        session = Session(after.SerializeToString(), PLAIN) if original.random else session
        try:
            found = session.run(feeds)
        except SessionError as error:
            if any(words in str(error) for words in _OWN_FAULTS):
                continue
            raise
        wrong = _wrong(found, expected, [None] * len(expected))
        if wrong:
            original.told(RAW)
        for count in () if exact or not wrong else (_FEW, _MANY):
            bounds = allowed(expected, list(original.noise(step).runs(feeds, count)))
            wrong = _wrong(found, expected, bounds)
            if not wrong:
                break
            more = allowed_to_kernels(after, feeds, found, count)
            wrong = _wrong(found, expected, [_sum(*pair) for pair in zip(bounds, more, strict=True)])
            if not wrong:
                break
        if wrong and not _NO_NAN.isdisjoint(rules) and original.meets_nan(feeds):
            continue
        if wrong and original.repeats(feeds, expected):
            return f"{'; '.join(wrong[:2])} at {_shown(feeds)}"
        original.told(pipeline)
    original.proven.add(agreement)
    return ""


def _sum(bound: Floats | None, more: Floats | None) -> Floats | None:
    """Both models may be off; results of other shapes are wrong anyway."""
    if bound is None or more is None or bound.shape != more.shape:
        return bound
    return bound + more


def _wrong(found: Sequence[Result], expected: Sequence[Result], bounds: Sequence[Floats | None]) -> list[str]:
    wrong: list[str] = []
    for place, (result, aim, bound) in enumerate(zip(found, expected, bounds, strict=True)):
        if bound is not None and isinstance(result, np.ndarray) and isinstance(aim, np.ndarray):
            told = differences(_settled(result, aim, bound), aim, lambda _, bound=bound: np.atleast_1d(bound))
        else:
            told = differences(result, aim)
        wrong += [f"output {place} {difference}" for difference in told]
    return wrong


def _settled(found: Array, expected: Array, bound: Floats) -> Array:
    """With the expected element wherever any would do."""
    same = found.shape == expected.shape and found.dtype == expected.dtype
    return np.where(np.isinf(bound), expected, found) if same else found


def _as_declared(proto: onnx.ModelProto, results: Sequence[Result]) -> bool:
    """Whether results are of the shapes that the model declares: some kernels give others for empty tensors."""
    return all(
        _fits([dim.dim_value if dim.HasField("dim_value") else None for dim in info.type.tensor_type.shape.dim], result)
        for info, result in zip(proto.graph.output, results, strict=True)
        if info.type.tensor_type.HasField("shape")
    )


def _fits(dims: Sequence[int | None], result: Result) -> bool:
    shape = result.shape if isinstance(result, np.ndarray) else ()
    return len(dims) == len(shape) and all(dim in (None, extent) for dim, extent in zip(dims, shape, strict=True))


def feeds_of(proto: onnx.ModelProto, *, ordinary: bool) -> Iterator[dict[str, Feed]]:
    """RUNS inputs: symbols take unlike extents in turn, 0 and 1 among them, and kinds of numbers change."""
    infos, optional = inputs_of(proto), defaults(proto)
    symbols = sorted({dim.dim_param for info in infos for dim in info.type.tensor_type.shape.dim if dim.dim_param})
    near = boundaries(proto)
    extents = tuple(extent or 5 for extent in _EXTENTS) if _forgets_empty(proto) else _EXTENTS
    for turn in range(RUNS):
        kind = "ordinary" if ordinary else _KINDS[turn % len(_KINDS)]
        binding = {symbol: extents[(turn + 2 * place) % len(extents)] for place, symbol in enumerate(symbols)}
        if turn == RUNS - 1:
            binding = dict.fromkeys(symbols, 2)
        feeds: dict[str, Feed] = {}
        for info in infos:
            if info.name not in optional or turn % 2:
                feeds[info.name] = _feed(info, binding, kind, turn, near)
        yield feeds


def _forgets_empty(proto: onnx.ModelProto) -> bool:
    """Whether it reduces along an axis counted from behind: ONNX Runtime gives empty tensors a wrong shape there."""
    try:
        nodes = ir.load(proto).walk()
    except ir.GraphError:  # ONNX Runtime is asked first: where it takes no input either, the model is refused
        return False
    return any(
        node.op.startswith("Reduce") and any(axis < 0 for axis in constant_ints(node.operand(1)) or ())
        for node in nodes
    )


def _feed(info: onnx.ValueInfoProto, binding: Mapping[str, int], kind: Kind, turn: int, near: Sequence[float]) -> Array:
    tensor = info.type.tensor_type
    shape = tuple(binding[dim.dim_param] if dim.dim_param else dim.dim_value for dim in tensor.shape.dim)
    return hostile(DType(tensor.elem_type), shape, kind, seed=turn + 100 * sum(map(ord, info.name)), near=near)


def _has_half(proto: onnx.ModelProto) -> bool:
    """Whether ONNX Runtime computes some of it in float and rounds between nodes as it likes."""
    return any(value.dtype is DType.FLOAT16 for node in ir.load(proto).walk() for value in node.results)


def _shown(feeds: Mapping[str, Feed]) -> str:
    arrays = {name: feed for name, feed in feeds.items() if isinstance(feed, np.ndarray)}
    return str({name: feed.tolist() if feed.size < 12 else feed.shape for name, feed in arrays.items()})[:400]
