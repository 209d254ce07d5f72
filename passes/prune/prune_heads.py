"""Attention heads that matter least vanish, with all that makes and reads them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from planish.ir import Graph
from planish.passes.prune.dependency import Dependencies, dependencies
from planish.passes.prune.prune_channels import PruneChannels


@dataclass(frozen=True)
class PruneHeads(PruneChannels):
    """Remove the attention heads that matter least (Michel et al. 2019, arXiv 1905.10650).

    A head is its columns of the projections of query, key and value, and its rows of the projection behind; heads that
    share a key and a value go together. Each layer loses as many as it is told, and keeps one at least. The softmax of
    a head is its own: what is left computes what the model does with the results of these heads at 0, within rounding.
    Its accuracy is another matter: evaluate it.
    Contract: APPROXIMATE, without a bound.

    ratio: the part of the heads that goes, of each layer (scope=local) or of all heads (scope=global); a quarter where
    nothing else is said. The other options are those of prune-channels.
    """

    name: ClassVar[str] = "prune-heads"

    usual: ClassVar[float] = 0.25

    def find(self, graph: Graph) -> Dependencies:
        """Heads alone; what else could shrink stays."""
        found = dependencies(graph, inexact=self.inexact, whole_heads=True)
        return replace(found, groups=tuple([group for group in found.groups if group.is_heads]))
