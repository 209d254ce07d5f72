"""The one error of the IR: says what is wrong, at which node, and shows the nodes around it."""

from __future__ import annotations

from typing import Protocol


class Place(Protocol):
    """A node, as an error shows it."""

    @property
    def label(self) -> str: ...

    def describe(self) -> str:
        """The node with its neighbours."""
        ...


class GraphError(Exception):
    """A model or graph that is not valid.

    `message` is one sentence fit for a user; `str()` adds the node and, where it stands in a graph, its neighbours.
    """

    def __init__(self, message: str, node: Place | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.node = node

    def __str__(self) -> str:
        if self.node is None:
            return self.message
        return f"{self.message}\n{self.node.describe()}"
