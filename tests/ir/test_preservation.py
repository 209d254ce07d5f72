"""What no pass touched comes out as it went in: every field that the format has, at every level that it has it."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from google.protobuf.message import Message
from onnx import AttributeProto, TensorProto, helper, numpy_helper, parser
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir
from planish.ir import DType, Node, constant

Difference = Callable[[Message, Message], str]

SOURCE = """<ir_version: 11, opset_import: ["" : 21, "ai.onnx.ml" : 3, "com.vendor" : 7, "local" : 2]>
net (float[N,4] x, float[2,2] spare, float[4] scale = {1, 2, 3, 4}, bool c, seq(float[?]) items)
    => (float[N,4] y, float[N,4] same, string[2] words, int64[1] place)
   <float[4] bias = {5, 6, 7, 8}, float[2] unused = {1, 2}, string[2] names = {"a", "b"}, float[N,4] scaled>
{
   [n1] scaled = Mul (x, scale)
   [n2] shifted = local.shift (scaled, bias)
   [n3] y = If (c) <then_branch = yes () => (float[N,4] kept) { [n4] kept = Relu (shifted) },
                    else_branch = no () => (float[N,4] made) <float[4] own = {1, 1, 1, 1}> {
      [n5] made = Add (shifted, own) }>
   [n6] same = com.vendor.Strange <
      mode = "fast", table = float[2] t {1, 2}, depth = 3, words = ["a", "b"], dims = [4, 5], empty: ints = [],
      deep = [1.5, 2.5]> (x)
   [n7] words = Identity (names)
   [n8] length = SequenceLength (items)
   [n9] place, "" = com.vendor.Two:second (length, "", c)
}
<domain: "local", overload: "", opset_import: ["" : 21]>
shift <level, gain: float = 1.0> (a, b) => (r) {
   s = Constant <value_float: float = @gain> ()
   p = Mul (a, s)
   r = Add (p, b)
}
"""

Paths = dict[str, Message]


def net() -> onnx.ModelProto:
    """SOURCE, and everything that the text syntax has no word for."""
    model = parser.parse_model(SOURCE)
    model.producer_name, model.producer_version = "exporter", "1.2.3"
    model.domain, model.model_version, model.doc_string = "org.example", 42, "a model"
    for number, message in enumerate(described(model).values()):
        if "doc_string" in message.DESCRIPTOR.fields_by_name:
            message.doc_string = f"doc {number}"  # pyright: ignore[reportAttributeAccessIssue]  the field was asked for
        if "metadata_props" in message.DESCRIPTOR.fields_by_name:
            properties = message.metadata_props  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]  likewise
            properties.add(key="level", value=str(number))  # pyright: ignore[reportUnknownMemberType]  likewise
    annotation = model.graph.quantization_annotation.add(tensor_name="scaled")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="unused")
    model.graph.quantization_annotation.add(tensor_name="elsewhere")
    training = model.training_info.add()
    training.algorithm.CopyFrom(parser.parse_graph("step (float[4] g) => (float[4] h) { h = Neg (g) }"))
    training.initialization.CopyFrom(parser.parse_graph("start () => () { }"))
    training.update_binding.add(key="bias", value="h")
    training.initialization_binding.add(key="bias", value="h")
    add_tensors(model.graph)
    add_attributes(model.graph)
    add_types(model)
    add_devices(model)
    return model


def add_tensors(graph: onnx.GraphProto) -> None:
    """One of each element type as raw bytes, and of each way to spell elements."""
    for dtype in DType:
        if dtype not in (DType.UNDEFINED, DType.STRING):
            array = np.array([0, 1, 1]).astype(dtype.numpy)
            graph.initializer.append(numpy_helper.from_array(array, f"of_{dtype.name}"))
    for code in (TensorProto.DOUBLE, TensorProto.UINT64, TensorProto.INT32, TensorProto.FLOAT16, TensorProto.INT4):
        graph.initializer.append(helper.make_tensor(f"typed_{code}", code, [2], [1, 2]))
    sparse = graph.sparse_initializer.add(dims=[3, 3])
    sparse.values.CopyFrom(helper.make_tensor("sparse", TensorProto.FLOAT, [2], [1, 2]))
    sparse.indices.CopyFrom(helper.make_tensor("places", TensorProto.INT64, [2], [0, 8]))


def add_attributes(graph: onnx.GraphProto) -> None:
    attributes = graph.node[3].attribute
    sparse, tensors = graph.sparse_initializer[0], graph.initializer[:2]
    attributes.append(helper.make_attribute("type", helper.make_tensor_type_proto(1, [2])))
    attributes.add(name="types", type=AttributeProto.TYPE_PROTOS, type_protos=[helper.make_tensor_type_proto(7, ["M"])])
    attributes.add(name="sparse", type=AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse)
    attributes.add(name="sparse_tensors", type=AttributeProto.SPARSE_TENSORS, sparse_tensors=[sparse])
    attributes.add(name="tensors", type=AttributeProto.TENSORS, tensors=tensors)
    attributes.add(name="graphs", type=AttributeProto.GRAPHS, graphs=[graph.node[2].attribute[0].g])
    attributes.add(name="bytes", type=AttributeProto.STRING, s=b"\xff\x00\xfe")


def add_types(model: onnx.ModelProto) -> None:
    """Unused inputs of every type, denotations, and types of values that are nowhere."""
    graph, tensor = model.graph, model.graph.input[0].type
    tensor.denotation = "IMAGE"
    tensor.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    graph.input.add(name="optional").type.optional_type.elem_type.CopyFrom(tensor)
    graph.input.add(name="sequence").type.sequence_type.elem_type.CopyFrom(tensor)
    table = graph.input.add(name="map").type.map_type
    table.key_type = TensorProto.INT64
    table.value_type.CopyFrom(tensor)
    thin = graph.input.add(name="thin").type.sparse_tensor_type
    thin.elem_type = TensorProto.FLOAT
    thin.shape.dim.add(dim_value=2)
    opaque = graph.input.add(name="opaque").type.opaque_type
    opaque.domain, opaque.name = "vendor", "handle"
    graph.value_info.add(name="nowhere").type.CopyFrom(helper.make_tensor_type_proto(1, [1]))
    model.functions[0].value_info.add(name="p").type.CopyFrom(tensor)


def add_devices(model: onnx.ModelProto) -> None:
    model.configuration.add(name="two", num_devices=2, device=["a", "b"])
    placed = model.graph.node[0].device_configurations.add(configuration_id="two", pipeline_stage=1)
    spec = placed.sharding_spec.add(tensor_name="scaled", device=[0, 1])
    spec.index_to_device_group_map.add(key=0, value=[0, 1])
    spec.sharded_dim.add(axis=0).simple_sharding.extend(
        [onnx.SimpleShardedDimProto(dim_value=4, num_shards=2), onnx.SimpleShardedDimProto(dim_param="N", num_shards=2)]
    )


def described(model: onnx.ModelProto) -> Paths:
    """A message of every kind and place that holds documentation or metadata."""
    graph, function = model.graph, model.functions[0]
    branch = graph.node[2].attribute[0].g
    return {
        "model": model,
        "graph": graph,
        "node": graph.node[0],
        "node that is rebuilt": graph.node[2],
        "attribute": graph.node[3].attribute[0],
        "input": graph.input[0],
        "unused input": graph.input[1],
        "output": graph.output[0],
        "value_info": graph.value_info[0],
        "initializer": graph.initializer[0],
        "overridable initializer": graph.initializer[1],
        "tensor attribute": graph.node[3].attribute[1].t,
        "graph attribute": graph.node[2].attribute[0],
        "nested graph": branch,
        "nested node": branch.node[0],
        "nested output": branch.output[0],
        "nested initializer": graph.node[2].attribute[1].g.initializer[0],
        "function": function,
        "function node": function.node[0],
    }


def test_the_model_has_every_field_that_the_format_has() -> None:
    """A field that a later onnx adds shows up here and wants a value above. External data: test_emit_file."""
    model = net()
    seen: set[str] = set()
    known: set[str] = set()
    stack: list[Message] = [model]
    while stack:
        message = stack.pop()
        known.update(field.full_name for field in message.DESCRIPTOR.fields)
        for field, value in message.ListFields():
            seen.add(field.full_name)
            if field.message_type is not None:
                stack.extend(value if field.is_repeated else (value,))
    unsaid = {name.removeprefix("onnx.") for name in known - seen}
    assert unsaid <= {"TensorProto.segment", "TensorProto.external_data", "TensorProto.data_location"}


def test_nothing_is_lost(difference: Difference) -> None:
    model = net()
    assert difference(model, ir.emit(ir.load(model))) == ""
    assert ir.emit(ir.load(model)).SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


def test_nothing_is_lost_when_all_is_written_anew(difference: Difference) -> None:
    """Nodes are built from the IR, not copied, where their operands are no longer those that were loaded."""
    model = net()
    graph = ir.load(model)
    for node in graph.walk():
        for index, operand in enumerate(node.operands):
            graph.set_operand(node, index, None)
            graph.set_operand(node, index, operand)
    assert difference(model, ir.emit(graph)) == ""


def test_what_is_said_of_a_value_goes_with_it() -> None:
    model = net()
    graph = ir.load(model)
    scaled = graph.nodes[0]
    again = Node("Abs", (graph.inputs[0],), results=("scaled",))
    graph.insert(again, before=scaled)
    graph.replace_all_uses_with(scaled.result, again.result)
    graph.erase(scaled)
    emitted = ir.emit(graph)
    assert emitted.graph.node[0].output == ["scaled"]
    assert [info.name for info in emitted.graph.value_info] == ["nowhere"]
    assert [a.tensor_name for a in emitted.graph.quantization_annotation] == ["elsewhere"]


def test_what_is_said_of_a_weight_goes_with_its_shape() -> None:
    """As exporters of PyTorch write it: the types of the weights, too, stand among those of the values."""
    weights = "float[2,2] w = {1,2,3,4}, float[2,2] v = {1,2,3,4}"
    text = f"g (float[N,2] x) => (float[N,M] y) <{weights}> {{ z = MatMul(x, w)  y = MatMul(z, v) }}"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    for name in ("w", "v"):
        model.graph.value_info.add(name=name).type.CopyFrom(helper.make_tensor_type_proto(1, [2, 2]))
    graph = ir.load(model)
    last = graph.nodes[1]
    before = last.operands[1]
    assert before is not None
    graph.set_operand(last, 1, constant(np.ones((2, 6), np.float32), "v"))
    del graph.initializers[before]
    emitted = ir.emit(graph)
    assert [list(tensor.dims) for tensor in emitted.graph.initializer] == [[2, 2], [2, 6]]
    assert [info.name for info in emitted.graph.value_info] == ["w"]
    check_model(emitted, full_check=True)


def test_the_difference_is_found_wherever_it_is(difference: Difference) -> None:
    """The comparison that the tests above rest on."""
    for name in described(net()):
        changed = net()
        message = described(changed)[name]
        assert difference(net(), changed) == ""
        field = "doc_string" if "doc_string" in message.DESCRIPTOR.fields_by_name else "name"
        message.ClearField(field)
        assert difference(net(), changed).endswith(f"{field}: set in one only"), name
    left, right = (helper.make_tensor("t", 1, [2], [1, value]) for value in (2, 3))
    assert difference(left, right) == "float_data[1]: 2.0 and 3.0"
    assert difference(left, helper.make_tensor("t", 1, [1], [1])) == "dims[0]: 2 and 1"


@pytest.mark.parametrize("opset", [None, 22])
def test_other_opsets_keep_what_they_can(opset: int | None, difference: Difference) -> None:
    model = net()
    emitted = ir.emit(ir.load(model), opset=opset)
    if opset is not None:
        assert emitted.opset_import[0].version == opset
        emitted.opset_import[0].version = 21
    assert difference(model, emitted) == ""


def test_another_domain_does_not_make_the_model_be_written_anew(difference: Difference) -> None:
    model = net()
    graph = ir.load(model)
    graph.opset_imports["com.microsoft"] = 1
    emitted = ir.emit(graph)
    assert emitted.opset_import[-1].domain == "com.microsoft"
    del emitted.opset_import[-1]
    assert difference(model, emitted) == ""
