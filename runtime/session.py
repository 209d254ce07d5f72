"""One model on one target."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np

from planish.runtime.errors import SessionError
from planish.runtime.providers import (
    Array,
    InferenceSession,
    IOBinding,
    NodeArg,
    OrtValue,
    Target,
    open_session,
    placement,
    reason,
    require,
)
from planish.runtime.tensors import DTYPES, RAW, from_ort_value, to_ort_value

Feed: TypeAlias = Array | Sequence[Array] | None
"""A tensor, a sequence of tensors, or nothing for an optional input."""

Result: TypeAlias = "Array | bool | int | float | str | list[Result] | dict[int | str, Result] | None"
"""A tensor, nothing for an empty optional, a list for a sequence, a dict for a map."""


@dataclass(frozen=True)
class Argument:
    """An input or an output of a model, as ONNX Runtime knows it."""

    name: str
    type: str
    """ONNX Runtime's spelling: tensor(float), seq(tensor(int64)), optional(tensor(string)) ..."""
    shape: tuple[int | str | None, ...]
    """Fixed, named and unknown dims; empty for a scalar, and for what is not a tensor or has no known rank."""

    @property
    def element(self) -> str:
        """ONNX Runtime's word for the innermost element: float, double, int64, bfloat16, string ..."""
        return re.split(r"[(),]", self.type.rstrip(")"))[-1]

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """numpy's type of the innermost element; ml_dtypes' where numpy has none."""
        if self.element not in DTYPES:
            raise SessionError(f"{self.name!r} is a {self.type}, for which numpy has no type")
        return DTYPES[self.element]

    @property
    def is_tensor(self) -> bool:
        return self.type.startswith("tensor(")

    @property
    def is_optional(self) -> bool:
        return self.type.startswith("optional(")

    def is_fixed(self, known: Container[str | None]) -> bool:
        """Whether this is a tensor whose shape follows from the dims of those names."""
        return self.is_tensor and all(isinstance(dim, int) or dim in known for dim in self.shape)


class Session:
    """A model that ONNX Runtime has opened, with proof that the target's provider runs it.

    Raises:
        SessionError: the model cannot be opened, or the provider is absent or owns no node of it.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        target: Target | None = None,
        config: Mapping[str, str] | None = None,
        *,
        arena: bool = True,
        optimized: str | os.PathLike[str] = "",
    ) -> None:
        """`config` holds ONNX Runtime's session configuration entries, such as session.disable_quant_qdq.

        arena: whether it keeps what memory its runs took, which is quicker, for the next one. optimized: a file to
        which ONNX Runtime writes the model as it runs it, with its own kernels in it.
        """
        self.target = target or Target()
        self.label = "the model given as bytes" if isinstance(model, bytes) else os.fspath(model)
        start = time.perf_counter()
        opened = open_session(
            model if isinstance(model, bytes) else os.fspath(model),
            self.label,
            self.target,
            config or {},
            arena=arena,
            optimized=os.fspath(optimized),
        )
        self.creation_seconds = time.perf_counter() - start
        self.inference_session: InferenceSession = opened
        self.inputs = tuple(map(_argument, opened.get_inputs()))
        self.outputs = tuple(map(_argument, opened.get_outputs()))
        self.overridable = tuple(map(_argument, opened.get_overridable_initializers()))
        """Initializers that `feeds` may replace."""
        self.metadata = dict(opened.get_modelmeta().custom_metadata_map)
        """The model's metadata_props."""
        self._accepts = {argument.name: argument for argument in (*self.inputs, *self.overridable)}
        self._raw_inputs = any(argument.element in RAW for argument in self._accepts.values())
        self._raw_outputs = any(argument.element in RAW for argument in self.outputs)

    def placement(self) -> dict[str, int]:
        """Nodes by ONNX Runtime's provider name, nested graphs included, as assigned before fusion."""
        return placement(self.inference_session)

    def run(self, feeds: Mapping[str, Feed]) -> list[Result]:
        """The outputs in the model's order.

        Raises:
            SessionError: an input is missing, unknown or of another type or shape, or a kernel failed.
        """
        try:
            if self._raw_outputs:
                values = {name: self._ort_value(name, feed) for name, feed in feeds.items()}
                results = self.inference_session.run_with_ort_values(None, values)
                return [self._array(value, argument) for value, argument in zip(results, self.outputs, strict=True)]
            ready = {name: self._ready(name, feed) for name, feed in feeds.items()} if self._raw_inputs else feeds
            return [_result(value, self.label) for value in self.inference_session.run(None, ready)]
        except SessionError:
            raise
        except Exception as error:  # the module's exceptions share no base but this
            raise SessionError(self._mismatch(feeds) or f"running {self.label} failed: {reason(error)}") from error

    def bind(self, feeds: Mapping[str, Feed]) -> Binding:
        """The same run with inputs and outputs in the provider's memory beforehand: copying them is left out.

        Raises:
            SessionError: as `run`, and for strings and inputs that are not tensors.
        """
        if mismatch := self._mismatch(feeds):
            raise SessionError(mismatch)
        return Binding(self, self._place(feeds))

    def _place(self, feeds: Mapping[str, Feed]) -> dict[str, OrtValue]:
        memory, device = self.target.memory, self.target.device
        placed: dict[str, OrtValue] = {}
        for name, feed in feeds.items():
            if memory == "cpu" or not isinstance(feed, np.ndarray) or self._element(name) in RAW:
                placed[name] = self._ort_value(name, feed)
            else:
                placed[name] = require().OrtValue.ortvalue_from_numpy(np.ascontiguousarray(feed), memory, device)
        return placed

    def _element(self, name: str) -> str:
        return self._accepts[name].element if name in self._accepts else ""

    def _ready(self, name: str, feed: Feed) -> Feed | OrtValue:
        return self._ort_value(name, feed) if self._element(name) in RAW else feed

    def _ort_value(self, name: str, feed: Feed) -> OrtValue:
        if not isinstance(feed, np.ndarray):
            raise SessionError(f"input {name!r} of {self.label}: ONNX Runtime's Python API can bind only tensors")
        element = self._element(name)
        if element in RAW and feed.dtype != DTYPES[element]:  # its bytes would be taken for another type's
            raise SessionError(f"input {name!r} of {self.label} is {DTYPES[element]}, but {feed.dtype} was given")
        try:
            return to_ort_value(feed, element)
        except SessionError as error:
            raise SessionError(f"input {name!r} of {self.label}: {error}") from error

    def _array(self, value: OrtValue, argument: Argument) -> Array | None:
        if not value.has_value():
            return None
        if not value.is_tensor():
            raise SessionError(
                f"output {argument.name!r} of {self.label} is a {argument.type}, which ONNX Runtime's Python API "
                "cannot hand out beside outputs of a type that numpy lacks"
            )
        return from_ort_value(value, argument.element)

    def _mismatch(self, feeds: Mapping[str, Feed]) -> str | None:
        for name in feeds:
            if name not in self._accepts:
                inputs = ", ".join(item.name for item in self.inputs) or "none"
                return f"{self.label} has no input {name!r}: its inputs are {inputs}"
        for argument in self.inputs:
            feed = feeds.get(argument.name)
            if feed is None and not argument.is_optional:
                return f"{self.label} needs the input {argument.name!r} ({argument.type})"
            if isinstance(feed, np.ndarray) and argument.is_tensor and not _same_type(feed, argument):
                return f"input {argument.name!r} of {self.label} is {argument.dtype}, but {feed.dtype} was given"
        return None


class Binding:
    """Inputs and outputs that stay in the provider's memory; made by `Session.bind`, which has run it once."""

    def __init__(self, session: Session, inputs: Mapping[str, OrtValue]) -> None:
        self._session = session.inference_session
        self._label = session.label
        self._binding: IOBinding = self._session.io_binding()
        self._inputs = dict(inputs)  # the binding does not keep them alive
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        self._memory, self._device = session.target.memory, session.target.device
        for argument in session.outputs:
            self._binding.bind_output(argument.name, self._memory, self._device)
        known = {dim for argument in session.inputs for dim in argument.shape} - {None}
        self._varying = [item.name for item in session.outputs if not item.is_fixed(known)]
        self.run()

    def run(self) -> None:
        """Writes into the memory of the run before, but for outputs whose shape the inputs may not fix."""
        try:
            for name in self._varying:
                self._binding.bind_output(name, self._memory, self._device)
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # the module's exceptions share no base but this
            raise SessionError(
                f"running {self._label} with bound inputs and outputs failed: {reason(error)}"
            ) from error

    def outputs(self) -> list[Array]:
        """Copies of the last run's outputs, which must be tensors of numpy's own types."""
        return [value.numpy() for value in self._binding.get_outputs()]


def _argument(item: NodeArg) -> Argument:
    return Argument(item.name, item.type, tuple(item.shape))


def _same_type(feed: Array, argument: Argument) -> bool:
    if argument.element == "string":
        return feed.dtype.kind in "OUST"
    return feed.dtype == argument.dtype


def _result(value: object, label: str) -> Result:
    if isinstance(value, np.ndarray):
        return cast("Array", value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_result(item, label) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {key: _result(item, label) for key, item in cast("dict[int | str, object]", value).items()}
    raise SessionError(f"{label} has an output of a kind that planish does not read: {type(value).__name__}")
