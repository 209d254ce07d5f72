"""planish demo"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib import import_module
from typing import Protocol, cast

from planish.runtime.agreement import CompareReport
from planish.runtime.cli.compare import DIFFERS
from planish.runtime.cli.options import add_json, print_json
from planish.runtime.progress import Progress, ProgressBar


class _Report(Protocol):
    @property
    def comparison(self) -> CompareReport: ...
    def as_dict(self) -> Mapping[str, object]: ...


class _Demo(Protocol):
    """planish.models.demo, which this package may load but not import."""

    def demo(self, *, progress: Progress) -> _Report: ...
    def demo_text(self, report: _Report) -> str: ...


def configure(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    module = cast("_Demo", import_module("planish.models.demo"))
    with ProgressBar() as progress:
        report = module.demo(progress=progress)
    if arguments.json:
        print_json(report.as_dict())
    else:
        print(module.demo_text(report))
    return 0 if report.comparison.equal else DIFFERS
