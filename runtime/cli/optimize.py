"""planish optimize IN -o OUT"""

from __future__ import annotations

import argparse
from pathlib import Path

from planish.runtime.cli.options import (
    add_destination,
    add_fp,
    add_json,
    add_pipeline,
    count,
    destination_of,
    positive,
    print_json,
)
from planish.runtime.cli.sources import locate
from planish.runtime.compile import optimize
from planish.runtime.progress import ProgressBar
from planish.runtime.report import optimize_text


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="IN", help="an ONNX file, or zoo:NAME")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-o", "--output", metavar="OUT", help="the file to write; never IN itself")
    where.add_argument("--dry-run", action="store_true", help="write nothing; list the rewrites that would fire")
    add_pipeline(parser)
    add_destination(parser)
    parser.add_argument(
        "--opset", type=positive, metavar="N", help="version of the standard operators in OUT (default: as in IN)"
    )
    add_fp(parser)
    parser.add_argument(
        "--limit", type=count, metavar="N", help="stop after N rewrites, to find the one that does harm"
    )
    parser.add_argument(
        "--external-data",
        choices=("auto", "always", "never"),
        default="auto",
        help="whether weights go to a file beside OUT (default: where they came that way or do not fit)",
    )
    parser.add_argument("--strict", action="store_true", help="refuse a model with a fault that could be repaired")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    with ProgressBar() as progress:
        result = optimize(
            locate(arguments.model, progress).path,
            None if arguments.dry_run else Path(arguments.output),
            pipeline=arguments.pipeline,
            target=destination_of(arguments),
            opset=arguments.opset,
            fp=arguments.fp,
            limit=arguments.limit,
            external_data=arguments.external_data,
            strict=arguments.strict,
            progress=progress,
        )
    if arguments.json:
        print_json(result.as_dict())
    else:
        print(optimize_text(result))
        if arguments.dry_run:
            print("\n".join(["", *map(str, result.rewrites)]))
    return 0
