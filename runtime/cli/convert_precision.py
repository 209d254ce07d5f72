"""planish convert-precision MODEL -o OUT [--task TASK | --inputs FOLDER] [--snr 50]"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path

from planish.runtime.cli.failures import CommandError
from planish.runtime.cli.options import add_inputs, add_json, bindings_of, positive, print_json
from planish.runtime.cli.sources import load_task, locate
from planish.runtime.made_up import Inputs
from planish.runtime.precision import PrecisionResult, convert_precision
from planish.runtime.progress import ProgressBar
from planish.runtime.report import size


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="an ONNX file, or zoo:NAME (default: what the task is for)"
    )
    samples = parser.add_mutually_exclusive_group()
    samples.add_argument("--task", metavar="TASK", help="a task's name, or a class of your own as module:Class")
    samples.add_argument("--inputs", metavar="FOLDER", help="a folder of .npz files (default: random numbers)")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="the file to write; never MODEL itself")
    parser.add_argument("--to", choices=("float16", "bfloat16"), default="float16", help="(default: float16)")
    parser.add_argument(
        "--snr", type=decibels, default=50.0, metavar="DB", help="signal to noise of the worst run (default: 50)"
    )
    parser.add_argument("--keep", default="", metavar="PATTERNS", help="of nodes that stay as they are, joined by |")
    parser.add_argument(
        "--pipeline", default="simplify,fuse", metavar="P", help="passes to run before (default: simplify,fuse)"
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="so many samples, from all over the split")
    add_inputs(parser)
    add_json(parser)


def decibels(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number of decibels")
    return found


def run(arguments: argparse.Namespace) -> int:
    with ProgressBar() as progress:
        task = None if arguments.task is None else load_task(arguments.task)
        model = arguments.model or (task.model if task is not None else "")
        if not model:
            raise CommandError("say which model to convert: samples of your own are for no model in particular")
        source = locate(model, progress)
        samples = task if arguments.inputs is None else Path(arguments.inputs)
        inputs = Inputs(
            bindings_of(arguments.shape) or source.bindings,
            dict(arguments.value),
            {**source.ranges, **dict(arguments.range)},
        )
        result = convert_precision(
            source.path,
            Path(arguments.output),
            samples,
            to=arguments.to,
            snr=arguments.snr,
            keep=arguments.keep,
            pipeline=arguments.pipeline,
            inputs=inputs,
            limit=arguments.limit,
            progress=progress,
        )
    if arguments.json:
        print_json(_dict(result))
    else:
        print(_text(result))
    return 0


def _dict(result: PrecisionResult) -> Mapping[str, object]:
    return {
        "source": str(result.source),
        "target": str(result.target),
        "to": result.stage.to,
        "wanted_db": result.wanted,
        "found_db": _finite(result.found),
        "everywhere_db": _finite(result.everywhere),
        "on_provider_db": _finite(result.on_provider),
        "runs": result.runs,
        "left_out": result.left_out,
        "nodes": result.nodes,
        "half_nodes": result.half_nodes,
        "weight_bytes": result.weight_bytes,
        "half_weight_bytes": result.half_weight_bytes,
        "bytes_before": result.bytes_before,
        "bytes_after": result.bytes_after,
        "slower": result.slower,
        "keep": result.stage.keep,
        "store": result.stage.store,
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _text(result: PrecisionResult) -> str:
    stage = result.stage
    kept, stored = (len(names.split("|")) if names else 0 for names in (stage.keep, stage.store))
    runs = f"the worst of {result.runs - result.left_out} runs, as hardware of {stage.to} rounds"
    share = f"{100 * result.share:.1f} % of the weights' bytes are stored in it"
    lines = [
        f"{result.found:.1f} dB (asked for {result.wanted:g}) in {runs}; all of it has {result.everywhere:.1f} dB",
        f"on ONNX Runtime's CPU provider, which rounds constants and little else: {result.on_provider:.1f} dB",
        f"{result.half_nodes} of {result.nodes} nodes work on {stage.to}, and {share}",
        f"for the sake of accuracy {kept} nodes stay float32, {stored} more read stored weights and compute in float32",
        f"{result.target}: {size(result.bytes_before)} -> {size(result.bytes_after)}",
    ]
    if result.slower:
        lines.append(result.slower)
    if result.left_out:
        lines.append(
            f"{result.left_out} runs were left out: there float32 itself, worked out in another order, differs as much"
        )
    return "\n".join(lines)
