"""Whether a rewritten model means what it meant: what the tests of passes stand on.

`rewritten` runs a pipeline over a model and holds the result against everything that no rewrite may break.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, parser, printer
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir, passes
from planish.ir import DType
from planish.passes import Kernels, PassRecord, Rewrite
from planish.passes.manager import RulePass
from planish.passes.run import Fp
from planish.runtime.errors import SessionError
from planish.runtime.providers import Target
from planish.runtime.session import Feed, Result, Session
from tests.hostile import Kind, Limits, boundaries, hostile
from tests.rounding import rounding_bounds

Array: TypeAlias = NDArray[np.generic]
Feeds: TypeAlias = Mapping[str, Feed]
Binding: TypeAlias = Mapping[str, int]
Bound: TypeAlias = Callable[[Array], NDArray[np.float64]]
"""How far a result may be from the expected one, element by element."""

PLAIN = Target(threads=1, optimization="disabled")
FAITHFUL = tuple(name for name, kind in passes.PASSES.items() if not kind.lossy)
"""The passes after which a model gives what it gave before; of the others each test file says what they may change."""
EXACT_RULES = frozenset(
    rule.name
    for kind in passes.PASSES.values()
    if issubclass(kind, RulePass)
    for rule in kind().rules()
    if rule.contract.name == "EXACT"
) | {"merge", "remove-node", "remove-initializer"}
_NO_OVERRIDES_UNTIL_IR = 4


# Models as text


def model(body: str, opset: int = 17, *, ir_version: int = 8, imports: str = "") -> onnx.ModelProto:
    """A valid model from ONNX's text syntax: `body` is the graph, and behind it model-local functions, if any."""
    found = parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["" : {opset}{imports}]> {body}')
    check_model(found, full_check=True)
    return found


def nodes(graph: onnx.GraphProto) -> list[str]:
    """Each node as text, those of nested graphs inside their owners."""
    return [" ".join(printer.to_text(node).split()) for node in graph.node]


def op_types(graph: onnx.GraphProto) -> list[str]:
    """Operators in order, those of nested graphs behind their owner's."""
    found: list[str] = []
    for node in graph.node:
        found.append(node.op_type)
        for attribute in node.attribute:
            for nested in (attribute.g, *attribute.graphs):
                found += op_types(nested)
    return found


class RefusedError(AssertionError):
    """The model as it came cannot be run at all, so that there is nothing to compare with."""


# Models before and after


@dataclass(frozen=True)
class Rewritten:
    """A model before and after a pipeline, and what was done to it; `runs` counts the inputs on which they agreed."""

    before: onnx.ModelProto
    after: onnx.ModelProto
    records: tuple[PassRecord, ...]
    runs: int

    @property
    def rewrites(self) -> list[Rewrite]:
        return [rewrite for record in self.records for rewrite in record.rewrites]

    @property
    def rules(self) -> list[str]:
        return [rewrite.rule for rewrite in self.rewrites]

    @property
    def nodes(self) -> list[str]:
        return nodes(self.after.graph)

    @property
    def op_types(self) -> list[str]:
        return op_types(self.after.graph)

    @property
    def initializers(self) -> dict[str, Array]:
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in self.after.graph.initializer}


@dataclass(frozen=True)
class Inputs:
    """What models are compared on, beyond what follows from the types of their inputs.

    bindings: values of the symbolic dims; by default each is 0, 1 and more while the others differ, and all are 1.
    values: for inputs that may hold only certain things (indices, shapes), the arrays to feed.
    kinds: of hostile values, for the other inputs.
    refusals: whether ONNX Runtime may refuse the model on some of these.
    """

    bindings: Sequence[Binding] | None = None
    values: Mapping[str, Sequence[Array]] = field(default_factory=dict[str, Sequence[Array]])
    kinds: Sequence[Kind] = ("ordinary", "extreme", "special")
    refusals: bool = False


@dataclass(frozen=True)
class Terms:
    """As far as the rounding of sums of so many terms may lead."""

    count: int


@dataclass(frozen=True)
class Ulps:
    """Within so many steps of the last bit."""

    count: float


Tolerance = Terms | Ulps


def rewritten(
    source: onnx.ModelProto | str,
    pipeline: str,
    *,
    inputs: Inputs | None = None,
    tolerance: Tolerance | None = None,
    fp: Fp = "default",
    limit: int | None = None,
    kernels: Kernels | None = None,
) -> Rewritten:
    """Run a pipeline over a model; raises AssertionError unless the result means what the model meant.

    Its interface must be the same, a second run must change nothing, and ONNX Runtime must find the same results: to
    the bit where every rule that fired is EXACT, else within the tolerance that the test states.
    """
    before = model(source) if isinstance(source, str) else source
    graph = ir.load(before)
    records = passes.run(graph, pipeline, fp=fp, limit=limit, kernels=kernels)
    after = ir.emit(graph)
    check_model(after, full_check=True)
    same_interface(before, after, opset=kernels is None)
    if limit is None:
        unchanged_by(after, pipeline, fp, kernels)
    rules = {rewrite.rule for record in records for rewrite in record.rewrites}
    exact = EXACT_RULES.issuperset(rules)
    assert exact or tolerance, f"{sorted(rules)} may round, and the test states no tolerance"
    return Rewritten(before, after, records, agree(before, after, inputs or Inputs(), None if exact else tolerance))


def untouched(
    source: onnx.ModelProto | str, pipeline: str, *, fp: Fp = "default", kernels: Kernels | None = None
) -> None:
    """Raises AssertionError unless a pipeline leaves a model alone: no rewrite, and the same bytes."""
    unchanged_by(model(source) if isinstance(source, str) else source, pipeline, fp, kernels)


def unchanged_by(proto: onnx.ModelProto, pipeline: str, fp: Fp = "default", kernels: Kernels | None = None) -> None:
    graph = ir.load(proto)
    rewrites = [
        str(rewrite) for record in passes.run(graph, pipeline, fp=fp, kernels=kernels) for rewrite in record.rewrites
    ]
    assert rewrites == []
    assert ir.emit(graph).SerializeToString() == proto.SerializeToString()


def same_interface(before: onnx.ModelProto, after: onnx.ModelProto, *, opset: bool = True) -> None:
    """Inputs, outputs and overridable initializers as they were, field by field; with `opset`, all opsets too."""
    assert inputs_of(after) == inputs_of(before)
    assert list(after.graph.output) == list(before.graph.output)
    assert not opset or list(after.opset_import) == list(before.opset_import)
    assert defaults(after) == defaults(before)


def inputs_of(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """What a caller may feed: before IR 4 the constants stand among the inputs, and cannot be overridden."""
    constant = {tensor.name for tensor in proto.graph.initializer} - set(defaults(proto))
    return [info for info in proto.graph.input if info.name not in constant]


def defaults(proto: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The initializers that a caller may override."""
    if proto.ir_version < _NO_OVERRIDES_UNTIL_IR:
        return {}
    listed = {info.name for info in proto.graph.input}
    return {tensor.name: tensor for tensor in proto.graph.initializer if tensor.name in listed}


# Results


def run(proto: onnx.ModelProto, feeds: Feeds, target: Target = PLAIN) -> list[Result]:
    """ONNX Runtime's results; its own optimizations are off unless the target says otherwise."""
    return Session(proto.SerializeToString(), target).run(feeds)


def agree(before: onnx.ModelProto, after: onnx.ModelProto, inputs: Inputs, tolerance: Tolerance | None) -> int:
    """Run both on hostile inputs; the number of runs that the first did not refuse."""
    old, new = (Session(proto.SerializeToString(), PLAIN) for proto in (before, after))
    kinds: Sequence[Kind] = inputs.kinds if tolerance is None else ("ordinary",)
    runs = 0
    for feeds in feeds_for(before, inputs, kinds):
        try:
            expected = old.run(feeds)
        except SessionError:
            assert inputs.refusals, f"the model refuses {_described(feeds)}"
            continue
        runs += 1
        found, bounds = new.run(feeds), _bounds(before, feeds, tolerance)
        for output, result, aim, bound in zip(old.outputs, found, expected, bounds, strict=True):
            wrong = list(differences(result, aim, bound))
            assert not wrong, f"output {output.name} at {_described(feeds)}: {'; '.join(wrong)}"
    if not runs:
        raise RefusedError("ONNX Runtime refuses the model on every input")
    return runs


def _bounds(proto: onnx.ModelProto, feeds: Feeds, tolerance: Tolerance | None) -> list[Bound | None]:
    if isinstance(tolerance, Terms):
        return [_constant(bound) for bound in rounding_bounds(proto, feeds, tolerance.count)]
    return [None if tolerance is None else ulps(tolerance.count) for _ in proto.graph.output]


def _constant(bound: NDArray[np.float64]) -> Bound:
    return lambda _: bound


def ulps(count: float) -> Bound:
    """So many steps of the last bit; 0 lets zeros of both signs be alike."""

    def bound(expected: Array) -> NDArray[np.float64]:
        limits = Limits.of(DType.of(expected))
        return count * np.maximum(limits.epsilon * np.abs(expected.astype(np.float64)), limits.subnormal)

    return bound


def near(rtol: float, atol: float) -> Bound:
    return lambda expected: atol + rtol * np.abs(expected.astype(np.float64))


def _described(feeds: Feeds) -> str:
    return str({name: list(feed.shape) if isinstance(feed, np.ndarray) else feed for name, feed in feeds.items()})


def feeds_for(proto: onnx.ModelProto, inputs: Inputs, kinds: Iterable[Kind]) -> Iterator[dict[str, Feed]]:
    """Every combination of bindings, kinds and values; overridable initializers keep theirs on ordinary inputs."""
    infos, optional = inputs_of(proto), defaults(proto)
    symbols = sorted({dim.dim_param for info in infos for dim in info.type.tensor_type.shape.dim if dim.dim_param})
    bindings = list(_bindings(symbols)) if inputs.bindings is None else inputs.bindings
    values = [[(name, value) for value in choices] for name, choices in inputs.values.items()]
    near = boundaries(proto)
    for binding, kind, chosen in itertools.product(bindings, kinds, itertools.product(*values)):
        feeds: dict[str, Feed] = dict(chosen)
        for info in infos:
            if info.name not in feeds and (info.name not in optional or kind != "ordinary"):
                feeds[info.name] = _feed(info, binding, kind, near)
        yield feeds


def _bindings(symbols: Sequence[str]) -> Iterator[Binding]:
    """Each symbol is 3, 1 and 0 while the others differ, so that equality by chance shows; then all are alike."""
    if not symbols:
        yield {}
        return
    for shift in range(3):
        yield {symbol: (3, 1, 0, 5, 2)[(shift + place) % 5] for place, symbol in enumerate(symbols)}
    yield dict.fromkeys(symbols, 1)
    yield dict.fromkeys(symbols, 4)


def _feed(info: onnx.ValueInfoProto, binding: Binding, kind: Kind, near: Sequence[float]) -> Array:
    tensor = info.type.tensor_type
    shape = tuple(binding[dim.dim_param] if dim.dim_param else dim.dim_value for dim in tensor.shape.dim)
    return hostile(DType(tensor.elem_type), shape, kind, seed=sum(map(ord, info.name)), near=near)


# Differences


def differences(found: Result, expected: Result, bound: Bound | None = None) -> Iterator[str]:
    """In words, each place where a result is not the expected one: further from it than `bound`, where one is given.

    Without one the bits must be the same, but that every NaN is like any other.
    """
    if isinstance(expected, np.ndarray) and isinstance(found, np.ndarray):
        yield from _array_differences(found, expected, bound)
    elif isinstance(expected, list) and isinstance(found, list):
        if len(found) != len(expected):
            yield f"{len(found)} elements instead of {len(expected)}"
        for index, (part, other) in enumerate(zip(found, expected, strict=False)):
            yield from (f"[{index}] {difference}" for difference in differences(part, other, bound))
    elif type(found) is not type(expected) or found != expected:
        yield f"{found!r} instead of {expected!r}"


def _array_differences(found: Array, expected: Array, bound: Bound | None) -> Iterator[str]:
    if found.shape != expected.shape:
        yield f"shape {list(found.shape)} instead of {list(expected.shape)}"
    elif found.dtype != expected.dtype and {found.dtype.kind, expected.dtype.kind} - set("OUST"):
        yield f"{found.dtype} instead of {expected.dtype}"
    else:
        found, expected = np.atleast_1d(found), np.atleast_1d(expected)
        wrong = ~_alike(found, expected, bound)
        for place in np.argwhere(wrong)[:3]:
            at = tuple(place.tolist())
            yield f"at {list(at)} {found[at]!r} instead of {expected[at]!r}, {int(wrong.sum())} of {found.size} differ"


def _alike(found: Array, expected: Array, bound: Bound | None) -> NDArray[np.bool_]:
    if found.dtype.kind in "OUSTbiu":
        return np.asarray(found == expected, np.bool_)
    wide, aim = (side.astype(np.complex128 if side.dtype.kind == "c" else np.float64) for side in (found, expected))
    same = np.isnan(wide) & np.isnan(aim)
    if found.dtype.kind == "c":
        same |= wide == aim
    else:
        bits = np.dtype(f"u{found.dtype.itemsize}")
        same |= np.ascontiguousarray(found).view(bits) == np.ascontiguousarray(expected).view(bits)
    if bound is None:
        return same
    with np.errstate(invalid="ignore"):
        return same | (np.abs(wide - aim) <= bound(expected))
