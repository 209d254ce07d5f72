"""What onnx.defs knows of an operator: arity, attributes with defaults, types, determinism, and its versions.

Operators are named by keys: "Conv" and "com.microsoft::Gelu" mean the newest version that the installed onnx has;
"Softmax-11" is an old version whose meaning the newest one cannot express.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import onnx
from onnx import AttributeProto, defs

Plain = int | float | str | bytes | tuple[int, ...] | tuple[float, ...] | tuple[str | bytes, ...]

NEWEST_OPSET: int = defs.onnx_opset_version()
STANDARD_DOMAINS = frozenset(("", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training"))


class Key(NamedTuple):
    """A parsed operator key. `version` is 0 for the canonical (newest) form."""

    domain: str
    op_type: str
    version: int
    overload: str


def key_of(domain: str, op_type: str, version: int = 0, overload: str = "") -> str:
    domain = "" if domain == "ai.onnx" else domain
    name = f"{domain}::{op_type}" if domain else op_type
    if overload:
        name += f":{overload}"
    return f"{name}-{version}" if version else name


def foreign_key(key: str) -> str:
    """The key of an operator that takes a standard domain's name and is not of it: nothing is known of it."""
    return key if "::" in key else f"::{key}"


@cache
def parse_key(key: str) -> Key:
    domain, separator, rest = key.partition("::")
    if not separator:
        domain, rest = "", key
    op_type, _, overload = rest.partition(":")
    head, dash, version = op_type.rpartition("-")
    if dash and version.isdigit() and _exists(domain, head):
        return Key(domain, head, int(version), overload)
    return Key(domain, op_type, 0, overload)


@cache
def newest(key: str) -> defs.OpSchema | None:
    """The schema behind a key; None for an operator that the installed onnx does not know."""
    domain, op_type, version, overload = parse_key(key)
    if overload or key.startswith("::"):
        return None
    versions = _versions(domain, op_type)
    if not versions:
        return None
    if version:
        return next((schema for schema in versions if schema.since_version == version), None)
    return next((schema for schema in versions if not schema.deprecated), versions[0])


@cache
def at(domain: str, op_type: str, opset: int) -> defs.OpSchema | None:
    """The schema in force at an opset version of its domain; None where there is none, or it is deprecated there."""
    for schema in _versions("" if domain == "ai.onnx" else domain, op_type):
        if schema.since_version <= opset:
            return None if schema.deprecated else schema
    return None


@cache
def since(op_type: str, opset: int) -> int:
    """The version of a standard operator in force at an opset; 0 where there is none."""
    schema = at("", op_type, opset)
    return 0 if schema is None else schema.since_version


@cache
def is_function(op_type: str, opset: int) -> bool:
    """Whether ONNX defines a standard operator by a graph of others that means the same in a model of that opset.

    It does not where an operator of the graph has a newer version by then: no runtime can put the graph in its place.
    """
    schema = at("", op_type, opset)
    if schema is None or not getattr(schema, "has_function", False):
        return getattr(schema, "has_context_dependent_function", False)  # made for the opset that it is asked for
    body = schema.function_body
    written = {entry.domain: entry.version for entry in body.opset_import}.get("", opset)
    ops = [node.op_type for node in body.node if not node.domain]
    return all(since(op, opset) == since(op, written) for op in ops)


@cache
def type_variables(op_type: str, opset: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The type variable ("T") of each operand and of each result of a standard operator; the last one may repeat."""
    schema = at("", op_type, opset)
    if schema is None:
        return (), ()
    return tuple([formal.type_str for formal in schema.inputs]), tuple([formal.type_str for formal in schema.outputs])


@cache
def defaults(key: str) -> Mapping[str, Plain]:
    """Attribute defaults of the schema behind a key."""
    schema = newest(key)
    return {} if schema is None else defaults_of(schema)


def default(key: str, name: str) -> Plain | None:
    return defaults(key).get(name)


def defaults_of(schema: defs.OpSchema) -> dict[str, Plain]:
    found: dict[str, Plain] = {}
    for name, attribute in schema.attributes.items():
        value = decode_plain(attribute.default_value)
        if value is not None:
            found[name] = value
    return found


@cache
def is_deterministic(key: str) -> bool | None:
    """Whether equal inputs give equal outputs; None when onnx does not say, or it depends on nested graphs."""
    schema = newest(key)
    return None if schema is None else _DETERMINISM.get(_name_of(schema, "node_determinism"))


@cache
def attribute_type(key: str, name: str) -> int:
    """The AttributeProto type that the schema gives an attribute; 0 when it does not say."""
    schema = newest(key)
    if schema is None or name not in schema.attributes:
        return 0
    return AttributeProto.AttributeType.Value(_name_of(schema.attributes[name], "type"))


@cache
def allowed_types(domain: str, op_type: str, opset: int, index: int) -> frozenset[str] | None:
    """The types, as ONNX writes them ("tensor(float)"), that an operand may have; None when nothing is said."""
    schema = at(domain, op_type, opset)
    if schema is None or not schema.inputs:
        return None
    formal = schema.inputs[min(index, len(schema.inputs) - 1)]
    return frozenset(formal.types)


@cache
def required(domain: str, op_type: str, opset: int) -> tuple[bool, ...]:
    """For each of the first operands, as many as the operator must have, whether it may not be omitted."""
    schema = at(domain, op_type, opset)
    if schema is None or not schema.inputs:
        return ()
    optional = [_name_of(formal, "option") == "Optional" for formal in schema.inputs]
    return tuple([not optional[min(i, len(optional) - 1)] for i in range(schema.min_input)])


def decode_plain(proto: AttributeProto) -> Plain | None:
    """An attribute that holds numbers or text; None for any other kind."""
    kind = proto.type
    if kind == AttributeProto.INT:
        return proto.i
    if kind == AttributeProto.FLOAT:
        return proto.f
    if kind == AttributeProto.STRING:
        return _text(proto.s)
    if kind == AttributeProto.INTS:
        return tuple(proto.ints)
    if kind == AttributeProto.FLOATS:
        return tuple(proto.floats)
    if kind == AttributeProto.STRINGS:
        return tuple([_text(part) for part in proto.strings])
    return None


@cache
def newest_versions() -> Mapping[str, int]:
    """The newest version of each domain that the installed onnx knows."""
    found: dict[str, int] = {}
    for (domain, _), versions in _history().items():
        found[domain] = max(found.get(domain, 0), versions[0].since_version)
    found[""] = NEWEST_OPSET
    found["ai.onnx.ml"] = defs.onnx_ml_opset_version()
    return found


def onnx_version() -> str:
    return onnx.__version__


_DETERMINISM = {"Deterministic": True, "NonDeterministic": False}


def _name_of(holder: object, member: str) -> str:
    """The name of an enumeration's value that onnx's type stubs do not know."""
    return str(getattr(getattr(holder, member), "name", ""))


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _exists(domain: str, op_type: str) -> bool:
    return (domain, op_type) in _history()


def _versions(domain: str, op_type: str) -> tuple[defs.OpSchema, ...]:
    return _history().get((domain, op_type), ())


@cache
def _history() -> Mapping[tuple[str, str], tuple[defs.OpSchema, ...]]:
    """Every version of every operator, the newest first."""
    found: dict[tuple[str, str], list[defs.OpSchema]] = {}
    for schema in defs.get_all_schemas_with_history():
        found.setdefault((schema.domain, schema.name), []).append(schema)
    return {name: tuple(sorted(versions, key=lambda schema: -schema.since_version)) for name, versions in found.items()}
