"""Models by name: which framework a model or a file belongs to, and what `module:attribute` stands for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import cast

from planish.models.lower.errors import LowerError
from planish.models.lower.framework import Lowering, extra_of, frontend, quiet, reason
from planish.models.lower.inputs import Inputs

_OF_SUFFIX = {".pt2": "pytorch", ".pt": "pytorch", ".keras": "tensorflow", ".h5": "tensorflow"}
_PICKLES = (".joblib", ".pkl", ".pickle")
_SAVED_MODEL = "saved_model.pb"
# The package and the class that the models of a framework inherit from.
_BASES = (
    ("pytorch", "torch", ("Module", "ExportedProgram")),
    ("sklearn", "sklearn", ("BaseEstimator",)),
    ("tensorflow", "keras", ("Model",)),
)


def open_source(source: object, inputs: Inputs, output_names: Sequence[str], *, trust_pickle: bool) -> Lowering:
    """A model, or the path of a file that holds one, in its framework. Raises LowerError."""
    if isinstance(source, str | Path):
        path = Path(source)
        return frontend(_framework_of_file(path, trust_pickle)).open_file(path, inputs, output_names)
    name = _framework_of(source)
    if name is None:
        raise LowerError(
            f"{_kind(source)} is no model that planish can lower: it takes modules, exported programs and TorchScript "
            "of PyTorch, fitted estimators of scikit-learn, and Keras models"
        )
    return frontend(name).open_model(source, inputs, output_names)


def named_model(text: str) -> object:
    """The path of a file, or what `module:attribute` names: a model, or the model that calling it gives.

    The module is imported, with the current folder among the places to find it. Raises LowerError.
    """
    if Path(text).exists() or ":" not in text:
        return text
    module, _, attribute = text.partition(":")
    found = _attribute(_module(module, text), attribute, text)
    if _framework_of(found) is not None or not callable(found):
        return found
    try:
        with quiet():
            return cast("Callable[[], object]", found)()
    except Exception as error:  # the user's own code
        raise LowerError(f"{text}: calling it failed: {reason(error)}{extra_of(error)}") from error


def _module(name: str, text: str) -> object:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        with quiet():
            return import_module(name)
    except Exception as error:  # the user's own code
        raise LowerError(f"{text}: the module {name!r} cannot be imported: {reason(error)}{extra_of(error)}") from error


def _attribute(found: object, attribute: str, text: str) -> object:
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = get_close_matches(part, dir(found), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise LowerError(f"{text}: there is no attribute {part!r}{hint}")
        found = getattr(found, part)
    return found


def _framework_of(source: object) -> str | None:
    """By the names of its classes, so that no framework is imported to find out."""
    if isinstance(source, type):
        return None
    for kind in type(source).__mro__:
        for name, package, bases in _BASES:
            if kind.__name__ in bases and kind.__module__.partition(".")[0] == package:
                return name
    return None


def _framework_of_file(path: Path, trust_pickle: bool) -> str:
    if not path.exists():
        raise LowerError(f"{path}: no such file; a source is a file, a SavedModel's folder, or module:attribute")
    if path.is_dir():
        if (path / _SAVED_MODEL).exists():
            return "tensorflow"
        raise LowerError(f"{path}: is a folder without {_SAVED_MODEL}, so it is no SavedModel")
    if path.suffix in _PICKLES:
        if not trust_pickle:
            raise LowerError(
                f"{path}: is a pickle, and loading one runs whatever code is in it; where you trust whoever made it, "
                "say --trust-pickle (in Python, trust_pickle=True)"
            )
        return "sklearn"
    if path.suffix == ".onnx":
        raise LowerError(f"{path}: is ONNX already; planish optimize goes on from there")
    if path.suffix not in _OF_SUFFIX:
        raise LowerError(
            f"{path}: planish does not know how to read a {path.suffix or 'file without an ending'}; it reads "
            f"{', '.join((*_OF_SUFFIX, *_PICKLES))} and folders of SavedModels"
        )
    return _OF_SUFFIX[path.suffix]


def _kind(source: object) -> str:
    return f"the class {source.__name__}" if isinstance(source, type) else f"a {type(source).__name__}"
