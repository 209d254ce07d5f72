"""What the fuzzer is worth: each pass, broken in small ways, is found to be wrong, whatever noise allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from planish import passes
from tests.fuzz.campaign import CHUNK, Campaign
from tests.fuzz.mutation import GUARDS
from tests.fuzz.worker import Order

MOST_ORDERS = 6
IN_BUILDS: Mapping[str, Sequence[str]] = {
    "fold-constants": ("off-constants",),
    "fuse-affine-conv": ("off-constants",),
    "fuse-attention": ("off-attributes", "swapped-operands"),
    "fuse-conv-affine": ("off-constants",),
    "fuse-conv-bn": ("off-constants",),
    "fuse-conv-transpose-bn": ("off-constants",),
    "fuse-gemm-bn": ("off-constants", "off-attributes"),
    "fuse-gemm-transpose": ("swapped-operands",),
    "fuse-group-norm": ("off-constants",),
    "fuse-hard-sigmoid": ("off-attributes",),
    "fuse-instance-norm": ("off-constants",),
    "fuse-layer-norm": ("off-constants",),
    "fuse-lp-norm": ("other-axis",),
    "fuse-matmul-add": ("off-constants",),
    "fuse-matmul-scale": ("off-constants",),
    "fuse-rms-norm": ("off-constants",),
    "fuse-rotary-embedding": ("off-constants",),
    "fuse-scale-shift": ("off-constants",),
    "fuse-scaled-sum": ("off-constants",),
    "fuse-softmax": ("other-axis",),
    "fuse-swish": ("off-attributes",),
    "lower-conv-transpose": ("off-constants",),
    "lower-einsum": ("swapped-operands", "other-axis"),
    "lower-upsampled-conv": ("off-constants",),
    "merge-arithmetic": ("off-constants", "swapped-operands"),
    "merge-bounds": ("off-constants",),
    "merge-concats": ("swapped-operands", "other-axis"),
    "merge-gathers": ("other-axis",),
    "merge-transposes": ("other-axis",),
    "move-reshapes": ("swapped-operands",),
    "move-transposes": ("other-axis",),
    "reduce-strength": ("off-constants", "swapped-operands"),
}


def pass_of(guard: str) -> str:
    """The pass that a guard is of, by its file."""
    folder, file, _ = guard.split(".")
    name = file.replace("_", "-")
    return name if folder == "simplify" else f"{folder}-{name}"


CASES = [*((name, fault) for name, faults in IN_BUILDS.items() for fault in faults), *((pass_of(g), g) for g in GUARDS)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fault"), CASES, ids=[f"{name}-{fault}" for name, fault in CASES])
def test_a_fault_is_found(name: str, fault: str, tmp_path: Path) -> None:
    assert name in passes.PASSES
    campaign = Campaign(CHUNK * MOST_ORDERS, 0, (name,), tmp_path / "kept", aims=(name,))
    for turn in range(MOST_ORDERS):
        folder = tmp_path / str(turn)
        folder.mkdir()
        campaign.take(Order(turn, CHUNK, (name,), aims=(name,), fault=fault), folder)
        if campaign.failures:
            return
    pytest.fail(f"{name} was broken, and {campaign.total.tried} models did not show it")
