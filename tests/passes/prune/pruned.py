"""A model without channels, held against the same model with zeros in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir
from planish.ir import DType, Graph
from planish.ir.types import Array
from planish.passes.prune.dependency import Dependencies, Group, dependencies
from planish.passes.prune.masking import mask_channels
from planish.passes.prune.preparation import prepare
from planish.passes.prune.prune_heads import PruneHeads
from planish.passes.prune.removal import Removal
from planish.passes.prune.selection import select
from planish.passes.prune.slicing import slice_channels
from planish.passes.run import Run
from planish.runtime.session import Feed, Result
from tests.equivalence import Inputs, feeds_for, run

Shapes = Sequence[Mapping[str, int]]


@dataclass(frozen=True)
class Pruned:
    """A model before and after, and what was found of it."""

    before: onnx.ModelProto
    after: onnx.ModelProto
    found: Dependencies
    removal: Removal

    @property
    def share(self) -> float:
        """Of the parameters, what is left."""
        return parameters(self.after) / parameters(self.before)

    @property
    def groups(self) -> dict[str, int]:
        return {group.name: group.size for group in self.found.groups}


def parameters(proto: onnx.ModelProto) -> int:
    """Elements of all floating-point constants."""
    graph = ir.load(proto)
    operands = [operand for node in graph.walk() for operand in node.operands if operand is not None]
    tensors = {id(v.constant): v.constant for v in operands if v.constant is not None and v.constant.dtype.is_float}
    return sum(tensor.size for tensor in tensors.values())


def analysed(proto: onnx.ModelProto, *, heads: bool = False) -> tuple[Graph, Dependencies]:
    """heads: the groups of whole attention heads alone."""
    graph = ir.load(proto)
    prepare(graph, Run())
    return graph, PruneHeads().find(graph) if heads else dependencies(graph)


def at_random(groups: Sequence[Group], ratio: float, seed: int) -> Removal:
    """Units that no criterion would choose so, unevenly over heads and groups."""
    random = np.random.default_rng(seed)
    return Removal(groups, select(groups, [random.random(group.size) for group in groups], ratio))


def pruned(
    model: onnx.ModelProto | Graph,
    ratio: float = 0.5,
    *,
    seed: int = 0,
    values: Mapping[str, Sequence[Array]] | None = None,
    bindings: Shapes | None = None,
    tolerance: float = 1e-5,
    scale: float = 1e-30,
    heads: bool = False,
) -> Pruned:
    """Remove units at random; raises AssertionError unless the result is that of the model with zeros in them."""
    before = ir.emit(model) if isinstance(model, Graph) else model
    graph, found = analysed(before, heads=heads)
    removal = at_random(found.groups, ratio, seed)
    slice_channels(graph, removal, Run())
    after = ir.emit(graph)
    check_model(after, full_check=True)
    other, again = analysed(before, heads=heads)
    mask_channels(other, again.groups, removal.gone)
    masked = ir.emit(other)
    inputs = Inputs(bindings=bindings, values=values or {}, kinds=("ordinary",))
    for feeds in feeds_for(before, inputs, ("ordinary",)):
        same(masked, after, feeds, tolerance, scale=scale)
    return Pruned(before, after, found, removal)


def same(
    masked: onnx.ModelProto,
    sliced: onnx.ModelProto,
    feeds: Mapping[str, Feed],
    tolerance: float,
    *,
    scale: float = 1e-30,
) -> None:
    """Relative to the largest number of an output, or to what its numbers are differences or functions of."""
    alike(masked, run(masked, feeds), run(sliced, feeds), tolerance, scale=scale)


def alike(
    masked: onnx.ModelProto,
    aims: Sequence[Result],
    found: Sequence[Result],
    tolerance: float,
    *,
    scale: float = 1e-30,
) -> None:
    """As `same`, of the results of both."""
    for info, aim, got in zip(masked.graph.output, aims, found, strict=True):
        assert isinstance(aim, np.ndarray)
        assert isinstance(got, np.ndarray)
        assert aim.shape == got.shape, info.name
        if aim.dtype.kind != "f":
            assert np.array_equal(aim, got), info.name
            continue
        nan = np.isnan(aim)
        assert np.array_equal(nan, np.isnan(got)), info.name
        with np.errstate(invalid="ignore"):
            apart = np.abs(np.where(nan | (aim == got), 0, np.subtract(aim, got))).max(initial=0)
        finite = aim[np.isfinite(aim)]
        assert apart <= tolerance * max(float(np.abs(finite).max(initial=0)), scale), f"{info.name}: {apart}"


def of_type(dtype: DType) -> Callable[[Array], Array]:
    return lambda array: array.astype(dtype.numpy)
