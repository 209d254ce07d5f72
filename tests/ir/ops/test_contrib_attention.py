"""Types of ONNX Runtime's own attention, which no checker knows."""

from __future__ import annotations

import pytest

from planish.ir import Builder, DType
from planish.ir.dim import symbol
from planish.ir.ops.table import is_pure
from planish.ir.types import TensorType

OP = "com.microsoft::MultiHeadAttention"


@pytest.mark.parametrize(
    ("value", "hidden"),
    [(("N", "T", 6), 6), (("N", 3, "T", 2), 6), ((None, None, None, None, None), None)],
)
def test_attention_has_the_hidden_size_of_its_values(value: tuple[str | int | None, ...], hidden: int | None) -> None:
    b = Builder()
    query, key = b.input("q", DType.FLOAT, ("N", "L", 12)), b.input("k", DType.FLOAT, ("N", "T", 12))
    result = b.node(OP, (query, key, b.input("v", DType.FLOAT, value)), {"num_heads": 3})
    known = TensorType(DType.FLOAT, (symbol("N"), symbol("L"), hidden or 0))
    assert result.type == (None if hidden is None else known)
    assert result.producer is not None
    assert is_pure(result.producer)


def test_attention_with_a_cache_may_write_to_it() -> None:
    b = Builder()
    x, past = b.input("x", DType.FLOAT, ("N", "L", 12)), b.input("past", DType.FLOAT, ("N", 3, "P", 4))
    results = b.nodes(OP, (x, x, x, None, None, None, past, past), {"num_heads": 3}, results=3)
    assert [result.type is None for result in results] == [False, True, True]
    assert results[0].producer is not None
    assert not is_pure(results[0].producer)


@pytest.mark.parametrize(("sizes", "hidden"), [(None, 8), ((6, 6, 12), 12)])
def test_packed_attention_has_the_hidden_size_of_its_values(sizes: tuple[int, ...] | None, hidden: int) -> None:
    b = Builder()
    x, w = b.input("x", DType.FLOAT, ("N", "L", 5)), b.input("w", DType.FLOAT, (5, 24))
    attributes = {"num_heads": 2, **({} if sizes is None else {"qkv_hidden_sizes": sizes})}
    result = b.node("com.microsoft::Attention", (x, w), attributes)
    assert result.type == TensorType(DType.FLOAT, (symbol("N"), symbol("L"), hidden))
    assert result.producer is not None
    assert is_pure(result.producer)


def test_grouped_attention_has_the_shape_of_its_query() -> None:
    b = Builder()
    query, key = b.input("q", DType.FLOAT, ("N", "L", 12)), b.input("k", DType.FLOAT, ("N", "L", 4))
    lengths, past = b.input("s", DType.INT32, ("N",)), b.input("past", DType.FLOAT, ("N", 1, "P", 4))
    attributes = {"num_heads": 3, "kv_num_heads": 1}
    plain = b.node("com.microsoft::GroupQueryAttention", (query, key, key, None, None, lengths, lengths), attributes)
    assert plain.type == query.type
    cached = b.node("com.microsoft::GroupQueryAttention", (query, key, key, past, past, lengths, lengths), attributes)
    assert [is_pure(value.producer) for value in (plain, cached) if value.producer is not None] == [True, False]
    packed = b.node("com.microsoft::GroupQueryAttention", (query, None, None, None, None, lengths), attributes)
    assert packed.type is None
