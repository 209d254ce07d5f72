"""What lowering asks of a framework's model, and the one place that imports frameworks, when they are needed."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from planish.ir import Graph
from planish.models.lower.errors import LowerError
from planish.models.lower.inputs import Array, Dims, Inputs
from planish.runtime.session import Feed, Result


class Lowering(Protocol):
    """A model of a framework with its example, ready to be exported and to be compared with."""

    @property
    def framework(self) -> str:
        """With its version: PyTorch 2.13.0."""
        ...

    @property
    def exporters(self) -> Sequence[str]:
        """The best first."""
        ...

    @property
    def example(self) -> Mapping[str, Array]: ...

    @property
    def dynamic(self) -> Dims:
        """With those that the model itself declares."""
        ...

    @property
    def notes(self) -> Sequence[str]: ...

    def run(self, feeds: Mapping[str, Feed]) -> list[Result]:
        """The framework's own outputs, in order. Raises SessionError where it refuses the inputs."""
        ...

    def otherwise(self, feeds: Mapping[str, Feed]) -> list[Result]:
        """The same in another way that is as right, where the framework has one: what lies between is rounding."""
        ...

    def settled(self, found: Sequence[Result], given: Sequence[Result]) -> Sequence[Result]:
        """What an exported model found, with the framework's choice wherever it chose another among equals.

        given: the framework's outputs on the same inputs.
        """
        ...

    def output_names(self, graph: Graph) -> Sequence[str]:
        """What the outputs of an exported graph are to be called. Raises ExportError where they are not the model's."""
        ...

    def see(self, results: Sequence[Result]) -> None:
        """What an exported model gives on the example: it may stand for the model's own in one form or another."""
        ...

    def export(self, exporter: str, path: Path, opset: int | None) -> Sequence[str]:
        """Writes an ONNX file; its inputs as the example names them, in the order of the file.

        Raises anything: what an exporter raises is not known beforehand.
        """
        ...


class Frontend(Protocol):
    """The module of a framework."""

    def open_model(self, source: object, inputs: Inputs, output_names: Sequence[str]) -> Lowering:
        """Raises LowerError for a model that this framework cannot lower, and for an example that it does not take."""
        ...

    def open_file(self, path: Path, inputs: Inputs, output_names: Sequence[str]) -> Lowering:
        """Raises LowerError also for a file that holds no model."""
        ...


@dataclass(frozen=True)
class Framework:
    title: str
    extra: str
    packages: tuple[str, ...]
    """Those that must be there, as they are imported."""


FRAMEWORKS: Mapping[str, Framework] = {
    "pytorch": Framework("PyTorch", "torch", ("torch", "onnxscript")),
    "sklearn": Framework("scikit-learn", "sklearn", ("sklearn", "skl2onnx")),
    "tensorflow": Framework("Keras or TensorFlow", "tensorflow", ("tensorflow", "keras", "tf2onnx")),
}


def frontend(name: str) -> Frontend:
    """The module that lowers models of a framework. Raises LowerError where a package that it needs is missing."""
    found = FRAMEWORKS[name]
    with quiet():
        try:
            for package in found.packages:
                import_module(package)
        except ImportError as error:
            raise LowerError(
                f"lowering a {found.title} model needs packages that are not installed ({error}): "
                f"pip install 'planish[{found.extra}]'"
            ) from error
        return cast("Frontend", import_module(f"planish.models.lower.{name}"))


def extra_of(error: BaseException) -> str:
    """How to install the framework that an import did not find; nothing where it was something else."""
    missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    extras = [found.extra for found in FRAMEWORKS.values() if missing in found.packages]
    return f": pip install 'planish[{extras[0]}]'" if extras else ""


def data_frame(columns: Mapping[str, Array]) -> object:
    """Of pandas, which whoever fitted on a data frame has. Raises LowerError where it is missing."""
    try:
        pandas = import_module("pandas")
    except ImportError as error:
        raise LowerError(f"the model was fitted on a data frame, and pandas is not installed ({error})") from error
    return cast("Callable[[Mapping[str, Array]], object]", pandas.DataFrame)(columns)


def unpickled(path: Path) -> object:
    """By joblib, which scikit-learn brings; it reads plain pickles as well. Raises anything, and may do anything."""
    return cast("Callable[[Path], object]", import_module("joblib").load)(path)


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Without what frameworks warn, log and print while they work: whatever matters ends in the result or an error.

    They print from C++ as well, so the two streams of the process itself lead nowhere meanwhile.
    """
    before = logging.root.manager.disable
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.callback(logging.disable, before)
        logging.disable(logging.CRITICAL)
        nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
            stream.flush()
            kept = os.dup(descriptor)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, descriptor)
            os.dup2(nowhere.fileno(), descriptor)
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield


@contextlib.contextmanager
def without_triton() -> Generator[None]:
    """Where TensorFlow is loaded, PyTorch does not find triton: each brings an LLVM of its own, and triton 3.7 ends the
    process of TensorFlow 2.21. Exporting has no use for it."""
    modules = cast("dict[str, object]", sys.modules)
    hides = "tensorflow" in modules and "triton" not in modules
    if hides:
        modules["triton"] = None
    try:
        yield
    finally:
        if hides:
            del modules["triton"]


_LONGEST = 300


def reason(error: BaseException) -> str:
    """The first line of what went wrong at the root: exporters wrap it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1]) or "no reason given"
    return f"{type(error).__name__}: {text[:_LONGEST]}"
