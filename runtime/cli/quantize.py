"""planish quantize MODEL -o OUT --task TASK | --inputs FOLDER [--max-drop 0.5%]"""

from __future__ import annotations

import argparse
from pathlib import Path

from planish.runtime.cli.options import add_budget, add_json, add_model_and_samples, add_target, print_json
from planish.runtime.cli.sources import model_of, samples_of, user_cache
from planish.runtime.progress import ProgressBar
from planish.runtime.providers import Target
from planish.runtime.quantize import quantize
from planish.runtime.quantize_report import quantize_dict, quantize_text


def configure(parser: argparse.ArgumentParser) -> None:
    add_model_and_samples(parser)
    add_budget(parser, 0.005)
    parser.add_argument(
        "--only", default="*", metavar="PATTERNS", help="of the nodes that may be quantized, joined by |"
    )
    parser.add_argument("--exclude", default="", metavar="PATTERNS", help="of the nodes that may not")
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
