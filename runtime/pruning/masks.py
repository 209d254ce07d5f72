"""How a model's outputs move with its units: each is turned down a little, by a mask that is an input of the model.

The first-order Taylor importance of Molchanov et al. 2019 (arXiv 1906.10771) is the square of the derivative by the
mask of a unit. Theirs is that of a loss, by back-propagation; this one is that of the outputs, by finite differences,
which needs no labels and one run for each unit and sample. What has gradients may fill the same scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from planish import ir
from planish.ir import DType, Graph, Node, TensorType, Value
from planish.ir.infer import infer
from planish.passes.prune.dependency import Member
from planish.runtime.fidelity import floats_of
from planish.runtime.providers import Target
from planish.runtime.samples import Feeds
from planish.runtime.session import Session

Doubles = NDArray[np.float64]
_STEP = 0.25


def derivatives(
    graph: Graph, members: Mapping[str, tuple[Member, int]], feeds: Sequence[Feeds], path: Path, target: Target
) -> dict[str, Doubles]:
    """Of each unit, |dy/dm|^2 / |y|^2 of all outputs y by its mask m: the mean over the feeds.

    Those for which y is not finite, or 0, are left out; infinite where none is left. graph: is used up. members: of
    each group by its key, the tensor that is masked, and how many units it has. path: a file to write to.
    """
    masks = {key: _mask(graph, member, f"mask {number}") for number, (key, (member, _)) in enumerate(members.items())}
    ir.save(graph, path)
    session = Session(path, target)
    ones = {value.name: _ones(value) for value in masks.values()}
    runs = [(each, _outputs(session, {**each, **ones})) for each in feeds]
    wanted = [(each, y) for each, y in runs if y.any() and np.isfinite(y).all()]
    found: dict[str, Doubles] = {}
    for key, (member, size) in members.items():
        name, scores = masks[key].name, np.full(size, np.inf)
        for unit in range(size) if wanted else ():
            mask = np.array(ones[name])
            mask.reshape(-1)[member.units == unit] = 1 - _STEP
            parts = [_part(_outputs(session, {**each, **ones, name: mask}), y) for each, y in wanted]
            scores[unit] = float(np.mean(parts)) / _STEP**2
        found[key] = np.where(np.isfinite(scores), scores, np.inf)
    return found


@np.errstate(invalid="ignore", over="ignore")
def _part(moved: Doubles, y: Doubles) -> float:
    return float((moved - y) @ (moved - y)) / float(y @ y)


def _mask(graph: Graph, member: Member, name: str) -> Value:
    """Multiply a tensor by a new input of the graph, for all of its readers."""
    value = member.value
    shape = tuple([len(member.units) if axis == member.axis else 1 for axis in range(value.rank or 0)])
    mask = graph.add_input(name, TensorType(value.dtype or DType.FLOAT, shape))
    product = Node("Mul", (value, mask))
    following = None if value.producer is None else value.producer.after
    graph.insert(product, before=None if following is graph.returns else following)
    infer(product)
    for user in value.users:
        for position, operand in enumerate(user.operands):
            if operand is value and user is not product and user.graph is not None:
                user.graph.set_operand(user, position, product.result)
    return mask


def _ones(mask: Value) -> NDArray[np.generic]:
    shape = [dim for dim in mask.shape or () if isinstance(dim, int)]
    return np.ones(shape, np.float32 if mask.dtype is None else mask.dtype.numpy)


def _outputs(session: Session, feeds: Feeds) -> Doubles:
    arrays = floats_of(session.run(feeds))
    with np.errstate(invalid="ignore"):
        return np.concatenate([np.zeros(0), *[array.reshape(-1) for array in arrays]])
