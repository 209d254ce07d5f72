"""Makes paragraphs.json: paragraphs of Python's own reference, and of each a sentence that was taken out of it.

    python -m planish.models.tasks.choose_paragraphs models/tasks/paragraphs.json

The texts are the topics of `help()` and the docstrings of the standard library's modules, their classes and functions.
Every Python has another edition: what 3.11.7 has made the file that ships.
"""

import ast
import json
import os
import pydoc_data.topics
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

_WORDS = range(35, 161)
"""Of a paragraph, with its sentence."""
_SENTENCES = range(3, 12)
_QUERY_WORDS = range(8, 36)
_LEAST_PROSE = 0.9
"""The share of letters, spaces and the marks of prose."""
_PER_TOPIC = 5
_OWNER = "Python Software Foundation"
_END = re.compile(r"(?<=[a-z)\"][.!?]) (?=[A-Z])")
_NO_PROSE = re.compile(r"[^A-Za-z ,.;:()'\"*-]")


def paragraphs(topics: dict[str, str]) -> Iterator[dict[str, str]]:
    """Of each topic a few, none of them twice, and no sentence that stands in two."""
    whole = [(topic, " ".join(part.split())) for topic in sorted(topics) for part in _parts(topics[topic])]
    count: dict[str, int] = {}
    seen: set[str] = set()
    for topic, text in whole:
        sentences = _END.split(text)
        query = _query(sentences)
        if not query or seen & set(sentences) or count.get(topic, 0) == _PER_TOPIC:
            continue
        count[topic] = count.get(topic, 0) + 1
        seen.update(sentences)
        rest = " ".join(sentence for sentence in sentences if sentence != query)
        yield {"topic": topic, "query": query, "paragraph": rest}


def _parts(text: str) -> list[str]:
    """Paragraphs whose lines begin in one column, as those of lists and definitions do not."""
    parts = (textwrap.dedent(part.strip("\n")) for part in text.split("\n\n"))
    return [part for part in parts if part[:1].isupper() and "\n " not in part]


def _query(sentences: Sequence[str]) -> str:
    """The longest sentence behind the first; none of a text that is not prose, or not of the wanted length."""
    text = " ".join(sentences)
    prose = 1 - len(_NO_PROSE.findall(text)) / len(text)
    if len(text.split()) not in _WORDS or len(sentences) not in _SENTENCES or prose < _LEAST_PROSE:
        return ""
    whole = [sentence for sentence in sentences[1:] if sentence.endswith((".", "!", "?", ".)"))]
    fitting = [sentence for sentence in whole if len(sentence.split()) in _QUERY_WORDS]
    return max(fitting, key=len, default="")


def main(arguments: Sequence[str]) -> None:
    (target,) = arguments
    found = {"licence": _licence(), "paragraphs": list(paragraphs(_texts()))}
    Path(target).write_text(json.dumps(found, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")


def _texts() -> dict[str, str]:
    """By topic or module; without modules that say of anybody else that they hold the copyright."""
    found = dict(pydoc_data.topics.topics)
    for path in Path(os.__file__).parent.glob("*.py"):
        code = path.read_text(encoding="utf-8")
        if any(_OWNER not in line for line in code.splitlines() if "copyright" in line.lower()):
            continue
        tree = ast.parse(code)
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
        docstrings = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented))
        found[f"module {path.stem}"] = "\n\n".join(text for text in docstrings if text)
    return found


def _licence() -> str:
    """The agreement that the texts must travel with, from the file beside the standard library."""
    whole = Path(os.__file__).with_name("LICENSE.txt").read_text(encoding="utf-8")
    return whole[
        whole.index("PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2") : whole.index("BEOPEN.COM LICENSE")
    ].strip()


if __name__ == "__main__":
    main(sys.argv[1:])
