"""Texts to fit all-MiniLM-L6-v2 to: a folder of .npz files, for `planish prune zoo:all-MiniLM-L6-v2 --inputs FOLDER`.

    python tests/bench/text_samples.py FOLDER [--samples 512] [--tokens 64]

The texts of the calibration split of the task sentence-retrieval, and between them prose of the docstrings of Python's
library, of NumPy and of NetworkX: paragraphs that follow each other, as many as fit into so many tokens. A module that
has a paragraph in the test split is left out, and so is a paragraph of which a sentence stands there. Other versions
of these packages give other texts.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import networkx
import numpy as np

from planish.models.tasks.sentence_retrieval import SentenceRetrieval
from planish.models.zoo import fetch_asset
from planish.models.zoo.text import Sentences
from planish.runtime.task import Split

_MODEL = "all-MiniLM-L6-v2"
_FOREIGN = ("site-packages", "pydoc_data", "lib2to3", "idlelib", "test", "tests")
_LEAST_WORDS = 8
_LEAST_PROSE = 0.9
"""The share of letters, spaces and the marks of prose."""
_FULL = 0.75
"""Of the tokens that may be: shorter texts come last."""
_END = re.compile(r"(?<=[.!?:]) ")
_NO_PROSE = re.compile(r"[^A-Za-z ,.;:()'\"*-]")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=64, help="of a text at most")
    options = parser.parse_args()
    split = Sentences(fetch_asset(_MODEL, "tokenizer.json"))
    given = [text for _, text in held("calibration")]
    found = [*given, *chosen(split, options.samples - len(given), options.tokens)][: options.samples]
    options.folder.mkdir(parents=True, exist_ok=True)
    random.Random(0).shuffle(found)
    tokens = 0
    for place, text in enumerate(found):
        feeds = split([text])
        tokens += feeds["input_ids"].size
        np.savez(options.folder / f"{place:04}.npz", allow_pickle=False, **feeds)
    print(f"{len(found)} texts, {tokens} tokens")


def held(part: Split) -> Iterator[tuple[str, str]]:
    """Topic and text of what the task holds."""
    samples = SentenceRetrieval().samples(part)
    for sample in (samples[place] for place in range(len(samples))):
        yield from ((str(sample.group), str(sample.feeds[name])) for name in ("query", "paragraph"))


def chosen(split: Sentences, count: int, most: int) -> Sequence[str]:
    """So many texts, evenly spread over those that are long enough; then shorter ones, where there are not enough."""
    test = list(held("test"))
    modules = {topic.removeprefix("module ") for topic, _ in test}
    sentences = {sentence for _, text in test for sentence in _sentences(text)}
    texts = [text for path in files(modules) for text in packed(split, path, sentences, most)]
    lengths = [split([text])["input_ids"].size for text in texts]
    full = [text for text, length in zip(texts, lengths, strict=True) if length >= _FULL * most]
    if len(full) >= count:
        return [full[place * len(full) // count] for place in range(count)]
    return [text for _, text in sorted(zip(lengths, texts, strict=True), key=lambda each: -each[0])][:count]


def files(left_out: set[str]) -> Iterator[Path]:
    """Of the standard library, but for those modules and packages, of NumPy and of NetworkX."""
    for package in (os.__file__, np.__file__, networkx.__file__):
        root = Path(package).parent
        for path in sorted(root.rglob("*.py")):
            inner = path.relative_to(root).with_suffix("").parts
            if set(inner).isdisjoint(_FOREIGN) and (package != os.__file__ or inner[0] not in left_out):
                yield path


def packed(split: Sentences, path: Path, left_out: set[str], most: int) -> Iterator[str]:
    """Texts of paragraphs that follow each other."""
    text = ""
    for part in dict.fromkeys(paragraphs(path)):
        if left_out.isdisjoint(_sentences(part)):
            longer = f"{text} {part}".strip()
            if text and split([longer])["input_ids"].size >= most:
                yield text
                longer = part
            text = longer
    if text:
        yield text


def paragraphs(path: Path) -> Iterator[str]:
    """Those of prose, of all docstrings of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        docstring = ast.get_docstring(node) if isinstance(node, _DOCUMENTED) else None
        for part in (docstring or "").split("\n\n"):
            text = " ".join(part.split())
            is_whole = text[:1].isupper() and text.endswith((".", "!", "?", ":", ")")) and "\n " not in part.strip("\n")
            if is_whole and len(text.split()) >= _LEAST_WORDS and _prose(text) >= _LEAST_PROSE:
                yield text


def _prose(text: str) -> float:
    return 1 - len(_NO_PROSE.findall(text)) / len(text)


def _sentences(text: str) -> set[str]:
    return {sentence.strip() for sentence in _END.split(text)}


if __name__ == "__main__":
    main()
