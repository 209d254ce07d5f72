"""The command `planish`: a subcommand is a module that is imported when it is asked for, so `planish --help` is quick.

Exit codes: 0 done, 1 the results differ, 2 bad input or usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module, metadata
from typing import NamedTuple, Protocol, cast

INTERRUPTED = 130


class Command(Protocol):
    """What the module of a subcommand holds."""

    def configure(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Do the work, print the result, give the exit code."""
        ...


class _Guard(Protocol):
    def guarded(self, command: Command, arguments: argparse.Namespace) -> int: ...


class _Entry(NamedTuple):
    module: str
    summary: str


COMMANDS: Mapping[str, _Entry] = {
    "optimize": _Entry("planish.runtime.cli.optimize", "run passes on a model and write the result"),
    "compare": _Entry("planish.runtime.cli.compare", "prove that two models compute the same, and time them"),
    "evaluate": _Entry("planish.runtime.cli.evaluate", "measure how well a model does on labelled samples"),
    "calibrate": _Entry("planish.runtime.cli.calibrate", "observe what a model's tensors hold on samples"),
    "quantize": _Entry("planish.runtime.cli.quantize", "make a model integer where that is faster and accurate enough"),
    "prune": _Entry("planish.runtime.cli.prune", "remove the channels that matter least, within a budget of accuracy"),
    "compress": _Entry("planish.runtime.cli.compress", "prune and quantize a model within one budget of accuracy"),
    "quantize-report": _Entry(
        "planish.runtime.cli.quantize_report", "show by tensor what a quantized model lost of the float one"
    ),
    "profile-target": _Entry(
        "planish.runtime.cli.profile_target", "measure which integer kernels are the faster ones on this machine"
    ),
    "convert-precision": _Entry(
        "planish.runtime.cli.convert_precision", "write a model in half precision, but for what that costs too much"
    ),
    "explain": _Entry("planish.runtime.cli.explain", "say why a rewrite did not fire where it came closest"),
    "inspect": _Entry("planish.runtime.cli.inspect", "show operators, parameters, multiply-accumulates and interface"),
    "lower": _Entry(
        "planish.runtime.cli.lower", "turn a framework's model into ONNX and prove that it computes the same"
    ),
    "passes": _Entry("planish.runtime.cli.passes", "list the passes, or describe one"),
    "zoo": _Entry("planish.runtime.cli.zoo", "list or fetch real pretrained models"),
    "demo": _Entry("planish.runtime.cli.demo", "optimize a real model, prove the result equal, print what changed"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="planish", description="A compiler pass framework over ONNX.")
    parser.add_argument("--version", action="version", version=f"planish {metadata.version('planish')}")
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    parsers = {name: subparsers.add_parser(name, help=entry.summary) for name, entry in COMMANDS.items()}
    chosen = next((word for word in words if not word.startswith("-")), "")
    if chosen not in COMMANDS:
        parser.parse_args(words)  # shows the help or the error, and ends
        return 2
    try:
        command = cast("Command", import_module(COMMANDS[chosen].module))
        parsers[chosen].description = f"{COMMANDS[chosen].summary.capitalize()}."
        command.configure(parsers[chosen])
        guard = cast("_Guard", import_module("planish.runtime.cli.failures"))
        return guard.guarded(command, parser.parse_args(words))
    except KeyboardInterrupt:
        print("planish: interrupted", file=sys.stderr)
        return INTERRUPTED
