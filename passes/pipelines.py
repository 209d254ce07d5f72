"""Pipelines as text, and back:

    simplify,fuse{only=conv-*},fixpoint<8>(fold-constants{limit=1024},remove-dead-nodes)

A pass takes its options in braces; what was measured, such as a calibration, by its file. A named pipeline takes `only`
and `skip`: patterns of the names of its passes, several joined by `|`. `fixpoint<N>(...)` repeats what it holds until
nothing changes, at most N times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import cast, get_args, get_origin, get_type_hints

from planish.passes.errors import CalibrationError, PipelineError
from planish.passes.manager import Fixpoint, Pass, Stage
from planish.passes.prune.block_scores import BlockScores, load_block_scores
from planish.passes.prune.importance.unit_scores import UnitScores, load_unit_scores
from planish.passes.prune.operator_table import OperatorTable, load_operator_table
from planish.passes.prune.ratios import Ratios, load_ratios
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.calibration_file import load_calibration

_FILES: Mapping[type, Callable[[str], object]] = {
    BlockScores: load_block_scores,
    Calibration: load_calibration,
    OperatorTable: load_operator_table,
    Ratios: load_ratios,
    UnitScores: load_unit_scores,
}
"""Options that are given as a file, and what reads it."""
_TOKEN = re.compile(r"\s*(?:([A-Za-z_][\w.-]*)|([,(){}=<>])|\"((?:[^\"\\]|\\.)*)\"|([^\s,(){}=<>\"]+))")


def parse(text: str, passes: Mapping[str, type[Pass]], named: Mapping[str, Sequence[Stage]]) -> tuple[Stage, ...]:
    """The stages that a pipeline's text means; raises PipelineError saying where it goes wrong."""
    parser = _Parser(text, passes, named)
    stages = parser.stages()
    if parser.peek():
        raise parser.error(f"{parser.peek()!r} is not expected there")
    return stages


def format_pipeline(stages: Sequence[Stage]) -> str:
    """The text of a pipeline; `parse` reads it back as equal stages."""
    return ",".join(_format(stage) for stage in stages)


def _format(stage: Stage) -> str:
    if isinstance(stage, Fixpoint):
        return f"fixpoint<{stage.rounds}>({format_pipeline(stage.stages)})"
    options = ",".join(f"{name.replace('_', '-')}={_format_value(value)}" for name, value in stage.options.items())
    return f"{stage.name}{{{options}}}" if options else stage.name


def _format_value(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if re.fullmatch(r"[\w.*|/+-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Parser:
    def __init__(self, text: str, passes: Mapping[str, type[Pass]], named: Mapping[str, Sequence[Stage]]) -> None:
        self.text = text
        self.passes = passes
        self.named = named
        self.tokens = list(self.tokenize())
        self.index = 0

    def tokenize(self) -> Sequence[str]:
        """A quoted token keeps its first quote, so that none is taken for a sign or for the end."""
        found: list[str] = []
        position = 0
        end = len(self.text.rstrip())
        while position < end:
            match = _TOKEN.match(self.text, position)
            if match is None:
                raise PipelineError(
                    f"pipeline {self.text!r}: cannot be read from {self.text[position : position + 12]!r} on"
                )
            quoted = match.group(3)
            found.append(match.group(0).strip() if quoted is None else '"' + re.sub(r"\\(.)", r"\1", quoted))
            position = match.end()
        return found

    def peek(self) -> str:
        return self.tokens[self.index] if self.index < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.index += 1
        return token

    def expect(self, token: str) -> None:
        found = self.take()
        if found != token:
            raise self.error(f"expected {token!r}" + (f" before {found!r}" if found else " at the end"))

    def error(self, what: str) -> PipelineError:
        return PipelineError(f"pipeline {self.text!r}: {what}")

    def stages(self) -> tuple[Stage, ...]:
        found = list(self.stage())
        while self.peek() == ",":
            self.take()
            found += self.stage()
        return tuple(found)

    def stage(self) -> Sequence[Stage]:
        name = self.take()
        if name == "fixpoint":
            return (self.fixpoint(),)
        options = self.options()
        if name in self.named:
            return self.select(name, options)
        if name in self.passes:
            return (self.make(self.passes[name], options),)
        known = [*self.passes, *self.named, "fixpoint"]
        near = get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
        missing = name in ("", ",", ")", "}")
        raise self.error("a pass is missing" if missing else f"there is no pass {name!r}{hint}")

    def fixpoint(self) -> Fixpoint:
        rounds = 8
        if self.peek() == "<":
            self.take()
            count = self.take()
            if not count.isdigit() or int(count) < 1:
                raise self.error(f"fixpoint<{count}> needs a number of rounds of at least 1")
            rounds = int(count)
            self.expect(">")
        self.expect("(")
        stages = self.stages()
        self.expect(")")
        return Fixpoint(stages, rounds)

    def options(self) -> dict[str, str]:
        found: dict[str, str] = {}
        if self.peek() != "{":
            return found
        self.take()
        while self.peek() != "}":
            name = self.take()
            self.expect("=")
            if name in found:
                raise self.error(f"option {name!r} is given twice")
            found[name] = self.value()
            if self.peek() != "}":
                self.expect(",")
        self.take()
        return found

    def value(self) -> str:
        """Everything up to the next comma or brace: a glob like conv-* is several tokens."""
        parts: list[str] = []
        while self.peek() and self.peek() not in (",", "}"):
            parts.append(self.take().removeprefix('"'))
        return "".join(parts)

    def select(self, name: str, options: Mapping[str, str]) -> tuple[Stage, ...]:
        for option in options:
            if option not in ("only", "skip"):
                raise self.error(f"{name} has no option {option!r}; it takes only and skip")
        if not options:
            return tuple(self.named[name])
        only, skip = options.get("only", "*").split("|"), options.get("skip", "").split("|")
        kept = _filter(self.named[name], name, only, skip)
        if not kept:
            raise self.error(f"{name} has no pass left with {dict(options)}")
        return kept

    def make(self, kind: type[Pass], options: Mapping[str, str]) -> Pass:
        known: dict[str, Field[object]] = {f.name.replace("_", "-"): f for f in fields(kind)}
        hints = get_type_hints(kind) if options else {}
        values: dict[str, object] = {}
        for name, text in options.items():
            if name not in known:
                takes = f"it takes {', '.join(known)}" if known else "it takes none"
                raise self.error(f"{kind.name} has no option {name!r}; {takes}")
            values[known[name].name] = self.convert(kind, name, text, hints[known[name].name])
        missing = [n for n, f in known.items() if f.default is MISSING and f.name not in values]
        if missing:
            raise self.error(f"{kind.name} needs the option {missing[0]!r}")
        return kind(**values)

    def convert(self, kind: type[Pass], name: str, text: str, hint: object) -> object:
        choices = cast("tuple[object, ...]", get_args(hint))
        try:
            if hint is bool:
                return {"true": True, "false": False}[text]
            if hint is int:
                return int(text)
            if float in (hint, *choices):
                return float(text)
            load = next((load for kind, load in _FILES.items() if kind in (hint, *choices)), None)
            if load is not None:
                return load(text)
        except CalibrationError as error:
            raise self.error(f"{kind.name} takes {name} as a file: {error}") from error
        except (ValueError, KeyError):
            expected = "true or false" if hint is bool else getattr(hint, "__name__", str(hint))
            raise self.error(f"{kind.name} takes {name} as {expected}, not {text!r}") from None
        if get_origin(hint) is not None and choices and text not in choices:
            raise self.error(f"{kind.name} takes {name} as one of {', '.join(map(str, choices))}, not {text!r}")
        return text


def _filter(stages: Sequence[Stage], name: str, only: Sequence[str], skip: Sequence[str]) -> tuple[Stage, ...]:
    kept: list[Stage] = []
    for stage in stages:
        if isinstance(stage, Fixpoint):
            inner = _filter(stage.stages, name, only, skip)
            if inner:
                kept.append(Fixpoint(inner, stage.rounds))
        elif _is_named(stage, name, only) and not _is_named(stage, name, skip):
            kept.append(stage)
    return tuple(kept)


def _is_named(stage: Pass, family: str, patterns: Sequence[str]) -> bool:
    short = stage.name.removeprefix(f"{family}-")
    return any(fnmatchcase(stage.name, pattern) or fnmatchcase(short, pattern) for pattern in patterns)
