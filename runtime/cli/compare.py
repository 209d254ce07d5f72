"""planish compare A B"""

from __future__ import annotations

import argparse

from planish.runtime.cli.options import add_inputs, add_json, add_target, bindings_of, print_json, seconds, target_of
from planish.runtime.cli.sources import locate
from planish.runtime.compare import compare
from planish.runtime.progress import ProgressBar
from planish.runtime.report import compare_text

DIFFERS = 1


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="an ONNX file, or zoo:NAME")
    parser.add_argument("b", metavar="B", help="the model to hold against it")
    add_target(parser)
    add_inputs(parser)
    parser.add_argument("--exact", action="store_true", help="compare bits, on NaN and infinite inputs too")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random inputs (default: 0)")
    parser.add_argument(
        "--budget", type=seconds, default=5.0, metavar="SECONDS", help="for measuring latency (default: 5)"
    )
    parser.add_argument("--no-latency", action="store_true", help="do not time the models")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    with ProgressBar() as progress:
        a, b = locate(arguments.a, progress), locate(arguments.b, progress)
        report = compare(
            a.path,
            b.path,
            target=target_of(arguments),
            bindings=bindings_of(arguments.shape) or a.bindings or b.bindings,
            fixed=dict(arguments.value),
            ranges={**b.ranges, **a.ranges, **dict(arguments.range)},
            exact=arguments.exact,
            seed=arguments.seed,
            latency_seconds=None if arguments.no_latency else arguments.budget,
            progress=progress,
        )
    if arguments.json:
        print_json(report.as_dict())
    else:
        print(compare_text(report))
    return 0 if report.equal else DIFFERS
