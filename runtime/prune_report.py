"""What pruning came to, for a terminal."""

from __future__ import annotations

from planish.runtime.prune import PruneCandidate, PruneResult
from planish.runtime.pruning.candidate import GroupLoss
from planish.runtime.report import interval_text, number, size, table
from planish.runtime.statistics import Interval


def prune_dict(result: PruneResult) -> dict[str, object]:
    return {
        "source": str(result.source),
        "target": str(result.target),
        "pruned": result.pruned,
        "reason": result.reason,
        "metric": result.metric,
        "judged": result.judged,
        "max_drop": result.max_drop,
        "candidates": [_candidate_dict(candidate) for candidate in result.candidates],
    }


def _candidate_dict(candidate: PruneCandidate) -> dict[str, object]:
    return {
        "name": candidate.name,
        "ratio": candidate.ratio,
        "parameters": candidate.parameters,
        "macs": candidate.macs,
        "bytes": candidate.bytes,
        "value": candidate.value,
        "drop": candidate.drop,
        "latency": None if candidate.latency is None else candidate.latency.as_dict(),
        "groups": [_loss_dict(loss) for loss in candidate.groups],
        "layers": [layer.as_dict() for layer in candidate.layers],
    }


def _loss_dict(loss: GroupLoss) -> dict[str, object]:
    return {"name": loss.name, "heads": loss.is_heads, "units": loss.units, "gone": loss.gone}


def prune_text(result: PruneResult) -> str:
    header = ("model", "ratio", "parameters", "MACs", "size", result.metric, "drop", "fitted", "times as fast")
    lines = [table(header, [_row(candidate) for candidate in result.candidates]), ""]
    chosen = result.chosen
    lines.append(
        f"{result.target}: {chosen.name}, {size(chosen.bytes)}; {result.metric} of {result.judged} samples that no "
        f"weight was fitted to may drop by {result.max_drop:g}"
    )
    if chosen.groups:
        lines += ["", table(("group", "units", "gone", "part"), [_loss_row(loss) for loss in chosen.groups])]
    return "\n".join([*lines, *([f"not pruned: {result.reason}"] if result.reason else [])])


def _loss_row(loss: GroupLoss) -> tuple[str, ...]:
    kind = "heads" if loss.is_heads else "channels"
    return loss.name, f"{loss.units} {kind}", str(loss.gone), f"{loss.gone / loss.units:.0%}"


def _row(candidate: PruneCandidate) -> tuple[str, ...]:
    latency = candidate.latency
    fitted = sum(layer.verdict == "kept" for layer in candidate.layers)
    return (
        candidate.name,
        f"{candidate.ratio:.3f}",
        number(candidate.parameters),
        "?" if candidate.macs is None else number(candidate.macs),
        size(candidate.bytes),
        f"{candidate.value:.4f}",
        f"{candidate.drop:.4f}",
        f"{fitted} of {len(candidate.layers)}" if candidate.layers else "-",
        "-" if latency is None else interval_text(Interval(latency.ratio, latency.low, latency.high)),
    )
