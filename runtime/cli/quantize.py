"""planish quantize MODEL -o OUT --task TASK | --inputs FOLDER [--max-drop 0.5%]"""

from __future__ import annotations

import argparse
from pathlib import Path

from planish.runtime.cli.options import add_json, add_model_and_samples, add_target, part, print_json
from planish.runtime.cli.sources import model_of, samples_of, user_cache
from planish.runtime.progress import ProgressBar
from planish.runtime.providers import Target
from planish.runtime.quantize import quantize
from planish.runtime.quantize_report import quantize_dict, quantize_text


def configure(parser: argparse.ArgumentParser) -> None:
    add_model_and_samples(parser)
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="the file to write; never MODEL itself")
    parser.add_argument(
        "--max-drop",
        type=part,
        default=0.005,
        metavar="PART",
        help="how far the task's metric, or the cosine of the outputs, may fall: 0.5%% or 0.005 (default: 0.5%%)",
    )
    parser.add_argument(
        "--only", default="*", metavar="PATTERNS", help="of the nodes that may be quantized, joined by |"
    )
    parser.add_argument("--exclude", default="", metavar="PATTERNS", help="of the nodes that may not")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="to measure a pair of models for")
    add_target(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    with ProgressBar() as progress:
        samples = samples_of(arguments)
        result = quantize(
            model_of(arguments, samples, progress),
            Path(arguments.output),
            samples,
            max_drop=arguments.max_drop,
            target=Target(provider=arguments.provider, threads=arguments.threads),
            only=arguments.only,
            exclude=arguments.exclude,
            limit=arguments.limit,
            seconds=arguments.seconds,
            cache=user_cache(),
            progress=progress,
        )
    if arguments.json:
        print_json(quantize_dict(result))
    else:
        print(quantize_text(result))
    return 0
