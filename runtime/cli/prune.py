"""planish prune MODEL -o OUT --task TASK | --inputs FOLDER [--macs 0.7x | --params 0.7x | --latency 0.6x] ..."""

from __future__ import annotations

import argparse
from pathlib import Path

from planish.passes.prune.importance import CRITERIA, MEASURED
from planish.passes.prune.prune_channels import PruneChannels
from planish.runtime.cli.options import (
    add_budget,
    add_json,
    add_model_and_samples,
    add_target,
    part,
    positive,
    print_json,
    times,
)
from planish.runtime.cli.sources import model_of, samples_of, user_cache
from planish.runtime.progress import ProgressBar
from planish.runtime.providers import Target
from planish.runtime.prune import prune
from planish.runtime.prune_report import prune_dict, prune_text


def configure(parser: argparse.ArgumentParser) -> None:
    add_model_and_samples(parser)
    add_budget(parser, 0.01)
    much = parser.add_mutually_exclusive_group()
    much.add_argument(
        "--ratio", type=part, metavar="PART", help="of the channels of each group that goes (default: by bisection)"
    )
    much.add_argument("--macs", type=times, metavar="PARTx", help="of the multiply-accumulates that may stay: 0.7x")
    much.add_argument("--latency", type=times, metavar="PARTx", help="of the optimized model's time: 0.6x")
    much.add_argument("--params", type=times, metavar="PARTx", help="of the parameters that may stay: 0.7x")
    parser.add_argument(
        "--importance",
        choices=(*CRITERIA, *MEASURED),
        default="obs",
        help="what a channel matters by (default: obs, the order of the least loss on samples)",
    )
    parser.add_argument("--uniform", action="store_true", help="let the same part of every group of channels go")
    parser.add_argument(
        "--steps", type=positive, default=1, metavar="N", help="prune, fit and measure so many times (default: 1)"
    )
    parser.add_argument(
        "--round-to", type=positive, default=1, metavar="N", help="as many go as leave a multiple of it (default: 1)"
    )
    parser.add_argument(
        "--keep", default="", metavar="PATTERNS", help="of nodes whose channels and heads stay, joined by |"
    )
    parser.add_argument("--no-reconstruct", action="store_true", help="leave the weights that stay as they are")
    add_target(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    with ProgressBar() as progress:
        samples = samples_of(arguments)
        result = prune(
            model_of(arguments, samples, progress),
            Path(arguments.output),
            samples,
            ratio=arguments.ratio,
            macs=arguments.macs,
            latency=arguments.latency,
            params=arguments.params,
            pruning=PruneChannels(importance=arguments.importance, round_to=arguments.round_to, keep=arguments.keep),
            uniform=arguments.uniform,
            steps=arguments.steps,
            max_drop=arguments.max_drop,
            reconstructing=not arguments.no_reconstruct,
            target=Target(provider=arguments.provider, threads=arguments.threads),
            limit=arguments.limit,
            seconds=arguments.seconds,
            cache=user_cache(),
            progress=progress,
        )
    if arguments.json:
        print_json(prune_dict(result))
    else:
        print(prune_text(result))
    return 0
