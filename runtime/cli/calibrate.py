"""planish calibrate [MODEL] --task TASK | --inputs FOLDER -o cal.json"""

from __future__ import annotations

import argparse
from pathlib import Path

from planish.passes.quantize.calibration_file import check_target, save_calibration
from planish.runtime.calibrate import calibrate
from planish.runtime.calibration_report import calibration_dict, calibration_text
from planish.runtime.cli.options import add_json, add_model_and_samples, positive, print_json
from planish.runtime.cli.sources import model_of, samples_of
from planish.runtime.progress import ProgressBar
from planish.runtime.providers import Target


def configure(parser: argparse.ArgumentParser) -> None:
    add_model_and_samples(parser)
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="the JSON file to write")
    parser.add_argument("--grams", action="store_true", help="Gram matrices of what products with weights take, too")
    parser.add_argument(
        "--tensor", action="append", metavar="NAME", help="observe this one, or those of a pattern (default: all)"
    )
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="within one operator (default: 1)")
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="processes (default: 1)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    check_target(arguments.output)
    with ProgressBar() as progress:
        samples = samples_of(arguments)
        found = calibrate(
            model_of(arguments, samples, progress),
            samples,
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
