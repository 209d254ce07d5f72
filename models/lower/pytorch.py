"""PyTorch: modules, exported programs (.pt2) and TorchScript (.pt), by the dynamo exporter or the TorchScript one."""

from __future__ import annotations

import inspect
import zipfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import torch

from planish.ir import Graph
from planish.models.lower.errors import ExportError, LowerError
from planish.models.lower.framework import quiet, reason
from planish.models.lower.inputs import Array, Dims, Inputs, Spec, check_dims, resized
from planish.models.lower.outputs import check_count, leaves, names
from planish.runtime.errors import SessionError
from planish.runtime.session import Feed, Result

DYNAMO, TORCHSCRIPT = "dynamo", "torchscript"
_EXTERNAL = 1 << 30
"""Bytes of parameters from which an export keeps them outside the file, which may hold 2 GiB."""
_NEWEST_OF_TORCHSCRIPT = 17
_OLDEST_OF_DYNAMO = 18


@dataclass(frozen=True)
class _Model:
    """What is exported and what is run: one object, but for an exported program, of which a module is made to run."""

    source: torch.nn.Module | torch.export.ExportedProgram
    module: torch.nn.Module
    exporters: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def positional(self) -> bool:
        """Whether inputs go by place: compiled models do not know all their inputs by name."""
        return self.source is not self.module or isinstance(self.module, torch.jit.ScriptModule)

    @property
    def size(self) -> int:
        """Bytes of parameters and buffers."""
        return sum(tensor.nbytes for tensor in self.module.state_dict().values())


class TorchLowering:
    def __init__(self, model: _Model, example: Mapping[str, Array], dynamic: Dims, output_names: Sequence[str]) -> None:
        self.framework = f"PyTorch {torch.__version__.partition('+')[0]}"
        self.exporters = model.exporters
        self.example = example
        self.dynamic = dynamic
        self.notes = model.notes
        self._model = model
        self._wanted = tuple(output_names)
        self._paths: tuple[str, ...] = ()

    def run(self, feeds: Mapping[str, Feed]) -> list[Result]:
        tensors = self._tensors(feeds)
        with quiet(), _evaluating(self._model), torch.no_grad():
            try:
                given = (
                    self._model.module(*tensors.values()) if self._model.positional else self._model.module(**tensors)
                )
                found = dict(leaves(given, torch.Tensor))
            except Exception as error:  # a module may raise anything
                raise SessionError(reason(error)) from error
        self._paths = tuple(found)
        return [_to_numpy(tensor) for tensor in found.values()]

    def otherwise(self, feeds: Mapping[str, Feed]) -> list[Result]:
        return self.run(feeds)

    def settled(self, found: Sequence[Result], given: Sequence[Result]) -> Sequence[Result]:
        return found

    def output_names(self, graph: Graph) -> Sequence[str]:
        check_count(len(graph.outputs), len(self._paths))
        return names(self._paths, self._wanted)

    def see(self, results: Sequence[Result]) -> None:
        """Tensors of these frameworks have one form."""

    def export(self, exporter: str, path: Path, opset: int | None) -> Sequence[str]:
        with quiet(), _evaluating(self._model):
            example = self._tensors(self._without_ones())
            if exporter == DYNAMO:
                self._dynamo(example, path, opset)
            else:
                self._torchscript(example, path, opset)
        return tuple(self.example)

    def _dynamo(self, example: Mapping[str, torch.Tensor], path: Path, opset: int | None) -> None:
        version = None if opset is None else max(opset, _OLDEST_OF_DYNAMO)
        if isinstance(self._model.source, torch.export.ExportedProgram):
            program = torch.onnx.export(self._model.source, dynamo=True, verbose=False, opset_version=version)
        else:
            program = torch.onnx.export(
                self._model.source,
                kwargs=dict(example),
                dynamo=True,
                verbose=False,
                opset_version=version,
                dynamic_shapes={name: dict(self.dynamic.get(name, {})) or None for name in example},
            )
        if program is None:
            raise ExportError("it gave no model")
        program.save(path, external_data=self._model.size > _EXTERNAL)

    def _torchscript(self, example: Mapping[str, torch.Tensor], path: Path, opset: int | None) -> None:
        place = self._model.positional
        torch.onnx.export(
            self._model.module,
            tuple(example.values()) if place else (),
            path,
            kwargs=None if place else dict(example),
            dynamo=False,
            input_names=list(example),
            opset_version=None if opset is None else min(opset, _NEWEST_OF_TORCHSCRIPT),
            dynamic_axes={name: dict(axes) for name, axes in self.dynamic.items()},
        )

    def _without_ones(self) -> Mapping[str, Array]:
        """The example for export, no dynamic dim of extent 1, which exporters take for a constant that broadcasts."""
        ones = {dim: 2 for dim, extent in check_dims(self.example, self.dynamic).items() if extent == 1}
        doubled = resized(self.example, self.dynamic, ones)
        try:
            self.run(doubled)
        except SessionError:
            return self.example
        return doubled

    def _tensors(self, feeds: Mapping[str, Feed]) -> dict[str, torch.Tensor]:
        """In the order of the example, where the model runs."""
        device = next((tensor.device for tensor in self._model.module.state_dict().values()), None)
        ordered = {name: feeds[name] for name in self.example if name in feeds}
        found = {name: _to_torch(name, feed) for name, feed in ordered.items()}
        return found if device is None else {name: tensor.to(device) for name, tensor in found.items()}


def open_model(source: object, inputs: Inputs, output_names: Sequence[str]) -> TorchLowering:
    if isinstance(source, torch.export.ExportedProgram):
        return _open_program(source, inputs, output_names)
    if isinstance(source, torch.jit.ScriptModule):
        model = _Model(source, source, (TORCHSCRIPT,))
        return _opened(model, inputs.arrays(_specs_of_script(source)), inputs.dynamic, output_names)
    if isinstance(source, torch.nn.Module):
        notes = ("the model was in training mode; it was lowered in evaluation mode",) if source.training else ()
        model = _Model(source, source, (DYNAMO, TORCHSCRIPT), notes)
        return _opened(model, inputs.arrays(_specs_of_module(source)), inputs.dynamic, output_names)
    raise LowerError(f"{type(source).__name__} is no module, exported program or TorchScript of PyTorch")


def open_file(path: Path, inputs: Inputs, output_names: Sequence[str]) -> TorchLowering:
    """A .pt2 file as torch.export.save writes it, or TorchScript as torch.jit.save does; never a pickle."""
    with quiet():
        try:
            if path.suffix == ".pt2":
                return open_model(torch.export.load(path), inputs, output_names)
            _check_is_torchscript(path)
            return open_model(torch.jit.load(path, map_location="cpu"), inputs, output_names)
        except LowerError:
            raise
        except Exception as error:  # both raise whatever their parsers do
            kind = "an exported program" if path.suffix == ".pt2" else "TorchScript"
            raise LowerError(f"{path}: cannot be read as {kind}: {reason(error)}") from error


def _check_is_torchscript(path: Path) -> None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = [name.split("/", 1)[-1] for name in archive.namelist()]
        if "constants.pkl" in names:
            return
    raise LowerError(
        f"{path}: is no TorchScript; a file of torch.save holds a pickle, which may run any code and has no model in "
        "it without its classes. Name a module:attribute that makes the model, or save it with torch.export.save"
    )


def _open_program(program: torch.export.ExportedProgram, inputs: Inputs, output_names: Sequence[str]) -> TorchLowering:
    try:
        module = program.module()
    except Exception as error:  # PyTorch does not say what it may raise here
        raise LowerError(f"the exported program cannot be run: {reason(error)}") from error
    specs, dynamic = _specs_of_program(program)
    if inputs.example is None and not inputs.shapes and program.example_inputs is not None:
        positional, named = program.example_inputs
        example = [tensor for tensor in (*positional, *named.values()) if isinstance(tensor, torch.Tensor)]
        if len(example) == len(specs):
            inputs = Inputs([_to_numpy(t) for t in example], {}, {}, inputs.ranges, inputs.fixed, inputs.dynamic)
    if inputs.dynamic:
        raise LowerError("an exported program has its dynamic dims in it; give them to torch.export.export")
    return _opened(_Model(program, module, (DYNAMO,)), inputs.arrays(specs), dynamic, output_names)


def _opened(model: _Model, example: Mapping[str, Array], dynamic: Dims, output_names: Sequence[str]) -> TorchLowering:
    check_dims(example, dynamic)
    return TorchLowering(model, example, dynamic, output_names)


def _specs_of_module(module: torch.nn.Module) -> list[Spec]:
    found: list[Spec] = []
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL or parameter.kind is parameter.POSITIONAL_ONLY:
            raise LowerError(
                f"{type(module).__name__}.forward takes inputs that have no names ({parameter}); "
                "wrap it in a module whose forward names them"
            )
        if parameter.kind is not parameter.VAR_KEYWORD:
            found.append(Spec(parameter.name, required=parameter.default is parameter.empty))
    return found


def _specs_of_script(module: torch.jit.ScriptModule) -> list[Spec]:
    arguments = module.forward.schema.arguments[1:]
    return [Spec(argument.name, required=not argument.has_default_value()) for argument in arguments]


def _specs_of_program(program: torch.export.ExportedProgram) -> tuple[list[Spec], Dims]:
    """Its inputs, and its dynamic dims by the names that the program has for them."""
    specs: list[Spec] = []
    dynamic: dict[str, dict[int, str]] = {}
    wanted = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.name not in wanted or not isinstance(value, torch.Tensor):
            continue
        shape = [dim if isinstance(dim, int) else None for dim in value.shape]
        specs.append(Spec(node.name, str(value.dtype).removeprefix("torch."), tuple(shape)))
        dims = {axis: str(dim) for axis, dim in enumerate(value.shape) if str(dim).isidentifier()}
        dynamic.update({node.name: dims} if dims else {})
    if len(specs) != len(wanted):
        raise LowerError("the exported program has inputs that are no tensors; export it with those as constants")
    return specs, dynamic


@contextmanager
def _evaluating(model: _Model) -> Generator[None]:
    """In evaluation mode, and afterwards each part as it was; an exported program keeps the mode that it has in it."""
    if isinstance(model.source, torch.export.ExportedProgram):
        yield
        return
    training = [part for part in model.module.modules() if part.training]
    model.module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _to_torch(name: str, feed: Feed) -> torch.Tensor:
    if not isinstance(feed, np.ndarray) or feed.dtype.kind == "O":
        raise SessionError(f"input {name!r} is no tensor of numbers")
    array = np.array(feed, order="C")  # a copy: the model may write into its inputs
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _to_numpy(tensor: torch.Tensor) -> Array:
    plain = tensor.detach().cpu().contiguous()
    if plain.dtype == torch.bfloat16:
        return plain.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return plain.numpy()
