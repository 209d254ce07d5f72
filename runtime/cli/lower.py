"""planish lower SOURCE -o OUT"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from planish.runtime.agreement import OutputReport
from planish.runtime.cli.failures import CommandError
from planish.runtime.cli.options import add_inputs, add_json, bindings_of, dtype, dynamic, positive, print_json
from planish.runtime.progress import Progress, ProgressBar
from planish.runtime.report import outputs_table


class _Agreement(Protocol):
    @property
    def outputs(self) -> Sequence[OutputReport]: ...
    @property
    def runs(self) -> Sequence[object]: ...


class _Result(Protocol):
    @property
    def framework(self) -> str: ...
    @property
    def exporter(self) -> str: ...
    @property
    def target(self) -> Path | None: ...
    @property
    def agreement(self) -> _Agreement: ...
    @property
    def notes(self) -> Sequence[str]: ...
    def as_dict(self) -> Mapping[str, object]: ...


class _Lower(Protocol):
    """planish.models.lower, which this package may load but not import."""

    LowerError: type[Exception]

    def named_model(self, text: str) -> object: ...
    def lower(
        self,
        source: object,
        target_path: Path,
        *,
        example: object,
        shapes: Mapping[str, tuple[int, ...]],
        dtypes: Mapping[str, str],
        ranges: Mapping[str, tuple[float, float]],
        fixed: Mapping[str, float],
        dynamic: Mapping[str, Mapping[int, str]],
        output_names: Sequence[str],
        opset: int | None,
        exporter: str,
        trust_pickle: bool,
        seed: int,
        progress: Progress,
    ) -> _Result: ...


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="module:attribute, a model or what makes one; or a file: .pt2, TorchScript (.pt), .keras, .h5, a "
        "SavedModel's folder, .joblib, .pkl",
    )
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="the ONNX file to write")
    parser.add_argument("--example", metavar="FILE.npz", help="example inputs, an array for each input")
    add_inputs(parser)
    parser.add_argument(
        "--dtype",
        type=dtype,
        action="append",
        default=[],
        metavar="INPUT=TYPE",
        help="element type of an input that is made up, such as int64 (default: the model's, or float32)",
    )
    parser.add_argument(
        "--dynamic",
        type=dynamic,
        action="append",
        default=[],
        metavar="INPUT=AXIS:NAME,...",
        help="dims that may have any extent, as in x=0:batch",
    )
    parser.add_argument("--outputs", default="", metavar="NAME,...", help="names for the outputs, in order")
    parser.add_argument(
        "--opset", type=positive, metavar="N", help="of the standard operators (default: the exporter's)"
    )
    parser.add_argument(
        "--exporter",
        default="auto",
        metavar="NAME",
        help="the only one to try, such as torchscript (default: the best)",
    )
    parser.add_argument(
        "--trust-pickle", action="store_true", help="unpickle SOURCE, which runs whatever code is in the file"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random inputs (default: 0)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    module = cast("_Lower", import_module("planish.models.lower"))
    shapes = [dict(binding.shapes) for binding in bindings_of(arguments.shape)]
    if len(shapes) > 1:
        raise CommandError("--shape takes one shape an input here; --dynamic says which dims may change")
    with ProgressBar() as progress:
        try:
            result = module.lower(
                module.named_model(arguments.source),
                Path(arguments.output),
                example=None if arguments.example is None else _example(Path(arguments.example)),
                shapes=shapes[0] if shapes else {},
                dtypes=dict(arguments.dtype),
                ranges=dict(arguments.range),
                fixed=dict(arguments.value),
                dynamic=dict(arguments.dynamic),
                output_names=[name for name in arguments.outputs.split(",") if name],
                opset=arguments.opset,
                exporter=arguments.exporter,
                trust_pickle=arguments.trust_pickle,
                seed=arguments.seed,
                progress=progress,
            )
        except module.LowerError as error:
            raise CommandError(str(error)) from error
    if arguments.json:
        print_json(result.as_dict())
    else:
        print(_text(result))
    return 0


def _text(result: _Result) -> str:
    found = result.agreement
    lines = [outputs_table(found.outputs), ""]
    lines.append(f"{result.target}: {result.framework} by {result.exporter}, equal within what rounding explains")
    lines[-1] += f" on {len(found.runs)} sets of inputs"
    return "\n".join([*lines, *(f"note: {note}" for note in result.notes)])


def _example(path: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    """The arrays of an .npz file; never a pickle, so strings stand there as numpy's own."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except OSError:
        raise
    except Exception as error:
        raise CommandError(f"{path}: is no .npz file of plain arrays: {error}") from error
