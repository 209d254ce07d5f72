"""planish profile-target [MODEL ...] [--pipeline PASSES]"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from planish.runtime.bindings import Binding
from planish.runtime.cli.failures import CommandError
from planish.runtime.cli.options import add_json, positive, print_json, shape
from planish.runtime.cli.sources import Source, locate, user_cache
from planish.runtime.profile_operators import OperatorProfile, profile_operators
from planish.runtime.profile_target import Profile, profile_target
from planish.runtime.progress import Progress, ProgressBar
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
    parser.add_argument(
        "--pipeline",
        metavar="PASSES",
        help="instead, what passes with latency=PART ask for on these models: prune-channels{latency=0.6}",
    )
    parser.add_argument("--again", action="store_true", help="measure what is known, too")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    with ProgressBar() as progress:
        sources = [locate(model, progress) for model in arguments.models]
        found = _profiled(arguments, sources, progress)
    if arguments.json:
        print_json(found.as_dict())
    else:
        print(found)
    return 0


def _profiled(
    arguments: argparse.Namespace, sources: Sequence[Source], progress: Progress
) -> Profile | OperatorProfile:
    target, given = Target(threads=arguments.threads), Binding(dict(arguments.shape))
    if arguments.pipeline is None:
        models = [
            (source.path, given if given.shapes or not source.bindings else source.bindings[0]) for source in sources
        ]
        return profile_target(models, target, user_cache(), again=arguments.again, progress=progress)
    if not sources or given.shapes or arguments.again:
        raise CommandError("--pipeline takes models, and neither --shape nor --again: extent= of the pass says shapes")
    paths = [source.path for source in sources]
    return profile_operators(paths, arguments.pipeline, target, user_cache(), progress=progress)
