"""planish calibrate [MODEL] --task TASK | --inputs FOLDER -o cal.json"""

from __future__ import annotations

import argparse
from pathlib import Path

from planish.passes.quantize.calibration_file import check_target, save_calibration
from planish.runtime.calibrate import calibrate
from planish.runtime.calibration_report import calibration_dict, calibration_text
from planish.runtime.cli.failures import CommandError
from planish.runtime.cli.options import add_json, positive, print_json
from planish.runtime.cli.sources import load_task, locate
from planish.runtime.progress import ProgressBar
from planish.runtime.providers import Target


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="an ONNX file, or zoo:NAME (default: what the task is for)"
    )
    samples = parser.add_mutually_exclusive_group(required=True)
    samples.add_argument("--task", metavar="TASK", help="a task's name, or a class of your own as module:Class")
    samples.add_argument("--inputs", metavar="FOLDER", help="a folder of .npz files, an array for each input")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="the JSON file to write")
    parser.add_argument("--grams", action="store_true", help="Gram matrices of what products with weights take, too")
    parser.add_argument(
        "--tensor", action="append", metavar="NAME", help="observe this one, or those of a pattern (default: all)"
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="so many samples, from all over the split")
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="within one operator (default: 1)")
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="processes (default: 1)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    check_target(arguments.output)
    with ProgressBar() as progress:
        task = None if arguments.task is None else load_task(arguments.task)
        model = arguments.model or (task.model if task is not None else "")
        if not model:
            raise CommandError("say which model to calibrate: samples of your own are for no model in particular")
        found = calibrate(
            locate(model, progress).path,
            arguments.inputs if task is None else task,
            grams=("*",) if arguments.grams else (),
            tensors=arguments.tensor,
            target=Target(threads=arguments.threads),
            jobs=arguments.jobs,
            limit=arguments.limit,
            progress=progress,
        )
    save_calibration(found, arguments.output)
    if arguments.json:
        print_json({"file": str(arguments.output), **calibration_dict(found)})
    else:
        print(calibration_text(found))
    return 0
