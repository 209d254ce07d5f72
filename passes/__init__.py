"""Passes over graphs, and pipelines of them.

records = run(graph, "simplify,fuse")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planish.ir import Graph
from planish.passes.errors import PassError, PipelineError
from planish.passes.fuse.conv_affine import FuseConvAffine
from planish.passes.fuse.conv_bn import FuseConvBn
from planish.passes.fuse.conv_transpose_bn import FuseConvTransposeBn
from planish.passes.fuse.gemm_bn import FuseGemmBn
from planish.passes.manager import (
    DumpEach,
    Fixpoint,
    Instrument,
    Pass,
    PassManager,
    PassRecord,
    Reproducer,
    Stage,
    VerifyEach,
)
from planish.passes.pipelines import format_pipeline
from planish.passes.pipelines import parse as parse_text
from planish.passes.run import Fp, Rewrite
from planish.passes.simplify.fold_constants import FoldConstants
from planish.passes.simplify.fold_shapes import FoldShapes
from planish.passes.simplify.inline_constant_if import InlineConstantIf
from planish.passes.simplify.merge_common_subexpressions import MergeCommonSubexpressions
from planish.passes.simplify.merge_duplicate_constants import MergeDuplicateConstants
from planish.passes.simplify.remove_dead_nodes import RemoveDeadNodes
from planish.passes.simplify.remove_noops import RemoveNoops

__all__ = [
    "PASSES",
    "PIPELINES",
    "DumpEach",
    "Fixpoint",
    "Instrument",
    "Pass",
    "PassError",
    "PassManager",
    "PassRecord",
    "PipelineError",
    "Reproducer",
    "Rewrite",
    "VerifyEach",
    "format_pipeline",
    "parse",
    "run",
]

PASSES: Mapping[str, type[Pass]] = {
    "fold-constants": FoldConstants,
    "fold-shapes": FoldShapes,
    "fuse-conv-affine": FuseConvAffine,
    "fuse-conv-bn": FuseConvBn,
    "fuse-conv-transpose-bn": FuseConvTransposeBn,
    "fuse-gemm-bn": FuseGemmBn,
    "inline-constant-if": InlineConstantIf,
    "merge-common-subexpressions": MergeCommonSubexpressions,
    "merge-duplicate-constants": MergeDuplicateConstants,
    "remove-dead-nodes": RemoveDeadNodes,
    "remove-noops": RemoveNoops,
}

PIPELINES: Mapping[str, tuple[Stage, ...]] = {
    "simplify": (
        RemoveDeadNodes(),
        Fixpoint(
            (
                MergeDuplicateConstants(),
                FoldShapes(),
                FoldConstants(),
                InlineConstantIf(),
                RemoveNoops(),
                MergeCommonSubexpressions(),
            )
        ),
        RemoveDeadNodes(),
    ),
    "fuse": (
        RemoveDeadNodes(),
        Fixpoint((FuseConvBn(), FuseConvTransposeBn(), FuseGemmBn(), FuseConvAffine())),
        MergeDuplicateConstants(),
        MergeCommonSubexpressions(),
        RemoveDeadNodes(),
    ),
}


def parse(pipeline: str) -> tuple[Stage, ...]:
    """The stages that a pipeline's text means; raises PipelineError saying where it goes wrong."""
    return parse_text(pipeline, PASSES, PIPELINES)


def run(
    graph: Graph,
    pipeline: str | Sequence[Stage],
    *,
    fp: Fp = "default",
    limit: int | None = None,
    instruments: Sequence[Instrument] = (),
) -> tuple[PassRecord, ...]:
    """Run a pipeline on a graph, changing it; one record a pass.

    fp: "strict" lets only rewrites fire that keep every bit, "default" also those that reassociate float arithmetic,
    "fast" also approximate ones. limit: stop after so many rewrites, to find the one that does harm.
    Raises PipelineError for a pipeline that cannot be read, and PassError naming pass, rule and node when one fails.
    """
    stages = parse(pipeline) if isinstance(pipeline, str) else tuple(pipeline)
    return PassManager(stages, fp=fp, limit=limit, instruments=instruments).run(graph)
