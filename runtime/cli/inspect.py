"""planish inspect MODEL"""

from __future__ import annotations

import argparse

from planish.runtime.channel_groups import ChannelGroups, channel_groups, groups_text
from planish.runtime.cli.options import add_json, print_json, shape
from planish.runtime.cli.sources import locate
from planish.runtime.inspect import inspect
from planish.runtime.progress import ProgressBar
from planish.runtime.report import inspect_text


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="an ONNX file, or zoo:NAME")
    parser.add_argument(
        "--shape",
        type=shape,
        action="append",
        default=[],
        metavar="INPUT=D,D,...",
        help="shape of an input, to have multiply-accumulates as numbers",
    )
    parser.add_argument(
        "--groups",
        action="store_true",
        help="show instead what would vanish together: channels, heads and residual blocks, and what keeps the others",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    with ProgressBar() as progress:
        path = locate(arguments.model, progress).path
        found = channel_groups(path) if arguments.groups else inspect(path, dict(arguments.shape))
    if arguments.json:
        print_json(found.as_dict())
    else:
        print(groups_text(found) if isinstance(found, ChannelGroups) else inspect_text(found))
    return 0
