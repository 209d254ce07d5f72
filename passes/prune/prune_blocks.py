"""Residual blocks that matter least are left out: what they were added to goes on alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

from planish.ir import Graph, Node
from planish.passes.errors import PipelineError
from planish.passes.manager import Pass
from planish.passes.prune.block_importance import BlockImportance, block_score
from planish.passes.prune.block_scores import BlockScores
from planish.passes.prune.budget import EXTENT, Budget, StepCosts, budget_of, check_amounts
from planish.passes.prune.operator_table import OperatorTable
from planish.passes.prune.repeated import repeated_layers
from planish.passes.prune.residual import Block, residual_blocks
from planish.passes.prune.walk import readers
from planish.passes.replacing import erase_dead, erase_unread, merge_origins, needs_copy
from planish.passes.run import Run

_USUAL = 0.25
"""The ratio where nothing else says how much goes."""


@dataclass(frozen=True)
class PruneBlocks(Pass):
    """Leave out the residual blocks that matter least: x + f(x) becomes x, and a normalization behind it stays.

    The attention and the inner layers of a transformer are a block each. f(x) has the type of x, is read nowhere else,
    and nothing in it is random or has effects. Blocks are named by the sums that they end in, which
    `planish inspect --groups` lists. Accuracy falls: evaluate it.
    Contract: APPROXIMATE, without a bound.

    ratio: the part of the blocks that goes, a quarter where nothing else says how much. count: how many go, instead,
    where it is not 0. macs, params, latency, times, extent: the part of the multiply-accumulates, of the parameters or
    of the time that may stay, instead, as in prune-channels. One stays at least. importance: what a block matters by:
    l1 and l2, norms of the weights that its branch ends in, or random. scores: what it matters by instead, from
    samples: numbers by the names of blocks, a file; a block without one stays. layers: also layers without a skip that
    give the type that they take, where one like it stands before or behind; their weights do not say what they matter
    by. keep: blocks with a node or value whose name fits one of these globs, separated by |, stay. seed: of random.
    """

    name: ClassVar[str] = "prune-blocks"
    lossy: ClassVar[bool] = True

    ratio: float | None = None
    count: int = 0
    importance: BlockImportance = "l2"
    scores: BlockScores | None = None
    layers: bool = False
    keep: str = ""
    seed: int = 0
    macs: float | None = None
    params: float | None = None
    latency: float | None = None
    times: OperatorTable | None = None
    extent: int = EXTENT

    def __post_init__(self) -> None:
        if self.ratio is not None and not 0 <= self.ratio <= 1:
            raise PipelineError(f"prune-blocks takes ratio from 0 to 1, not {self.ratio}")
        if self.count < 0:
            raise PipelineError(f"prune-blocks takes count of at least 0, not {self.count}")
        amounts = {"ratio": self.ratio, "count": self.count or None, **self.parts}
        check_amounts(self.name, amounts, self.extent, self.times)

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        """Once for all: a second turn in one run would take the same part of what is left."""
        if start is not None or not run.allows("APPROXIMATE"):
            return
        blocks = residual_blocks(graph)
        blocks = (*blocks, *repeated_layers(graph, blocks)) if self.layers else blocks
        known = {block.name for block in blocks}
        for name, _ in () if self.scores is None else self.scores.numbers:
            if name not in known:
                run.note(f"the scores name {name!r}, which is no residual block here")
        if self.budget is None:
            wanted = self.count or int((_USUAL if self.ratio is None else self.ratio) * len(blocks) + 0.5)
            gone = set(self.ranked(blocks, run)[:wanted])
            self.remove([block for block in blocks if block in gone], run)
        else:
            self.keep_to(self.budget, graph, self.ranked(blocks, run), run)

    @property
    def budget(self) -> Budget | None:
        return budget_of(self.parts, self.extent, self.times)

    @property
    def parts(self) -> dict[str, float | None]:
        """That may stay, by what they are of."""
        return {"macs": self.macs, "params": self.params, "latency": self.latency}

    def remove(self, blocks: Sequence[Block], run: Run) -> None:
        for block in blocks:
            if run.exhausted:
                return
            remove_block(block, run)

    def keep_to(self, budget: Budget, graph: Graph, ranked: Sequence[Block], run: Run) -> None:
        """Let blocks go until the graph costs no more than it may; raises PipelineError where all are not enough."""
        cost = budget.cost(graph, {})
        StepCosts(cost, {}, ()).require(self.times)
        whole = left = budget.whole(cost, run)
        for block in ranked:
            if budget.allows(left, whole) or run.exhausted:
                return
            remove_block(block, run)
            left = budget.cost(graph, {})({})
        if not run.exhausted and not budget.allows(left, whole):
            held = [f"keep={self.keep}"] if self.keep else []
            raise budget.missed(left, whole, [*held, "one block stays, and what is in none"])

    def ranked(self, blocks: Sequence[Block], run: Run) -> list[Block]:
        """The blocks that may go, the first to go in front."""
        scores = {block: self.score(block) for block in blocks if not self.keeps(block)}
        judged = sorted([block for block in scores if math.isfinite(scores[block])], key=scores.__getitem__)
        for block in scores if self.scores is None else ():
            if block not in judged:
                run.note(
                    f"{block.name} stays: its branch does not end in constant, finite weights that could be judged"
                )
        return judged[: max(len(blocks) - 1, 0)]

    def score(self, block: Block) -> float:
        if self.scores is not None:
            return self.scores.of(block.name)
        return block_score(block, self.importance, self.seed)

    def keeps(self, block: Block) -> bool:
        """Whether a name of the block is one of those that stay."""
        names = [block.name, block.end.label]
        names += [name for node in block.nodes for name in (node.label, *[result.name for result in node.results])]
        return any(fnmatchcase(name, pattern) for pattern in filter(None, self.keep.split("|")) for name in names)


def remove_block(block: Block, run: Run) -> None:
    """Let the skip stand for what the block makes of it."""
    end, graph, skip = block.end, block.end.graph, block.skip
    if graph is None:
        return
    origin, name = merge_origins((*block.nodes, end)), block.name
    constants = [
        value for node in (*block.nodes, end) for value in node.operands if value is not None and value.constant
    ]
    if end.result in graph.outputs and needs_copy(skip, graph):
        copy = Node("Identity", (skip,), {}, [end.result.name])
        copy.origin = merge_origins((end,))
        graph.insert(copy, before=end)
        copy.result.type = end.result.type
        skip = copy.result
        run.log.append(copy)
    changed = readers(end.result)
    graph.replace_all_uses_with(end.result, skip)
    erase_dead(end)
    erase_unread(constants)
    run.log.extend(reader for reader in changed if reader.graph is not None)
    run.record("remove-block", origin, name)
