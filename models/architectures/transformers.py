"""ViT and BERT."""

from __future__ import annotations

import math

import numpy as np

from planish.ir import DType, Graph, Value
from planish.models.architectures.layers import Exporter, Extent, Layers


def vit_small(exporter: Exporter, *, width: int = 24, depth: int = 12, heads: int = 6, image: int = 64, patch: int = 16,
              classes: int = 10, seed: int = 0) -> Graph:  # fmt: skip
    """Dosovitskiy et al. 2021, for one picture; the full size is width=384, image=224, classes=1000."""
    net = Layers("vit_small", exporter, seed)
    count = (image // patch) ** 2 + 1
    x = net.b.input("image", DType.FLOAT, (1, 3, image, image))
    x = net.conv("patch_embed", x, (3, width), kernel=patch, stride=patch, pad=0, bias=True)
    if net.dynamo:
        x = net.reshape(x, 1, width, count - 1)
    else:
        bounds = (net.constant((0,)), net.constant((2,)), net.constant((0,)))
        kept = net.b.node("Slice", (net.b.node("Shape", (x,)), *bounds))
        x = net.b.node("Reshape", (x, net.b.node("Concat", (kept, net.constant((-1,))), {"axis": 0})))
    x = net.transpose(x, 0, 2, 1)
    token = net.floats("cls_token", net.random.standard_normal((1, 1, width)))
    token = net.broadcast_to(token, net.vectors((1, 1, 1) if net.dynamo else (1, -1, -1)))
    x = net.b.node("Concat", (token, x), {"axis": 1})
    x = net.add(x, net.floats("pos_embed", 0.1 * net.random.standard_normal((1, count, width))))
    for index in range(depth):
        name = f"blocks.{index}"
        y = _attention(net, f"{name}.attn", net.layer_norm(f"{name}.norm1", x, width), (count, width, heads))
        x = net.add(x, y)
        x = net.add(x, net.mlp(f"{name}.mlp", net.layer_norm(f"{name}.norm2", x, width), width))
    x = net.layer_norm("norm", x, width)
    first = net.b.node("Gather", (x, net.constant(0)), {"axis": 1})
    return net.graph(logits=net.gemm("head", first, (width, classes)))


def _attention(net: Layers, name: str, x: Value, sizes: tuple[int, int, int]) -> Value:
    count, width, heads = sizes
    y = net.reshape(net.linear(f"{name}.qkv", x, (width, 3 * width)), 1, count, 3, heads, width // heads)
    query, key, value = net.split_three(net.transpose(y, 2, 0, 3, 1, 4))
    scores = net.softmax(net.scaled_products(query, key))
    mixed = net.transpose(net.b.node("MatMul", (scores, value)), 0, 2, 1, 3)
    return net.linear(f"{name}.proj", net.reshape(mixed, 1, count, width), (width, width))


def bert(exporter: Exporter, *, width: int = 32, depth: int = 6, heads: int = 4, words: int = 100,
         positions: int = 64, batch: Extent = "batch", sequence: Extent = "sequence",
         seed: int = 0) -> Graph:  # fmt: skip
    """Devlin et al. 2019 in the depth of MiniLM-L6; the full size is width=384, heads=12, words=30522, positions=512.

    Inputs: input_ids, attention_mask. Output: the hidden state. The sequence must not be longer than `positions`.
    """
    net = Layers("bert", exporter, seed)
    tokens = net.b.input("input_ids", DType.INT64, (batch, sequence))
    mask = net.b.input("attention_mask", DType.INT64, (batch, sequence))
    rows, columns = net.extent(tokens, 0), net.extent(tokens, 1)
    x = _embeddings(net, tokens, (rows, columns), (width, words, positions))
    x = net.layer_norm("embeddings.norm", x, width)
    bias = _mask(net, mask, rows, columns)
    for index in range(depth):
        name = f"layer.{index}"
        y = _self_attention(net, f"{name}.attention", x, (bias, rows, columns), (width, heads))
        x = net.layer_norm(f"{name}.norm1", net.add(y, x), width)
        x = net.layer_norm(f"{name}.norm2", net.add(net.mlp(f"{name}.mlp", x, width), x), width)
    return net.graph(hidden=x)


def _embeddings(net: Layers, tokens: Value, dims: tuple[Value, Value], sizes: tuple[int, int, int]) -> Value:
    """Of words, of types (all 0), and of positions, which are sliced off a buffer."""
    width, words, positions = sizes
    b, random = net.b, net.random
    steps = b.initializer("position_ids", np.arange(positions)[None])
    vector = net.vectors((dims[1],))
    places = b.node("Slice", (steps, net.constant((0,)), vector, net.constant((1,)), net.constant((1,))))
    zeros = b.initializer("token_type_ids", np.zeros((1, positions), np.int64))
    kinds = b.node("GatherElements", (zeros, places), {"axis": 1})
    kinds = net.broadcast_to(kinds, net.vectors(dims))
    counts = {"word_embeddings": words, "token_type_embeddings": 2, "position_embeddings": positions}
    tables = [net.floats(name, random.standard_normal((count, width))) for name, count in counts.items()]
    x = b.node("Gather", (tables[0], tokens))
    x = net.add(x, b.node("Gather", (tables[1], kinds)))
    return net.add(x, b.node("Gather", (tables[2], places)))


def _mask(net: Layers, mask: Value, rows: Value, columns: Value) -> Value:
    """0 where a token may be looked at, and else the least number."""
    b = net.b
    held = b.node("Cast", (mask,), {"to": int(DType.BOOL)})
    held = b.node("Unsqueeze", (b.node("Unsqueeze", (held, net.constant((1,)))), net.constant((2,))))
    held = net.broadcast_to(held, net.vectors((rows, 1, columns, columns)))
    return b.node("Where", (held, net.number(0.0), net.number(float(np.finfo(np.float32).min))))


def _self_attention(
    net: Layers, name: str, x: Value, around: tuple[Value, Value, Value], sizes: tuple[int, int]
) -> Value:
    """around: what is added to the scores, and the extents of batch and sequence."""
    bias, *dims = around
    width, heads = sizes
    head = width // heads

    def split(part: str, *order: int) -> Value:
        y = net.reshape(net.linear(f"{name}.{part}", x, (width, width)), *dims, -1, head)
        return net.transpose(y, *order)

    query, value, key = split("query", 0, 2, 1, 3), split("value", 0, 2, 1, 3), split("key", 0, 2, 3, 1)
    scores = net.b.node("Mul", (net.b.node("MatMul", (query, key)), net.number(1 / math.sqrt(head))))
    weights = net.softmax(net.add(scores, bias))
    mixed = net.transpose(net.b.node("MatMul", (weights, value)), 0, 2, 1, 3)
    return net.linear(f"{name}.output", net.reshape(mixed, *dims, -1), (width, width))
