"""Sentences as all-MiniLM-L6-v2 takes them: WordPiece, by the tokenizer that the model came with."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

LONGEST = 256
"""Tokens of a sentence that the model was tuned on; further ones are left out."""


class Sentences:
    """`tokenizer`: the file tokenizer.json, `zoo.fetch_asset("all-MiniLM-L6-v2", "tokenizer.json")`."""

    def __init__(self, tokenizer: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_truncation(LONGEST)
        self._tokenizer.enable_padding()

    def __call__(self, sentences: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """The model's inputs, int64[sentences, tokens of the longest]; the mask is 0 for padding."""
        encoded = self._tokenizer.encode_batch(list(sentences))
        return {
            "input_ids": np.array([item.ids for item in encoded], np.int64),
            "attention_mask": np.array([item.attention_mask for item in encoded], np.int64),
        }
