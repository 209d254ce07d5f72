"""planish quantize MODEL -o OUT --task TASK | --inputs FOLDER [--max-drop 0.5%]"""

from __future__ import annotations

import argparse
from pathlib import Path

from planish.runtime.cli.failures import CommandError
from planish.runtime.cli.options import add_json, add_target, positive, print_json
from planish.runtime.cli.sources import load_task, locate, user_cache
from planish.runtime.progress import ProgressBar
from planish.runtime.providers import Target
from planish.runtime.quantize import quantize
from planish.runtime.quantize_report import quantize_dict, quantize_text


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="an ONNX file, or zoo:NAME (default: what the task is for)"
    )
    samples = parser.add_mutually_exclusive_group(required=True)
    samples.add_argument("--task", metavar="TASK", help="a task's name, or a class of your own as module:Class")
    samples.add_argument("--inputs", metavar="FOLDER", help="a folder of .npz files, an array for each input")
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
    parser.add_argument("--limit", type=positive, metavar="N", help="so many samples, from all over the split")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="to measure a pair of models for")
    add_target(parser)
    add_json(parser)


def part(text: str) -> float:
    """A part of one, or percents."""
    percent = text.endswith("%")
    try:
        found = float(text.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no part from 0 to 1, nor a percentage")
    return found


def run(arguments: argparse.Namespace) -> int:
    with ProgressBar() as progress:
        task = None if arguments.task is None else load_task(arguments.task)
        model = arguments.model or (task.model if task is not None else "")
        if not model:
            raise CommandError("say which model to quantize: samples of your own are for no model in particular")
        result = quantize(
            locate(model, progress).path,
            Path(arguments.output),
            Path(arguments.inputs) if task is None else task,
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
