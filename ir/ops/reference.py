"""The fallback for operators without a rule of planish's own: onnx's type inference and its reference evaluator."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TypeGuard, cast

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference
from onnx.checker import ValidationError
from onnx.reference import ReferenceEvaluator

from planish.ir.dim import Dim
from planish.ir.errors import GraphError
from planish.ir.graph import Graph, Node, OpaqueAttribute
from planish.ir.ops import schema
from planish.ir.ops.operator import unknown_dim
from planish.ir.tensor import Tensor
from planish.ir.types import Array, DType, OptionalType, SequenceType, TensorType, Type

_SMALL = 1024
_SAME_BITS = (
    "BitwiseNot CenterCropPad Compress ConvInteger DepthToSpace MatMulInteger NonZero ReverseSequence Shape Size "
    "SpaceToDepth StringConcat"
)
_SAME_BUT_ROUNDING = (
    "Acos Acosh Asin Asinh Atan Atanh BlackmanWindow Celu Cos Cosh Einsum Elu Erf HammingWindow HannWindow HardSigmoid "
    "HardSwish LeakyRelu MelWeightMatrix Selu Sin Sinh Softmax Softplus Softsign Tan ThresholdedRelu"
)
_AGREEMENT = {
    **dict.fromkeys(_SAME_BITS.split(), True),
    **dict.fromkeys(_SAME_BUT_ROUNDING.split(), False),
}


def infer(node: Node) -> Sequence[Type | None]:
    """The result types by onnx's own inference function for the operator; all None when it has none."""
    nothing: tuple[Type | None, ...] = (None,) * len(node.results)
    found = schema.newest(node.op)
    if found is None or node.graphs or not _encodable(node):
        return nothing
    if any(operand is not None and operand.type is None for operand in node.operands):
        return nothing
    dims: dict[str, Dim] = {}
    types = {
        f"i{i}": _encode(o.type, dims) for i, o in enumerate(node.operands) if o is not None and o.type is not None
    }
    try:
        inferred = shape_inference.infer_node_outputs(
            found, _proto(node), types, _data(node), opset_imports=[helper.make_opsetid(found.domain, _opset(node))]
        )
    except (shape_inference.InferenceError, ValidationError, RuntimeError, ValueError) as error:
        if dims:  # some of onnx's rules take a symbol for a number that is wrong
            return nothing
        raise GraphError(f"{node.op}: {_first_line(error)}", node) from error
    return [_decode(node, inferred[f"o{i}"], dims) if f"o{i}" in inferred else None for i in range(len(node.results))]


def refuses(node: Node) -> bool:
    """Whether onnx's inference function cannot take operands of these element types and ranks, whatever the extents."""
    found = schema.newest(node.op)
    if found is None or node.graphs or not _encodable(node):
        return False
    types = {f"i{i}": _open(o.type) for i, o in enumerate(node.operands) if o is not None}
    try:
        shape_inference.infer_node_outputs(
            found, _proto(node), types, _data(node), opset_imports=[helper.make_opsetid(found.domain, _opset(node))]
        )
    except shape_inference.InferenceError:
        return True
    except (ValidationError, RuntimeError, ValueError):
        return False
    return False


def agreement(op: str) -> bool | None:
    """Whether onnx's evaluator gives the bits of ONNX Runtime; False where rounding alone may differ.

    None for all that was not tried on hostile values or failed there: of onnx 1.23 the recurrent operators (clip,
    activations), Resize, GridSample, LRN, pooling with dilations, quantized products, LogSoftmax, texts and others.
    """
    return _AGREEMENT.get(op)


def fold(node: Node, arrays: Sequence[Array | None]) -> Sequence[Array] | None:
    """The results by onnx's reference evaluator; None when it has no implementation or fails."""
    if schema.newest(node.op) is None or node.graphs or not _encodable(node):
        return None
    proto = _proto(node)
    feeds = {f"i{i}": array for i, array in enumerate(arrays) if array is not None}
    inputs = [helper.make_tensor_value_info(name, int(DType.of(array)), array.shape) for name, array in feeds.items()]
    outputs = [helper.make_empty_tensor_value_info(name) for name in proto.output if name]
    domain = schema.parse_key(node.op).domain
    model = helper.make_model(
        helper.make_graph([proto], "fold", inputs, outputs), opset_imports=[helper.make_opsetid(domain, _opset(node))]
    )
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = _evaluate(model, feeds)
    except Exception:  # whatever an implementation in the reference evaluator raises: it cannot fold this
        return None
    return None if any(result is None for result in results) else [result for result in results if result is not None]


def _evaluate(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array | None]:
    run = cast("Callable[[None, Mapping[str, Array]], list[object]]", getattr(ReferenceEvaluator(model), "run"))  # noqa: B009  onnx leaves it untyped
    return [np.asarray(result) if _is_array(result) else None for result in run(None, feeds)]


def _is_array(result: object) -> TypeGuard[Array]:
    return isinstance(result, np.ndarray | np.generic)


def _opset(node: Node) -> int:
    """An opset in which the node's key names the version that it means."""
    key = schema.parse_key(node.op)
    return key.version or schema.newest_versions().get(key.domain, 1)


def _encodable(node: Node) -> bool:
    return not any(isinstance(a, (Graph, OpaqueAttribute)) for a in node.attributes.values())


def _proto(node: Node) -> onnx.NodeProto:
    domain, op_type, *_ = schema.parse_key(node.op)
    inputs = ["" if operand is None else f"i{i}" for i, operand in enumerate(node.operands)]
    outputs = [f"o{i}" for i in range(len(node.results))]
    proto = helper.make_node(op_type, inputs, outputs, domain=domain)
    for name, value in node.attributes.items():
        if schema.attribute_type(node.op, name):
            content = numpy_helper.from_array(value.array()) if isinstance(value, Tensor) else value
            proto.attribute.append(helper.make_attribute(name, content, attr_type=schema.attribute_type(node.op, name)))
    return proto


def _data(node: Node) -> dict[str, onnx.TensorProto]:
    found: dict[str, onnx.TensorProto] = {}
    for i, operand in enumerate(node.operands):
        if operand is None:
            continue
        if operand.constant is not None and operand.constant.in_memory and operand.constant.size <= _SMALL:
            found[f"i{i}"] = numpy_helper.from_array(operand.constant.array())
    return found


def _encode(type: Type | None, dims: dict[str, Dim]) -> onnx.TypeProto:
    if isinstance(type, TensorType):
        if type.shape is None:
            return helper.make_tensor_type_proto(int(type.dtype), None)
        return helper.make_tensor_type_proto(int(type.dtype), [_encode_dim(dim, dims) for dim in type.shape])
    if isinstance(type, SequenceType):
        return helper.make_sequence_type_proto(_encode(type.element, dims))
    if isinstance(type, OptionalType):
        return helper.make_optional_type_proto(_encode(type.element, dims))
    return onnx.TypeProto()


def _open(type: Type | None) -> onnx.TypeProto:
    """The element type and the rank of a tensor; nothing of anything else."""
    if not isinstance(type, TensorType):
        return onnx.TypeProto()
    dims: list[int | str | None] | None = None if type.shape is None else [None for _ in type.shape]
    return helper.make_tensor_type_proto(int(type.dtype), dims)


def _encode_dim(dim: Dim, dims: dict[str, Dim]) -> int | str:
    if isinstance(dim, int):
        return dim
    text = str(dim)
    dims[text] = dim
    return text


def _decode(node: Node, proto: onnx.TypeProto, dims: dict[str, Dim]) -> Type | None:
    kind = proto.WhichOneof("value")
    if kind == "sequence_type":
        return SequenceType(_decode(node, proto.sequence_type.elem_type, dims))
    if kind == "optional_type":
        return OptionalType(_decode(node, proto.optional_type.elem_type, dims))
    if kind != "tensor_type" or not proto.tensor_type.elem_type:
        return None
    dtype = DType(proto.tensor_type.elem_type)
    if not proto.tensor_type.HasField("shape"):
        return TensorType(dtype)
    return TensorType(dtype, tuple([_decode_dim(node, dim, dims) for dim in proto.tensor_type.shape.dim]))


def _decode_dim(node: Node, proto: onnx.TensorShapeProto.Dimension, dims: dict[str, Dim]) -> Dim:
    if proto.HasField("dim_value"):
        return proto.dim_value
    return dims[proto.dim_param] if proto.dim_param in dims else unknown_dim(node)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
