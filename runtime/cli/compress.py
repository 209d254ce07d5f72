"""planish compress MODEL -o OUT --task TASK | --inputs FOLDER [--max-drop 1%] [--macs 0.7x]"""

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
    positive,
    print_json,
    times,
)
from planish.runtime.cli.sources import model_of, samples_of, user_cache
from planish.runtime.compress import compress
from planish.runtime.compress_report import compress_text
from planish.runtime.progress import ProgressBar
from planish.runtime.providers import Target


def configure(parser: argparse.ArgumentParser) -> None:
    add_model_and_samples(parser)
    add_budget(parser, 0.01)
    parser.add_argument(
        "--macs",
        type=times,
        metavar="PARTx",
        help="of the multiply-accumulates that pruning leaves (default: by search)",
    )
    parser.add_argument(
        "--importance", choices=(*CRITERIA, *MEASURED), default="obs", help="what a channel matters by (default: obs)"
    )
    parser.add_argument(
        "--round-to", type=positive, default=16, metavar="N", help="as many go as leave a multiple of it (default: 16)"
    )
    parser.add_argument("--keep", default="", metavar="PATTERNS", help="of nodes whose channels stay, joined by |")
    add_target(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    with ProgressBar() as progress:
        samples = samples_of(arguments)
        result = compress(
            model_of(arguments, samples, progress),
            Path(arguments.output),
            samples,
            max_drop=arguments.max_drop,
            macs=arguments.macs,
            pruning=PruneChannels(importance=arguments.importance, round_to=arguments.round_to, keep=arguments.keep),
            target=Target(provider=arguments.provider, threads=arguments.threads),
            limit=arguments.limit,
            seconds=arguments.seconds,
            cache=user_cache(),
            progress=progress,
        )
    if arguments.json:
        print_json(result.as_dict())
    else:
        print(compress_text(result))
    return 0
