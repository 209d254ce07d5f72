"""Failures that are the user's to mend: one line on standard error and exit code 2, never a traceback."""

from __future__ import annotations

import argparse
import os
import sys

from planish.ir import GraphError
from planish.passes import PassError, PipelineError
from planish.passes.errors import CalibrationError
from planish.runtime.cli import Command
from planish.runtime.errors import SessionError, TaskError

BAD_INPUT = 2


class CommandError(Exception):
    """A command cannot do what it was asked for; the message says why and what to do."""


def guarded(command: Command, arguments: argparse.Namespace) -> int:
    """Run a command; its exit code, or BAD_INPUT after saying what was wrong."""
    try:
        return command.run(arguments)
    except GraphError as error:
        where = f" (at node {error.node.label!r})" if error.node is not None else ""
        return _report(f"{error.message}{where}")
    except BrokenPipeError:  # whoever read the output has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  lives until the interpreter ends
        return 0
    except (CalibrationError, CommandError, PassError, PipelineError, SessionError, TaskError) as error:
        return _report(str(error))
    except OSError as error:
        return _report(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _report(message: str) -> int:
    print(f"planish: error: {' '.join(message.split())}", file=sys.stderr)
    return BAD_INPUT
