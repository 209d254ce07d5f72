"""planish profile-target [MODEL ...]"""

from __future__ import annotations

import argparse

from planish.runtime.bindings import Binding
from planish.runtime.cli.options import add_json, positive, print_json, shape
from planish.runtime.cli.sources import locate, user_cache
from planish.runtime.profile_target import profile_target
from planish.runtime.progress import ProgressBar
from planish.runtime.providers import Target


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models", metavar="MODEL", nargs="*", help="ONNX files, or zoo:NAME (default: shapes of well-known nets)"
    )
    parser.add_argument(
        "--shape",
        type=shape,
        action="append",
        default=[],
        metavar="INPUT=D,D,...",
        help="shape of an input that the models leave open",
    )
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="within one operator (default: 1)")
    parser.add_argument("--again", action="store_true", help="measure what is known, too")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    given = Binding(dict(arguments.shape))
    with ProgressBar() as progress:
        sources = [locate(model, progress) for model in arguments.models]
        models = [
            (source.path, given if given.shapes or not source.bindings else source.bindings[0]) for source in sources
        ]
        found = profile_target(
            models, Target(threads=arguments.threads), user_cache(), again=arguments.again, progress=progress
        )
    if arguments.json:
        print_json(found.as_dict())
    else:
        print(found)
    return 0
