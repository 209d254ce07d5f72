"""Options that several commands share."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from planish.passes.kernels import CONTRIB
from planish.runtime.bindings import Binding
from planish.runtime.providers import PROVIDERS, Target


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def print_json(content: Mapping[str, object]) -> None:
    json.dump(content, sys.stdout, indent=2, allow_nan=False)
    print()


def add_pipeline(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pipeline",
        default="deploy",
        metavar="P",
        help="passes and pipelines, as in 'simplify,fuse{only=conv-*}' (default: deploy); see planish passes",
    )


def add_fp(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fp",
        choices=("strict", "default", "fast"),
        default="default",
        help="what may happen to float results: nothing, other rounding, or approximation (default: default)",
    )


def add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--provider",
        choices=tuple(PROVIDERS),
        default="cpu",
        help="ONNX Runtime's execution provider; it must really run the models (default: cpu)",
    )
    parser.add_argument(
        "--threads", type=count, default=0, metavar="N", help="within one operator (default: one for each core)"
    )


def add_destination(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--provider",
        choices=tuple(PROVIDERS),
        default="cpu",
        help="ONNX Runtime's execution provider that the result is for, which need not be here (default: cpu)",
    )
    parser.add_argument(
        "--allow",
        choices=(CONTRIB,),
        action="append",
        default=[],
        metavar="DOMAIN",
        help=f"operators that may be added besides standard ones: {CONTRIB}, which only ONNX Runtime has",
    )


def destination_of(arguments: argparse.Namespace) -> Target:
    return Target(provider=arguments.provider, domains=frozenset(("", *arguments.allow)))


def add_model_and_samples(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="an ONNX file, or zoo:NAME (default: what the task is for)"
    )
    add_samples(parser)


def add_samples(parser: argparse.ArgumentParser) -> None:
    samples = parser.add_mutually_exclusive_group(required=True)
    samples.add_argument("--task", metavar="TASK", help="a task's name, or a class of your own as module:Class")
    samples.add_argument("--inputs", metavar="FOLDER", help="a folder of .npz files, an array for each input")
    parser.add_argument("--limit", type=positive, metavar="N", help="so many samples, from all over the split")


def add_budget(parser: argparse.ArgumentParser, default: float) -> None:
    """What every search within a budget of accuracy takes; default: a part."""
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="the file to write; never MODEL itself")
    parser.add_argument(
        "--max-drop",
        type=part,
        default=default,
        metavar="PART",
        help="how far the task's metric, or the cosine of the outputs, may fall: "
        f"{100 * default:g}%% or {default:g} (default: {100 * default:g}%%)",
    )
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="to measure a pair of models for")


def target_of(arguments: argparse.Namespace) -> Target:
    return Target(provider=arguments.provider, threads=arguments.threads)


def add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shape",
        type=shape,
        action="append",
        default=[],
        metavar="INPUT=D,D,...",
        help="shape of an input; given again for the same input, a further one to try (default: found by trying)",
    )
    parser.add_argument(
        "--value",
        type=value,
        action="append",
        default=[],
        metavar="INPUT=NUMBER",
        help="what an input must hold, such as a sampling rate",
    )
    parser.add_argument(
        "--range",
        type=bounds,
        action="append",
        default=[],
        metavar="INPUT=LOW:HIGH",
        help="the least and the greatest value of an input, both included",
    )


def dynamic(text: str) -> tuple[str, dict[int, str]]:
    """`x=0:batch,2:width`."""
    name, dims = _split(text)
    found: dict[int, str] = {}
    for part in dims.split(","):
        axis, _, dim = part.partition(":")
        if not axis.isdigit() or not dim.isidentifier():
            raise argparse.ArgumentTypeError(f"{text!r}: {part!r} is not AXIS:NAME")
        found[int(axis)] = dim
    return name, found


def dtype(text: str) -> tuple[str, str]:
    return _split(text)


def count(text: str) -> int:
    """A number of 0 or more."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return int(text)


def positive(text: str) -> int:
    if count(text) == 0:
        raise argparse.ArgumentTypeError("0 is not a number of 1 or more")
    return int(text)


def part(text: str) -> float:
    """A part of one, or percents."""
    percent = text.endswith("%")
    try:
        found = float(text.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no part from 0 to 1, nor a percentage")
    return found


def times(text: str) -> float:
    """0.7x, or what `part` takes."""
    return part(text.removesuffix("x"))


def seconds(text: str) -> float:
    number = _number(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return number


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    """`x=1,3,48,320`; nothing behind the sign for a scalar."""
    name, dims = _split(text)
    parts = dims.split(",") if dims else []
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: the dims {dims!r} are not numbers joined by commas")
    return name, tuple(int(part) for part in parts)


def value(text: str) -> tuple[str, float]:
    name, number = _split(text)
    return name, _number(number)


def bounds(text: str) -> tuple[str, tuple[float, float]]:
    name, ends = _split(text)
    low, colon, high = ends.partition(":")
    if not colon or _number(low) > _number(high):
        raise argparse.ArgumentTypeError(f"{text!r}: {ends!r} is not LOW:HIGH with LOW no greater than HIGH")
    return name, (_number(low), _number(high))


def bindings_of(shapes: Sequence[tuple[str, tuple[int, ...]]]) -> tuple[Binding, ...]:
    """The n-th shape of every input belongs to the n-th binding; an input with fewer keeps its last."""
    by_input: dict[str, list[tuple[int, ...]]] = {}
    for name, dims in shapes:
        by_input.setdefault(name, []).append(dims)
    rows = zip_longest(*by_input.values())
    last: dict[str, tuple[int, ...]] = {}
    found: list[Binding] = []
    for row in rows:
        last |= {name: dims for name, dims in zip(by_input, row, strict=True) if dims is not None}
        found.append(Binding(dict(last)))
    return tuple(found)


def _split(text: str) -> tuple[str, str]:
    """At the last equals sign: names of inputs may hold one."""
    name, sign, rest = text.rpartition("=")
    if not sign or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not INPUT=...")
    return name, rest


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return number
