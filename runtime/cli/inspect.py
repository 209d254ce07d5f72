"""planish inspect MODEL"""

from __future__ import annotations

import argparse

from planish.runtime.cli.options import add_json, print_json, shape
from planish.runtime.cli.sources import locate
from planish.runtime.inspect import inspect
from planish.runtime.progress import ProgressBar
from planish.runtime.report import inspect_text


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="an ONNX file, or zoo:NAME")
    parser.add_argument(
        "--shape",
        type=shape,
        action="append",
        default=[],
        metavar="INPUT=D,D,...",
        help="shape of an input, to have multiply-accumulates as numbers",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    with ProgressBar() as progress:
        found = inspect(locate(arguments.model, progress).path, dict(arguments.shape))
    if arguments.json:
        print_json(found.as_dict())
    else:
        print(inspect_text(found))
    return 0
