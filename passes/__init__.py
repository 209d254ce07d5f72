"""Passes over graphs, and pipelines of them.

records = run(graph, "simplify,fuse")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planish.ir import Graph
from planish.passes.contrib.multi_head_attention import FuseMultiHeadAttention
from planish.passes.deploy.lower_add import LowerAdd
from planish.passes.deploy.lower_conv_transpose import LowerConvTranspose
from planish.passes.deploy.lower_upsampled_conv import LowerUpsampledConv
from planish.passes.errors import PassError, PipelineError
from planish.passes.fuse.affine_conv import FuseAffineConv
from planish.passes.fuse.attention import FuseAttention
from planish.passes.fuse.conv_affine import FuseConvAffine
from planish.passes.fuse.conv_bn import FuseConvBn
from planish.passes.fuse.conv_transpose_bn import FuseConvTransposeBn
from planish.passes.fuse.gelu import FuseGelu
from planish.passes.fuse.gemm_bn import FuseGemmBn
from planish.passes.fuse.gemm_transpose import FuseGemmTranspose
from planish.passes.fuse.group_norm import FuseGroupNorm
from planish.passes.fuse.hard_sigmoid import FuseHardSigmoid
from planish.passes.fuse.hard_swish import FuseHardSwish
from planish.passes.fuse.instance_norm import FuseInstanceNorm
from planish.passes.fuse.layer_norm import FuseLayerNorm
from planish.passes.fuse.lp_norm import FuseLpNorm
from planish.passes.fuse.matmul_add import FuseMatMulAdd
from planish.passes.fuse.matmul_scale import FuseMatMulScale
from planish.passes.fuse.mish import FuseMish
from planish.passes.fuse.pad import FusePad
from planish.passes.fuse.rms_norm import FuseRmsNorm
from planish.passes.fuse.rotary_embedding import FuseRotaryEmbedding
from planish.passes.fuse.scale_shift import FuseScaleShift
from planish.passes.fuse.scaled_sum import FuseScaledSum
from planish.passes.fuse.softmax import FuseSoftmax
from planish.passes.fuse.softplus import FuseSoftplus
from planish.passes.fuse.swish import FuseSwish
from planish.passes.kernels import Kernels
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
from planish.passes.precision.convert_precision import ConvertPrecision
from planish.passes.prune.prune_blocks import PruneBlocks
from planish.passes.prune.prune_channels import PruneChannels
from planish.passes.prune.prune_heads import PruneHeads
from planish.passes.quantize.clip_weights import ClipWeights
from planish.passes.quantize.cluster_weights import ClusterWeights
from planish.passes.quantize.equalize_channels import EqualizeChannels
from planish.passes.quantize.lower_activations import LowerActivations
from planish.passes.quantize.quantize_dynamic import QuantizeDynamic
from planish.passes.quantize.quantize_static import QuantizeStatic
from planish.passes.quantize.quantize_weights import QuantizeWeights
from planish.passes.quantize.remove_quantization import RemoveQuantization
from planish.passes.quantize.to_qoperator import ToQOperator
from planish.passes.run import Fp, Rewrite
from planish.passes.simplify.fold_constants import FoldConstants
from planish.passes.simplify.fold_fills import FoldFills
from planish.passes.simplify.fold_shapes import FoldShapes
from planish.passes.simplify.inline_constant_if import InlineConstantIf
from planish.passes.simplify.lower_einsum import LowerEinsum
from planish.passes.simplify.merge_arithmetic import MergeArithmetic
from planish.passes.simplify.merge_bounds import MergeBounds
from planish.passes.simplify.merge_casts import MergeCasts
from planish.passes.simplify.merge_common_subexpressions import MergeCommonSubexpressions
from planish.passes.simplify.merge_concats import MergeConcats
from planish.passes.simplify.merge_duplicate_constants import MergeDuplicateConstants
from planish.passes.simplify.merge_gathers import MergeGathers
from planish.passes.simplify.merge_pads import MergePads
from planish.passes.simplify.merge_reductions import MergeReductions
from planish.passes.simplify.merge_reshapes import MergeReshapes
from planish.passes.simplify.merge_slices import MergeSlices
from planish.passes.simplify.merge_transposes import MergeTransposes
from planish.passes.simplify.move_reshapes import MoveReshapes
from planish.passes.simplify.move_splits import MoveSplits
from planish.passes.simplify.move_transposes import MoveTransposes
from planish.passes.simplify.reduce_strength import ReduceStrength
from planish.passes.simplify.remove_dead_nodes import RemoveDeadNodes
from planish.passes.simplify.remove_expands import RemoveExpands
from planish.passes.simplify.remove_initial_states import RemoveInitialStates
from planish.passes.simplify.remove_noops import RemoveNoops
from planish.passes.simplify.simplify_ifs import SimplifyIfs
from planish.passes.simplify.simplify_logic import SimplifyLogic
from planish.passes.simplify.simplify_loops import SimplifyLoops
from planish.passes.simplify.simplify_sequences import SimplifySequences
from planish.passes.sparsify.factorize import Factorize
from planish.passes.sparsify.sparsify import Sparsify

__all__ = [
    "PASSES",
    "PIPELINES",
    "DumpEach",
    "Fixpoint",
    "Instrument",
    "Kernels",
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
    "equalize-channels": EqualizeChannels,
    "fold-constants": FoldConstants,
    "fold-fills": FoldFills,
    "fold-shapes": FoldShapes,
    "fuse-affine-conv": FuseAffineConv,
    "fuse-attention": FuseAttention,
    "fuse-conv-affine": FuseConvAffine,
    "fuse-conv-bn": FuseConvBn,
    "fuse-conv-transpose-bn": FuseConvTransposeBn,
    "fuse-gelu": FuseGelu,
    "fuse-gemm-bn": FuseGemmBn,
    "fuse-gemm-transpose": FuseGemmTranspose,
    "fuse-group-norm": FuseGroupNorm,
    "fuse-hard-sigmoid": FuseHardSigmoid,
    "fuse-hard-swish": FuseHardSwish,
    "fuse-instance-norm": FuseInstanceNorm,
    "fuse-layer-norm": FuseLayerNorm,
    "fuse-lp-norm": FuseLpNorm,
    "fuse-matmul-add": FuseMatMulAdd,
    "fuse-matmul-scale": FuseMatMulScale,
    "fuse-mish": FuseMish,
    "fuse-multi-head-attention": FuseMultiHeadAttention,
    "fuse-pad": FusePad,
    "fuse-rms-norm": FuseRmsNorm,
    "fuse-rotary-embedding": FuseRotaryEmbedding,
    "fuse-scale-shift": FuseScaleShift,
    "fuse-scaled-sum": FuseScaledSum,
    "fuse-softmax": FuseSoftmax,
    "fuse-softplus": FuseSoftplus,
    "fuse-swish": FuseSwish,
    "inline-constant-if": InlineConstantIf,
    "lower-activations": LowerActivations,
    "lower-add": LowerAdd,
    "lower-einsum": LowerEinsum,
    "lower-conv-transpose": LowerConvTranspose,
    "lower-upsampled-conv": LowerUpsampledConv,
    "merge-arithmetic": MergeArithmetic,
    "merge-bounds": MergeBounds,
    "merge-casts": MergeCasts,
    "merge-common-subexpressions": MergeCommonSubexpressions,
    "merge-concats": MergeConcats,
    "merge-duplicate-constants": MergeDuplicateConstants,
    "merge-gathers": MergeGathers,
    "merge-pads": MergePads,
    "merge-reductions": MergeReductions,
    "merge-reshapes": MergeReshapes,
    "merge-slices": MergeSlices,
    "merge-transposes": MergeTransposes,
    "move-reshapes": MoveReshapes,
    "move-splits": MoveSplits,
    "move-transposes": MoveTransposes,
    "quantize-dynamic": QuantizeDynamic,
    "quantize-static": QuantizeStatic,
    "quantize-weights": QuantizeWeights,
    "reduce-strength": ReduceStrength,
    "remove-dead-nodes": RemoveDeadNodes,
    "remove-expands": RemoveExpands,
    "remove-initial-states": RemoveInitialStates,
    "remove-noops": RemoveNoops,
    "simplify-ifs": SimplifyIfs,
    "simplify-logic": SimplifyLogic,
    "simplify-loops": SimplifyLoops,
    "simplify-sequences": SimplifySequences,
    "clip-weights": ClipWeights,
    "cluster-weights": ClusterWeights,
    "convert-precision": ConvertPrecision,
    "factorize": Factorize,
    "prune-blocks": PruneBlocks,
    "prune-channels": PruneChannels,
    "prune-heads": PruneHeads,
    "remove-quantization": RemoveQuantization,
    "sparsify": Sparsify,
    "to-qoperator": ToQOperator,
}

_SIMPLIFY = (
    FoldShapes(),
    FoldConstants(),
    FoldFills(),
    MergeDuplicateConstants(),  # of those that nothing folds away
    InlineConstantIf(),
    SimplifyIfs(),
    SimplifyLoops(),
    SimplifySequences(),
    SimplifyLogic(),
    RemoveNoops(),
    MergeCasts(),
    MergeTransposes(),
    MergeReshapes(),
    MergeSlices(),
    MergeGathers(),
    MergeConcats(),
    MergeReductions(),
    MergePads(),
    RemoveExpands(),
    RemoveInitialStates(),
    MoveReshapes(),
    MoveSplits(),
    MoveTransposes(),
    MergeBounds(),
    MergeArithmetic(),
    ReduceStrength(),
    LowerEinsum(),
    MergeCommonSubexpressions(),
)
_FUSE = (
    FuseAttention(),
    FuseRotaryEmbedding(),
    FuseConvBn(),
    FuseConvTransposeBn(),
    FuseGemmBn(),
    FusePad(),
    FuseHardSigmoid(),
    FuseHardSwish(),
    FuseSwish(spell="Sigmoid"),
    FuseSoftplus(only_limits=True),
    FuseGelu(),
    FuseSoftmax(),
    FuseInstanceNorm(),
    FuseLayerNorm(),
    FuseRmsNorm(),
    FuseConvAffine(),
    FuseAffineConv(),
    FuseMatMulScale(),
    FuseMatMulAdd(),
    FuseGemmTranspose(),
    FuseScaledSum(),
    FoldConstants(),
    MergeArithmetic(),
    ReduceStrength(),
)
_REMOVE_DEAD = Fixpoint((RemoveDeadNodes(), SimplifyIfs(), SimplifyLoops()))  # what is unread, Ifs and loops drop
_SIMPLER: tuple[Stage, ...] = (RemoveDeadNodes(), Fixpoint(_SIMPLIFY), _REMOVE_DEAD)
_FUSED: tuple[Stage, ...] = (
    RemoveDeadNodes(),
    Fixpoint(_FUSE),
    FuseScaleShift(),
    Fixpoint((*_SIMPLIFY, *_FUSE)),  # what is fused gives both a new chance
    _REMOVE_DEAD,
)
_LOWERED = (
    FuseMultiHeadAttention(),
    LowerConvTranspose(),
    LowerUpsampledConv(),
    Fixpoint((FuseConvAffine(), FuseAffineConv())),  # a Conv takes what a ConvTranspose could not
    LowerAdd(),
    MergeDuplicateConstants(),
    RemoveDeadNodes(),
)

PIPELINES: Mapping[str, tuple[Stage, ...]] = {
    "simplify": _SIMPLER,
    "fuse": _FUSED,
    "deploy": (*_SIMPLER, *_FUSED, *_LOWERED),
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
    kernels: Kernels | None = None,
    newest_opset: int | None = None,
    instruments: Sequence[Instrument] = (),
) -> tuple[PassRecord, ...]:
    """Run a pipeline on a graph, changing it; one record a pass.

    fp: "strict" lets only rewrites fire that keep every bit, "default" also those that reassociate float arithmetic,
    "fast" also approximate ones. limit: stop after so many rewrites, to find the one that does harm. kernels: what the
    target can run, by default ONNX Runtime's CPU provider; no rewrite adds a node that it cannot.
    newest_opset: no rewrite raises the model's opset beyond it.
    Raises PipelineError for a pipeline that cannot be read, and PassError naming pass, rule and node when one fails.
    """
    stages = parse(pipeline) if isinstance(pipeline, str) else tuple(pipeline)
    manager = PassManager(
        stages, fp=fp, limit=limit, kernels=kernels, newest_opset=newest_opset, instruments=instruments
    )
    return manager.run(graph)
