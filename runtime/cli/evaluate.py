"""planish evaluate [MODEL] --task TASK"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import cast

from planish.runtime.cli.failures import CommandError
from planish.runtime.cli.options import add_json, count, positive, print_json
from planish.runtime.cli.sources import load_task, locate
from planish.runtime.evaluate import evaluate
from planish.runtime.folder import MEASURES, FolderTask
from planish.runtime.progress import Progress, ProgressBar
from planish.runtime.providers import PROVIDERS, Target
from planish.runtime.report import evaluations_text
from planish.runtime.task import Task


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="an ONNX file, or zoo:NAME (default: what the task is for)"
    )
    parser.add_argument(
        "--task",
        required=True,
        metavar="TASK",
        help="a task's name, a folder of .npz samples with labels, or a class of your own as module:Class",
    )
    parser.add_argument(
        "--provider",
        "--providers",
        dest="providers",
        type=_providers,
        default=("cpu",),
        metavar="P,P,...",
        help=f"execution providers, each of which must really run the model: {', '.join(PROVIDERS)} (default: cpu)",
    )
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="within one operator (default: 1)")
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--limit", type=positive, metavar="N", help="so many samples, from all over the test split")
    parser.add_argument("--shuffle-labels", type=count, metavar="SEED", help="see what the metrics are by chance")
    folder = parser.add_argument_group("for a folder of samples")
    folder.add_argument("--metric", choices=tuple(MEASURES), help="what to measure (default: accuracy)")
    folder.add_argument("--output", metavar="NAME", help="the output that is measured (default: the first)")
    folder.add_argument("--reference", metavar="MODEL", help="take its outputs for labels, as a file or zoo:NAME")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    with ProgressBar() as progress:
        task = _task(arguments, progress)
        model = arguments.model or task.model
        if not model:
            raise CommandError(f"task {task.name!r} is for no model in particular: say which to evaluate")
        path = locate(model, progress).path
        found = [
            evaluate(
                path,
                task,
                target=Target(provider=provider, threads=arguments.threads),
                limit=arguments.limit,
                jobs=arguments.jobs,
                shuffle_labels=arguments.shuffle_labels,
                progress=progress,
            )
            for provider in arguments.providers
        ]
    if arguments.json:
        print_json({"evaluations": [evaluation.as_dict() for evaluation in found]})
    else:
        print(evaluations_text(found))
    return 0


def _task(arguments: argparse.Namespace, progress: Progress) -> Task[object, object]:
    name = str(arguments.task)
    if Path(name).is_dir():
        like = None if arguments.reference is None else locate(arguments.reference, progress).path
        folder = FolderTask(name, arguments.metric or "accuracy", output=arguments.output or "", like=like)
        return cast("Task[object, object]", folder)
    for option in ("metric", "output", "reference"):
        if getattr(arguments, option) is not None:
            raise CommandError(f"--{option} is for a folder of samples, and {name!r} is none")
    return load_task(name)


def _providers(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in PROVIDERS:
            raise argparse.ArgumentTypeError(f"there is no provider {name!r}: choose from {', '.join(PROVIDERS)}")
    return names
