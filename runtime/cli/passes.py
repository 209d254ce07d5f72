"""planish passes [NAME]"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from difflib import get_close_matches
from typing import get_args, get_type_hints

from planish.passes import PASSES, PIPELINES, Pass, format_pipeline
from planish.passes.manager import RulePass
from planish.passes.rewrite import Contract, Rule
from planish.runtime.cli.failures import CommandError
from planish.runtime.cli.options import add_json, print_json
from planish.runtime.report import table

_LOSSY = "no bound: measure the accuracy"
_PLAIN = (bool, int, float, str)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="a pass or a pipeline to explain")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.name is None:
        _list(as_json=arguments.json)
    elif arguments.name in PASSES:
        described = _describe(PASSES[arguments.name])
        if arguments.json:
            print_json(described)
        else:
            print(_text(PASSES[arguments.name]))
    elif arguments.name in PIPELINES:
        stages = format_pipeline(PIPELINES[arguments.name])
        if arguments.json:
            print_json({"name": arguments.name, "stages": stages})
        else:
            print(f"{arguments.name} is the pipeline\n\n    {stages}\n\nIt takes only= and skip=, patterns of passes.")
    else:
        near = get_close_matches(arguments.name, [*PASSES, *PIPELINES], 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join([*PASSES, *PIPELINES])}"
        raise CommandError(f"there is no pass {arguments.name!r}; {hint}")
    return 0


def _list(*, as_json: bool) -> None:
    if as_json:
        print_json({
            "passes": [_describe(kind) for kind in PASSES.values()],
            "pipelines": {name: format_pipeline(stages) for name, stages in PIPELINES.items()},
        })  # fmt: skip
        return
    print(
        table(
            ("pass", "contract", "what it does"),
            [(n, _contract(kind), _summary(kind)) for n, kind in PASSES.items()],
            left=True,
        )
    )
    print()
    for name, stages in PIPELINES.items():
        print(f"{name} = {format_pipeline(stages)}")


def _text(kind: type[Pass]) -> str:
    lines = [kind.name, "", inspect.getdoc(kind) or "", "", f"Contract: {_contract(kind)}."]
    options = [(option["name"], option["type"], option["default"]) for option in _options(kind)]
    lines += ["", table(("option", "type", "default"), options, left=True) if options else "It has no options."]
    rules = _rules(kind)
    if rules:
        lines += ["", "Rules:"]
    for rule in rules:
        needs = f", needs {rule.needs}" if rule.needs else ""
        lines += [
            f"  {rule.name} ({rule.contract.value}{needs})",
            *(f"    {line}" for line in rule.summary.splitlines()),
        ]
    return "\n".join(lines)


def _describe(kind: type[Pass]) -> Mapping[str, object]:
    return {
        "name": kind.name,
        "summary": _summary(kind),
        "description": inspect.getdoc(kind) or "",
        "contract": _contract(kind),
        "options": list(_options(kind)),
        "rules": [
            {"name": rule.name, "summary": rule.summary, "contract": rule.contract.value, "needs": rule.needs}
            for rule in _rules(kind)
        ],
    }


def _summary(kind: type[Pass]) -> str:
    """The first sentence of the docstring."""
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split()).partition(". ")[0].rstrip(".")


def _contract(kind: type[Pass]) -> str:
    """The loosest among the rules. A lossy pass states no bound.

    What another does without a rule runs in every mode, so it keeps every bit.
    """
    if kind.lossy:
        return _LOSSY
    order = list(Contract)
    loosest = max((order.index(rule.contract) for rule in _rules(kind)), default=0)
    return order[loosest].value


def _rules(kind: type[Pass]) -> Sequence[Rule]:
    """The rules of a pass as it is without options; none where an option has no default."""
    if not issubclass(kind, RulePass) or any(f.default is MISSING for f in fields(kind)):
        return ()
    return kind().rules()


def _options(kind: type[Pass]) -> Sequence[Mapping[str, str]]:
    hints = get_type_hints(kind)
    return [
        {
            "name": field.name.replace("_", "-"),
            "type": _type(hints[field.name]),
            "default": "required" if field.default is MISSING else str(field.default),
        }
        for field in fields(kind)
    ]


def _type(hint: object) -> str:
    """Choices as they are written, and what is no text or number by itself: a file."""
    parts = [part for part in get_args(hint) or (hint,) if part is not type(None)]
    return "|".join(_word(part) for part in parts)


def _word(part: object) -> str:
    if not isinstance(part, type):
        return str(part)
    return part.__name__ if part in _PLAIN else "file"
