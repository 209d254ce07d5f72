"""Models that are made of weights: lowered on this machine, and recorded by what they were made of."""

import hashlib
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from planish.models.zoo.model import Recipe, ZooError, ZooModel

_FRAMEWORK = "pytorch"


class _Result(Protocol):
    @property
    def framework(self) -> str: ...
    @property
    def exporter(self) -> str: ...


class _Lower(Protocol):
    """planish.models.lower, which costs imports that listing the zoo does without."""

    LowerError: type[Exception]
    lower: Callable[..., _Result]


class _Framework(Protocol):
    def frontend(self, name: str) -> object: ...


class _Network(Protocol):
    def network(self, weights: Path) -> object: ...


def check_framework(model: ZooModel) -> None:
    """Raises ZooError where what lowers the model is not installed, which is better known before its weights are
    downloaded."""
    try:
        cast("_Framework", import_module("planish.models.lower.framework")).frontend(_FRAMEWORK)
    except _lower().LowerError as error:
        raise _failed(model, error) from error


def lowered_files(model: ZooModel, weights: bytes, scratch: Path) -> tuple[bytes, bytes]:
    """The ONNX file made of the weights, seen to compute what the network does, and the record of it."""
    recipe = cast("Recipe", model.recipe)
    module = _lower()
    source, target = scratch / "weights", scratch / "model.onnx"
    source.write_bytes(weights)
    try:
        result = module.lower(
            cast("_Network", import_module(recipe.module)).network(source),
            target,
            shapes=model.bindings[0].shapes,
            dtypes=recipe.dtypes,
            ranges=model.ranges,
            dynamic=recipe.dynamic,
            output_names=recipe.outputs,
        )
    except module.LowerError as error:
        raise _failed(model, error) from error
    content = target.read_bytes()
    record = {
        "weights": model.sha256,
        "sha256": hashlib.sha256(content).hexdigest(),
        "framework": result.framework,
        "exporter": result.exporter,
    }
    return content, json.dumps(record, indent=2).encode()


def lowered_sha256(model: ZooModel, path: Path) -> str:
    """What the record beside a lowered model says its checksum is; nothing that fits where the record is not of these
    weights."""
    try:
        record = cast("dict[str, str]", json.loads(path.with_suffix(".json").read_bytes()))
        return record["sha256"] if record["weights"] == model.sha256 else "that of other weights"
    except (OSError, ValueError, KeyError, TypeError):
        return "one in a record beside it"


def _lower() -> _Lower:
    return cast("_Lower", import_module("planish.models.lower"))


def _failed(model: ZooModel, error: Exception) -> ZooError:
    return ZooError(f"Zoo model '{model.name}' is made of weights of PyTorch, and that failed: {error}")
