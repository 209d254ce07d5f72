from collections.abc import Mapping, Sequence
from os import PathLike

from torch import Tensor
from torch.export import ExportedProgram
from torch.nn import Module

class ONNXProgram:
    def save(self, path: str | PathLike[str], *, external_data: bool | None = None) -> None: ...

def export(
    model: Module | ExportedProgram,
    args: tuple[Tensor, ...] = (),
    f: str | PathLike[str] | None = None,
    *,
    kwargs: Mapping[str, Tensor] | None = None,
    verbose: bool | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    opset_version: int | None = None,
    dynamo: bool = True,
    dynamic_shapes: Mapping[str, Mapping[int, str] | None] | None = None,
    dynamic_axes: Mapping[str, Mapping[int, str]] | None = None,
) -> ONNXProgram | None: ...
