"""planish quantize-report FLOAT QUANTIZED --task TASK | --inputs FOLDER"""

from __future__ import annotations

import argparse

from planish.runtime.cli.options import add_json, add_samples, count, positive, print_json
from planish.runtime.cli.sources import locate, samples_of
from planish.runtime.progress import ProgressBar
from planish.runtime.providers import Target
from planish.runtime.quantization_error import quantization_errors
from planish.runtime.quantization_error_report import SHOWN, quantization_errors_text


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="FLOAT", help="the model that was quantized: an ONNX file, or zoo:NAME")
    parser.add_argument("quantized", metavar="QUANTIZED", help="what became of it")
    add_samples(parser)
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="within one operator (default: 1)")
    parser.add_argument(
        "--show", type=count, default=SHOWN, metavar="N", help=f"so many tensors and weights (default: {SHOWN}; 0: all)"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    with ProgressBar() as progress:
        found = quantization_errors(
            locate(arguments.model, progress).path,
            locate(arguments.quantized, progress).path,
            samples_of(arguments),
            target=Target(threads=arguments.threads),
            limit=arguments.limit,
            progress=progress,
        )
    if arguments.json:
        print_json(found.as_dict())
    else:
        print(quantization_errors_text(found, arguments.show))
    return 0
