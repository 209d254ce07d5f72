"""all-MiniLM-L6-v2: BERT with 6 layers, the mean over tokens, a vector of length 1.

Wang et al., MiniLM: Deep Self-Attention Distillation (2020), fine-tuned by sentence-transformers. Names of parts are
those of the weights.
"""

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

_WORDS, _POSITIONS, _KINDS = 30522, 512, 2
_WIDTH, _INNER, _HEADS, _LAYERS = 384, 1536, 12, 6
_EPS = 1e-12
_LEAST = -3.4028234663852886e38
"""What is added to the score of a token that is not there: the least float."""
_UNUSED = ("pooler.", "embeddings.position_ids")
"""BERT's own pooling, which the mean replaces, and the numbers 0 to 511."""


class Embeddings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(_WORDS, _WIDTH)
        self.position_embeddings = nn.Embedding(_POSITIONS, _WIDTH)
        self.token_type_embeddings = nn.Embedding(_KINDS, _WIDTH)
        self.LayerNorm = nn.LayerNorm(_WIDTH, _EPS)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        places = self.position_embeddings(torch.arange(ids.size(1)))
        kind = self.token_type_embeddings(torch.zeros_like(ids))
        return self.LayerNorm(self.word_embeddings(ids) + kind + places)


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(_WIDTH, _WIDTH)
        self.key = nn.Linear(_WIDTH, _WIDTH)
        self.value = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            part(x).reshape(x.size(0), x.size(1), _HEADS, _WIDTH // _HEADS).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(2, 3) / (_WIDTH // _HEADS) ** 0.5 + bias
        return (scores.softmax(-1) @ value).transpose(1, 2).reshape(x.size(0), x.size(1), _WIDTH)


class Output(nn.Module):
    def __init__(self, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, _WIDTH)
        self.LayerNorm = nn.LayerNorm(_WIDTH, _EPS)

    def forward(self, x: torch.Tensor, beside: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dense(x) + beside)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": SelfAttention(), "output": Output(_WIDTH)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(_WIDTH, _INNER)})
        self.output = Output(_INNER)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        attended = self.attention["output"](self.attention["self"](x, bias), x)
        return self.output(functional.gelu(self.intermediate["dense"](attended)), attended)


class MiniLM(nn.Module):
    """Token ids and a mask, 1 for a token and 0 for padding, both int64[batch, length] -> float[batch, 384]."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = Embeddings()
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList([Layer() for _ in range(_LAYERS)])})

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        mask = attention_mask.float()
        bias = (1.0 - mask)[:, None, None, :] * _LEAST
        x = self.embeddings(input_ids)
        for layer in cast("Sequence[Layer]", self.encoder["layer"]):
            x = layer(x, bias)
        there = mask.unsqueeze(-1)
        return functional.normalize((x * there).sum(1) / there.sum(1).clamp(min=1e-9), p=2.0, dim=1)


def network(weights: Path) -> MiniLM:
    """`weights`: a file of safetensors."""
    state = {name: tensor for name, tensor in _safetensors(weights).items() if not name.startswith(_UNUSED)}
    model = MiniLM().eval()
    model.load_state_dict(state)
    return model


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The float tensors of a file: the length of a JSON header in 8 bytes, the header, then the data."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = cast("dict[str, dict[str, object]]", json.loads(data[8 : 8 + length]))
    found: dict[str, torch.Tensor] = {}
    for name, entry in header.items():
        if entry.get("dtype") == "F32":
            start, end = cast("tuple[int, int]", entry["data_offsets"])
            array = np.frombuffer(data[8 + length + start : 8 + length + end], "<f4")
            found[name] = torch.from_numpy(array.reshape(cast("list[int]", entry["shape"])).copy())
    return found
