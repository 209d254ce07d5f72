"""planish zoo list|fetch NAME"""

from __future__ import annotations

import argparse

from planish.runtime.cli.options import add_json, print_json
from planish.runtime.cli.sources import ZooModel, fetch, zoo_models
from planish.runtime.progress import ProgressBar
from planish.runtime.report import size, table


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    add_json(actions.add_parser("list", help="what there is, with sizes and licences"))
    fetching = actions.add_parser("fetch", help="download a model into the cache, check it, print its path")
    fetching.add_argument("name", metavar="NAME", help="as planish zoo list has it")
    add_json(fetching)


def run(arguments: argparse.Namespace) -> int:
    if arguments.action == "list":
        _list(as_json=arguments.json)
        return 0
    with ProgressBar() as progress:
        path = fetch(arguments.name, progress)
    model = zoo_models()[arguments.name]
    if arguments.json:
        print_json({**_describe(model), "path": str(path)})
    else:
        print(path)
    return 0


def _list(*, as_json: bool) -> None:
    models = zoo_models().values()
    if as_json:
        print_json({"models": [_describe(model) for model in models]})
        return
    rows = [
        (model.name, size(model.size), model.wheel.licence, model.wheel.requirement, model.inputs, model.task)
        for model in models
    ]
    print(table(("model", "size", "licence", "package", "inputs, for one", "task"), rows, left=True))


def _describe(model: ZooModel) -> dict[str, object]:
    return {
        "name": model.name,
        "task": model.task,
        "bytes": model.size,
        "sha256": model.sha256,
        "inputs": model.inputs,
        "lowered": model.is_lowered,
        "source": model.wheel.requirement,
        "homepage": model.wheel.homepage,
        "licence": model.wheel.licence,
        "licence_source": model.wheel.licence_source,
    }
