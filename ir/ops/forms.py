"""One form of each operator: from any opset version to the newest (`raise_form`) and back (`lower_form`).

The canonical form is the newest version's. An old version is raised where that only moves an attribute to an operand or
drops what had no effect; where its meaning differs it keeps its version in its key ("Softmax-11") and no pass mistakes
it for the new one.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from planish.ir.errors import GraphError
from planish.ir.graph import Attribute, Node, Value, constant
from planish.ir.ops import schema
from planish.ir.tensor import ArrayTensor, Tensor
from planish.ir.types import DType, TensorType


class Moved(NamedTuple):
    """An attribute that became an operand at version `since`."""

    attribute: str
    position: int
    since: int


_AXES_18 = (Moved("axes", 1, 18),)
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
_MOVED: Mapping[str, tuple[Moved, ...]] = {
    "Squeeze": (Moved("axes", 1, 13),),
    "Unsqueeze": (Moved("axes", 1, 13),),
    "ReduceSum": (Moved("axes", 1, 13),),
    **{f"Reduce{name}": _AXES_18 for name in _REDUCTIONS},
    "Split": (Moved("split", 1, 13),),
    "Slice": (Moved("starts", 1, 10), Moved("ends", 2, 10), Moved("axes", 3, 10)),
    "Pad": (Moved("pads", 1, 11), Moved("value", 2, 11)),
    "Clip": (Moved("min", 1, 11), Moved("max", 2, 11)),
    "TopK": (Moved("k", 1, 10),),
    "Reshape": (Moved("shape", 1, 5),),
    "Dropout": (Moved("ratio", 1, 12),),
}
# Operators whose meaning changed at a version in a way that their schemas do not show, or not fully.
_MEANING_SINCE: Mapping[str, int] = {
    "BatchNormalization": 7,
    "Cast": 6,
    "DFT": 20,
    "Dropout": 7,
    "GRU": 7,
    "GridSample": 20,
    "GroupNormalization": 21,
    "LSTM": 7,
    "PRelu": 7,
    "Pad": 2,
    "RNN": 7,
    "Resize": 11,
    "RoiAlign": 16,
    "Scan": 9,
    "Tile": 6,
    "Upsample": 9,
}
_FLATTENING = frozenset(("Softmax", "LogSoftmax", "Hardmax"))
_FLATTENING_UNTIL = 13
_NEGATIVE_AXES_SINCE = 11
_SCALED = frozenset(("DequantizeLinear", "QuantizeLinear"))
_SCALES_OF_CHANNELS_SINCE = 13
_ATTRIBUTE = "attribute"
_IGNORED = frozenset(("consumed_inputs",))


class Form(NamedTuple):
    """How one version of an operator relates to the canonical one."""

    version: int
    plain: bool
    moved: tuple[Moved, ...]
    dropped: Mapping[str, schema.Plain | None]
    changed_defaults: frozenset[str]
    comparable: bool


class Spelling(NamedTuple):
    """A node as one version of its operator writes it; `op` is a type within its domain, or a key when canonical."""

    op: str
    operands: tuple[Value | None, ...]
    attributes: Mapping[str, Attribute]


@cache
def form(domain: str, op_type: str, opset: int) -> Form | None:
    """None for an operator that onnx does not know at that opset."""
    here = schema.at(domain, op_type, opset)
    newest = schema.newest(schema.key_of(domain, op_type))
    if here is None or newest is None:
        return None
    moved = tuple(m for m in _MOVED.get(op_type, ()) if not domain and here.since_version < m.since)
    old, new = schema.defaults_of(here), schema.defaults_of(newest)
    moved_names = {m.attribute for m in moved}
    dropped = {name: old.get(name) for name in here.attributes if name not in newest.attributes}
    dropped = {name: value for name, value in dropped.items() if name not in moved_names}
    changed = {name for name in here.attributes if name in newest.attributes and old.get(name) != new.get(name)}
    required = {name for name, a in newest.attributes.items() if a.required and name not in here.attributes}
    comparable = not required and (domain != "" or here.since_version >= _MEANING_SINCE.get(op_type, 1))
    same = here.since_version == newest.since_version
    flattening = op_type in _FLATTENING and here.since_version < _FLATTENING_UNTIL
    batch = op_type == "BatchNormalization" and here.max_output != newest.max_output
    split = op_type == "Split" and "num_outputs" not in here.attributes
    plain = same or (comparable and not (moved or dropped or changed or flattening or batch or split))
    return Form(here.since_version, plain, moved, dropped, frozenset(changed), comparable)


def raise_form(
    domain: str, opset: int, written: Spelling, results: Sequence[str], made: dict[Hashable, Value]
) -> Spelling:
    """The canonical spelling of a node that a model of that opset writes so.

    made: the operands that attributes became so far; equal attributes become the same operand.
    """
    op_type, operands, attributes = written
    key = schema.key_of(domain, op_type)
    found = form(domain, op_type, opset)
    if found is None or found.plain:
        return Spelling(key, operands, attributes)
    old = Spelling(schema.key_of(domain, op_type, found.version), operands, attributes)
    if not found.comparable or not _same_meaning(found, op_type, attributes, results):
        return old
    if op_type in _FLATTENING:
        axis = _last_axis(operands, attributes.get("axis", 1))
        return old if axis is None else Spelling(key, operands, {**attributes, "axis": axis})
    if op_type == "Split" and "num_outputs" not in attributes and "split" not in attributes and len(operands) == 1:
        return Spelling(key, operands, {**attributes, "num_outputs": len(results)})
    raised = list(operands)
    left = dict(attributes)
    for moved in found.moved:
        value = left.pop(moved.attribute, None)
        operand = None if value is None else _operand(op_type, value, operands, made)
        if value is not None and operand is None:
            return old
        raised += [None] * (moved.position + 1 - len(raised))
        raised[moved.position] = operand
    while raised and raised[-1] is None:
        raised.pop()
    return Spelling(key, tuple(raised), left)


def constant_tensor(name: str, value: Attribute) -> Tensor | None:
    """What a Constant holds that spells its value as an attribute of numbers or strings."""
    dtype = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if name in dtype and isinstance(value, (int, float, tuple)):
        return ArrayTensor(np.array(value, dtype[name]))
    if name in ("value_string", "value_strings") and isinstance(value, (str, bytes, tuple)):
        return ArrayTensor(np.array(value, np.object_))
    return None


def lower_form(node: Node, opset: int) -> Spelling:
    """Operator, operands and attributes of a node as a model of that opset writes them.

    Raises GraphError, naming the operator, when the opset has no way to say it.
    """
    domain, op_type, version, _ = schema.parse_key(node.op)
    if schema.newest(node.op) is None:
        return Spelling(op_type, node.operands, node.attributes)
    target = schema.at(domain, op_type, opset)
    if version:
        if target is None or target.since_version != version:
            raise GraphError(
                f"{op_type} keeps its meaning of opset {version}, which opset {opset} cannot express", node
            )
        return Spelling(op_type, node.operands, node.attributes)
    found = form(domain, op_type, opset)
    if target is None or found is None:
        raise GraphError(f"opset {opset} has no operator {op_type}", node)
    newest = schema.newest(node.op)
    if newest is not None and found.version == newest.since_version:
        return Spelling(op_type, node.operands, node.attributes)
    if not found.comparable:
        raise GraphError(f"{op_type} means something else in opset {opset}", node)
    if op_type in _FLATTENING and _lacks_last_axis(node, opset):
        raise GraphError(f"{op_type} over an axis that is not the last needs opset {_FLATTENING_UNTIL}", node)
    operands, attributes = _lower_moved(node, found, opset)
    operands = (*operands, *(None,) * (target.min_input - len(operands)))  # a Loop writes a condition that it lacks
    lowered = Spelling(op_type, operands, _lower_attributes(node, attributes, found, opset))
    if not domain and op_type in _SCALED and opset < _SCALES_OF_CHANNELS_SINCE and _has_many_scales(node):
        raise GraphError(f"{op_type} with a scale for each channel needs opset {_SCALES_OF_CHANNELS_SINCE}", node)
    _check_operands(node, lowered, opset)
    return lowered


def lowest_opset(node: Node, least: int) -> int:
    """The lowest opset, at least `least`, that can express a node; raises GraphError when none can."""
    failure: GraphError | None = None
    for opset in range(least, schema.NEWEST_OPSET + 1):
        try:
            lower_form(node, opset)
        except GraphError as error:
            failure = error
        else:
            return opset
    raise failure or GraphError(f"no opset from {least} on can express {node.op}", node)


def _check_operands(node: Node, lowered: Spelling, opset: int) -> None:
    """Raise GraphError when the opset's version of the operator does not take so many operands, or their types."""
    domain, op_type, *_ = schema.parse_key(node.op)
    target = schema.at(domain, op_type, opset)
    if target is None:
        return
    if len(lowered.operands) > target.max_input:
        raise GraphError(f"{op_type} takes {target.max_input} operands in opset {opset}", node)
    required = schema.required(domain, op_type, opset)
    if any(needed and operand is None for needed, operand in zip(required, lowered.operands, strict=False)):
        raise GraphError(f"{op_type} takes at least {target.min_input} operands in opset {opset}", node)
    for index, operand in enumerate(lowered.operands):
        if operand is None or operand.dtype is None:
            continue
        allowed = schema.allowed_types(domain, op_type, opset, index)
        if (
            allowed is not None
            and f"tensor({_ONNX_NAMES.get(operand.dtype, operand.dtype.name.lower())})" not in allowed
        ):
            raise GraphError(f"{op_type} takes no {operand.dtype.name.lower()} operand in opset {opset}", node)


_ONNX_NAMES = {DType.FLOAT: "float", DType.DOUBLE: "double"}


def _same_meaning(found: Form, op_type: str, attributes: Mapping[str, Attribute], results: Sequence[str]) -> bool:
    for name, default in found.dropped.items():
        if name in attributes and name not in _IGNORED and attributes[name] != default:
            return False
    if op_type in _FLATTENING:
        return True
    if any(name not in attributes for name in found.changed_defaults):
        return False
    return op_type != "BatchNormalization" or not any(results[1:])


def is_attribute(value: Value) -> bool:
    """Whether a constant is one that the loaded model writes as an attribute: no initializer holds it."""
    return value.source is _ATTRIBUTE


def write_as_operand(value: Value) -> None:
    """Take back that the model writes a constant as an attribute, since a newer opset does not."""
    if is_attribute(value):
        value.source = None


def _operand(
    op_type: str, value: Attribute, operands: tuple[Value | None, ...], made: dict[Hashable, Value]
) -> Value | None:
    """The operand that says what the attribute said; None when its type is not known."""
    if isinstance(value, float):
        dtype = DType.FLOAT if op_type == "Dropout" else operands[0].dtype if operands and operands[0] else None
        array = None if dtype is None else np.array(value, dtype.numpy)
    elif isinstance(value, int):
        array = np.array([value], np.int64)
    else:
        ints = isinstance(value, tuple) and all(isinstance(element, int) for element in value)
        array = np.array(value, np.int64) if ints else None
    if array is None:
        return None
    key = (array.dtype, array.shape, array.tobytes())
    if key not in made:
        made[key] = constant(array)
        made[key].source = _ATTRIBUTE
    return made[key]


def _last_axis(operands: tuple[Value | None, ...], axis: Attribute | None) -> int | None:
    """`axis` when it is known to be the last one, over which flattening changes nothing."""
    rank = operands[0].rank if operands and operands[0] is not None else None
    if rank is None or not isinstance(axis, int):
        return None
    return axis if axis in (rank - 1, -1) else None


def _lacks_last_axis(node: Node, opset: int) -> bool:
    return opset < _FLATTENING_UNTIL and _last_axis(node.operands, node.attribute("axis")) is None


def _has_many_scales(node: Node) -> bool:
    """Whether there surely is more than one, or none: some writers give the one that there is an axis."""
    scale = node.operand(1)
    return scale is not None and any(isinstance(dim, int) and dim != 1 for dim in scale.shape or ())


def _lower_moved(node: Node, found: Form, opset: int) -> tuple[tuple[Value | None, ...], dict[str, Attribute]]:
    operands = list(node.operands)
    attributes = dict(node.attributes)
    for moved in found.moved:
        operand = node.operand(moved.position)
        if operand is None:
            continue
        if operand.constant is None:
            raise GraphError(f"{node.op} with computed {moved.attribute} needs opset {moved.since}, not {opset}", node)
        attributes[moved.attribute] = _attribute(node.op, moved, operand)
        operands[moved.position] = None
    while operands and operands[-1] is None:
        operands.pop()
    return tuple(operands), attributes


def _attribute(op: str, moved: Moved, operand: Value) -> Attribute:
    tensor = operand.constant
    if tensor is None or not isinstance(operand.type, TensorType):
        raise GraphError(f"{op} needs {moved.attribute} as a constant")
    if tensor.dtype.is_float:
        return float(tensor.array().astype(np.float64).reshape(-1)[0])
    return tensor.ints()[0] if moved.attribute == "k" else tensor.ints()


def _lower_attributes(node: Node, attributes: Mapping[str, Attribute], found: Form, opset: int) -> dict[str, Attribute]:
    lowered: dict[str, Attribute] = {}
    names = _names(node, opset)
    for name, value in attributes.items():
        if name in names:
            lowered[name] = value
        elif name == "num_outputs" and value == len(node.results):
            continue
        elif name not in _IGNORED and value != schema.default(node.op, name) and not _had_no_effect(node, name, value):
            raise GraphError(f"{node.op} with {name}={value} has no form in opset {opset}", node)
    for name in found.changed_defaults:
        default = schema.default(node.op, name)
        if name not in lowered and default is not None:
            lowered[name] = default
    if opset < _NEGATIVE_AXES_SINCE:
        lowered |= {name: _from_front(node, lowered[name]) for name in ("axis", "axes") if name in lowered}
    return lowered


def _from_front(node: Node, axes: Attribute) -> Attribute:
    """An axis or list of axes counted from the front, as versions before 11 want them."""
    listed = axes if isinstance(axes, tuple) else (axes,)
    if all(isinstance(axis, int) and axis >= 0 for axis in listed):
        return axes
    of = node.result if node.op == "Unsqueeze" else node.operands[0]
    if of is None or of.rank is None:
        raise GraphError(f"{node.op} counts an axis from the back, which needs opset {_NEGATIVE_AXES_SINCE}", node)
    front = tuple([axis % of.rank for axis in listed if isinstance(axis, int)])
    return front if isinstance(axes, tuple) else front[0]


def _names(node: Node, opset: int) -> Sequence[str]:
    domain, op_type, *_ = schema.parse_key(node.op)
    target = schema.at(domain, op_type, opset)
    return () if target is None else tuple(target.attributes)


def _had_no_effect(node: Node, name: str, value: Attribute) -> bool:
    """Whether an attribute that only old versions know was written with the value that changes nothing."""
    domain, op_type, *_ = schema.parse_key(node.op)
    for opset in range(schema.NEWEST_OPSET, 0, -1):
        old = schema.at(domain, op_type, opset)
        if old is not None and name in old.attributes:
            return schema.defaults_of(old).get(name) == value
    return False
