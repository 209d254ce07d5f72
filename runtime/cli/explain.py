"""planish explain MODEL PATTERN"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from difflib import get_close_matches

from planish import ir, passes
from planish.passes import PASSES
from planish.passes.explain import Attempt, closest_of, rules_of
from planish.passes.kernels import kernels_for
from planish.passes.run import Run
from planish.runtime.cli.failures import CommandError
from planish.runtime.cli.options import (
    add_destination,
    add_fp,
    add_json,
    add_pipeline,
    count,
    destination_of,
    print_json,
)
from planish.runtime.cli.sources import locate
from planish.runtime.progress import ProgressBar


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="an ONNX file, or zoo:NAME")
    parser.add_argument("pattern", metavar="PATTERN", help="a pass or a rule, as in fuse-gelu or '*gelu*'")
    add_pipeline(parser)
    add_destination(parser)
    add_fp(parser)
    parser.add_argument("--places", type=count, default=3, metavar="N", help="how many places to show (default: 3)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    pattern: str = arguments.pattern
    kinds = [kind() for kind in PASSES.values()]
    rules = {lossy: rules_of([kind for kind in kinds if kind.lossy is lossy], pattern) for lossy in (False, True)}
    if not any(rules.values()):
        names: list[str] = [*PASSES, *(rule.name for rule in rules_of(kinds, "*"))]
        near = get_close_matches(pattern, names, 3)
        hint = f"did you mean {' or '.join(near)}?" if near else "planish passes lists them"
        raise CommandError(f"no rule of any pass is called {pattern!r}; {hint}")
    with ProgressBar() as progress:
        graph = ir.load(locate(arguments.model, progress).path)
        target = destination_of(arguments)
        kernels = kernels_for(target.provider, target.domains)
        records = passes.run(graph, arguments.pipeline, fp=arguments.fp, kernels=kernels)
    wanted = {rule.name for each in rules.values() for rule in each}
    fired = [str(rewrite) for record in records for rewrite in record.rewrites if rewrite.rule in wanted]
    attempts = closest_of(graph, rules, Run(arguments.fp, target=kernels))[: arguments.places]
    if arguments.json:
        print_json({"fired": fired, "attempts": [_described(attempt) for attempt in attempts]})
    else:
        print("\n".join(_lines(arguments.pipeline, fired, attempts)))
    return 0


def _lines(pipeline: str, fired: Sequence[str], attempts: Sequence[Attempt]) -> list[str]:
    lines = [f"{pipeline} fired it {len(fired)} times." if fired else f"{pipeline} did not fire it."]
    lines += [f"  {rewrite}" for rewrite in fired]
    if not attempts:
        return [*lines, "No node in the result is one at which it could begin."]
    lines.append("In the result it comes closest at:")
    for attempt in attempts:
        lines.append(f"  {attempt.root.label} ({attempt.root.op}), {attempt.matched} nodes into {attempt.rule}:")
        lines.append(f"    {attempt.reason or 'it would fire: the pipeline lacks its pass, or needs another round'}")
        if attempt.advice:
            lines.append(f"    {attempt.advice}")
    return lines


def _described(attempt: Attempt) -> dict[str, object]:
    return {
        "rule": attempt.rule,
        "root": attempt.root.label,
        "matched": attempt.matched,
        "node": attempt.node.label,
        "reason": attempt.reason,
        "advice": attempt.advice,
    }
