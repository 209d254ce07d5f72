"""What can go wrong in passes."""

from __future__ import annotations

from planish.ir.errors import GraphError, Place


class PassError(Exception):
    """A pass failed: names the pass, the rule where one was firing, and the node. Nothing was written."""

    def __init__(self, pass_name: str, rule: str, node: Place | None, cause: Exception) -> None:
        where = f"pass {pass_name}" + (f", rule {rule}" if rule else "") + (f", node {node.label!r}" if node else "")
        detail = cause.message if isinstance(cause, GraphError) else f"{type(cause).__name__}: {cause}"
        super().__init__(f"{where}: {detail}")
        self.pass_name = pass_name
        self.rule = rule
        self.node = node


class PipelineError(Exception):
    """A pipeline that cannot be read: an unknown pass, an option it lacks, a value of the wrong kind."""


class CalibrationError(Exception):
    """What was observed of a model cannot be read, or not be observed: the message names the file and the key."""
