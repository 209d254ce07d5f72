"""What a model gives in its framework: tensors in nested lists, tuples and mappings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar, cast

from planish.models.lower.errors import ExportError, LowerError

Tensor = TypeVar("Tensor")


def leaves(value: object, kind: type[Tensor], path: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in the model's own order, each with the keys and places that lead to it, joined by dots.

    Raises TypeError for what is neither a tensor nor None.
    """
    if isinstance(value, kind):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in cast("Mapping[object, object]", value).items():
            yield from leaves(item, kind, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(cast("Sequence[object]", value)):
            yield from leaves(item, kind, f"{path}.{index}" if path else str(index))
    elif value is not None:
        raise TypeError(f"the model gives a {type(value).__name__}, where outputs must be tensors")


def names(paths: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """The wanted names, or those that the model has; `output` and `output_1` for what has only a place.

    Raises LowerError where the wanted ones are not as many.
    """
    if wanted and len(wanted) != len(paths):
        raise LowerError(f"{len(wanted)} output names were given, and the model has {len(paths)} outputs")
    return tuple(wanted) or tuple(
        "output" if not path else f"output_{path}" if path[0].isdigit() else path for path in paths
    )


def check_count(found: int, wanted: int) -> None:
    """Raises ExportError where an exporter left outputs out, or made some up."""
    if found != wanted:
        raise ExportError(f"it gave {found} outputs where the model has {wanted}")
