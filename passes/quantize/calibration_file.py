"""Calibrations as files: JSON that can be read and edited, and Gram matrices beside it.

    {
    "format": "planish calibration", "version": 1, "model": "m.onnx", "samples": 512, "warnings": [],
    "tensors": {
    "x": {"min": 0.0, "max": 6.0, "low": 0.0, "high": 4.5, ...}
    }
    }

A tensor needs `min` and `max`, or `low` and `high`, which is what to write in by hand; everything else may be left out.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

import numpy as np

from planish.passes.errors import CalibrationError
from planish.passes.option_file import read_json, write_file
from planish.passes.quantize.calibration import Calibration, Floats, TensorStatistics
from planish.passes.quantize.gram import Gram, GramFile
from planish.passes.quantize.histogram import BINS, Histogram

FORMAT, VERSION = "planish calibration", 1
_GRAMS = ".grams.npz"
_KEYS = ("format", "version", "model", "samples", "warnings", "tensors", "grams")
_COUNTS = {"count": "count", "nan": "nans", "inf": "infs", "zero": "zeros"}
_NUMBERS = ("min", "max", "low", "high", "mean", "variance")


def save_calibration(calibration: Calibration, path: str | os.PathLike[str]) -> None:
    """Write it, and Gram matrices to `<name>.grams.npz` beside it: all or nothing of each file.

    Raises:
        CalibrationError: the files cannot be written.
    """
    target = Path(path)
    grams = target.with_name(target.stem + _GRAMS)
    text = _text(calibration, grams.name)
    if calibration.grams:
        write_file(grams, lambda file: _write_grams(file, calibration.grams))
    write_file(target, lambda file: file.write(text.encode()))


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise CalibrationError where `save_calibration` could not write: what can be known before any work is done."""
    target = Path(path)
    if target.is_dir():
        raise CalibrationError(f"{target}: is a folder, not a file to write")
    if not target.parent.is_dir():
        raise CalibrationError(f"{target}: there is no folder {target.parent} to write it to")


def load_calibration(path: str | os.PathLike[str]) -> Calibration:
    """Read it; Gram matrices are read from their file when they are asked for.

    Raises:
        CalibrationError: naming the file and the key of what is wrong.
    """
    file = Path(path)
    content = read_json(file)
    top = _Part(str(path), "", content).object(_KEYS)
    if "version" not in top or "tensors" not in top:
        _Part(str(path), "", content).fail(f"has no {'tensors' if 'version' in top else 'version'!r}")
    if top["version"].value != VERSION:
        top["version"].fail(f"is {top['version'].value!r}, and this planish reads only {VERSION}: calibrate again")
    if "format" in top and top["format"].text() != FORMAT:
        top["format"].fail(f"is not {FORMAT!r}: this is no calibration")
    return Calibration(
        {name: _tensor(part) for name, part in top["tensors"].object().items()},
        _grams(top["grams"], file) if "grams" in top else {},
        top["model"].text() if "model" in top else "",
        top["samples"].count() if "samples" in top else 0,
        tuple(part.text() for part in top["warnings"].list()) if "warnings" in top else (),
        str(path),
    )


class _Part:
    """A value in the file and where it stands, for errors."""

    def __init__(self, file: str, key: str, value: object) -> None:
        self.file, self.key, self.value = file, key, value

    def fail(self, what: str) -> NoReturn:
        raise CalibrationError(f"{self.file}: {self.key + ' ' if self.key else ''}{what}")

    def object(self, keys: Collection[str] | None = None) -> dict[str, _Part]:
        """keys: those that may stand there."""
        value = self.value
        if not isinstance(value, dict):
            self.fail("must be an object")
        found = cast("dict[str, object]", value)
        for key in found:
            if keys is not None and key not in keys:
                self.fail(f"has the unknown key {key!r}; there are {', '.join(keys)}")
        return {key: _Part(self.file, f"{self.key}[{key!r}]", value) for key, value in found.items()}

    def list(self) -> list[_Part]:
        value = self.value
        if not isinstance(value, list):
            self.fail("must be a list")
        items = cast("list[object]", value)
        return [_Part(self.file, f"{self.key}[{index}]", item) for index, item in enumerate(items)]

    def text(self) -> str:
        if not isinstance(self.value, str):
            self.fail(f"must be text, not {self.value!r}")
        return self.value

    def integer(self) -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            self.fail(f"must be a whole number, not {self.value!r}")
        return self.value

    def count(self) -> int:
        if self.integer() < 0 or self.integer() >= 1 << 63:
            self.fail(f"must be a number of 0 or more, not {self.value!r}")
        return self.integer()

    def number(self) -> float:
        try:
            found = float(self.value) if isinstance(self.value, int | float) else math.nan
        except OverflowError:
            found = math.inf
        if isinstance(self.value, bool) or not math.isfinite(found):
            self.fail(f"must be a finite number, not {self.value!r}")
        return found


def _tensor(part: _Part) -> TensorStatistics:
    fields = part.object(("dtype", *_COUNTS, *_NUMBERS, "histogram", "channels"))
    numbers = {name: fields[name].number() for name in _NUMBERS if name in fields}
    for low, high in (("min", "max"), ("low", "high")):
        if (low in numbers) != (high in numbers):
            part.fail(
                f"has no {high if low in numbers else low!r}, which goes with {low if low in numbers else high!r}"
            )
        if low in numbers and numbers[low] > numbers[high]:
            part.fail(f"has {low} {numbers[low]!r} above {high} {numbers[high]!r}")
    counts = {name: fields[key].count() for key, name in _COUNTS.items() if key in fields}
    bad = counts.get("nans", 0) + counts.get("infs", 0)
    if not numbers.keys() & {"min", "low"} and counts.get("count", -1) != bad:
        part.fail("needs 'min' and 'max', or 'low' and 'high'")
    if bad + counts.get("zeros", 0) > counts.get("count", bad + counts.get("zeros", 0)):
        part.fail("counts more NaN, infinities and zeros than elements")
    if numbers.get("variance", 0.0) < 0:
        fields["variance"].fail("must not be negative")
    return TensorStatistics(
        **numbers,
        **counts,
        dtype=fields["dtype"].text() if "dtype" in fields else "",
        histogram=_histogram(fields["histogram"]) if "histogram" in fields else None,
        channels={_axis(part, axis): _maxima(values) for axis, values in fields["channels"].object().items()}
        if "channels" in fields
        else {},
    )


def _histogram(part: _Part) -> Histogram:
    fields = part.object(("bin_width", "first_bin", "counts"))
    for key in ("bin_width", "first_bin", "counts"):
        if key not in fields:
            part.fail(f"has no {key!r}")
    mantissa, exponent = math.frexp(fields["bin_width"].number())
    if mantissa != 0.5:
        fields["bin_width"].fail(f"must be a power of 2, not {fields['bin_width'].value!r}")
    first = fields["first_bin"].integer()
    if abs(first) > 1 << 31:
        fields["first_bin"].fail("is too far from 0")
    counts = [item.count() for item in fields["counts"].list()]
    if not 1 <= len(counts) <= BINS or not counts[0] or not counts[-1]:
        fields["counts"].fail(f"must hold 1 to {BINS} counts, neither the first nor the last of them 0")
    return Histogram(exponent - 1, first, np.asarray(counts, np.int64))


def _axis(part: _Part, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        part.fail(f"has channels along {text!r}, which is no axis counted from 0")
    return int(text)


def _maxima(part: _Part) -> Floats:
    found = [item.number() for item in part.list()]
    if any(number < 0 for number in found):
        part.fail("must hold magnitudes, none of them negative")
    return np.asarray(found, np.float64)


def _grams(part: _Part, path: Path) -> Mapping[str, Gram]:
    fields = part.object(("file", "rows"))
    for key in ("file", "rows"):
        if key not in fields:
            part.fail(f"has no {key!r}")
    file = path.with_name(fields["file"].text())
    if not file.is_file():
        fields["file"].fail(f"names {file}, which is not there: it must lie beside the calibration")
    counts: dict[str, tuple[int, int]] = {}
    for key, rows in fields["rows"].object().items():
        numbers = [item.count() for item in rows.list()]
        if len(numbers) != 2:
            rows.fail("must hold two counts: rows, and rows that were left out")
        counts[key] = (numbers[0], numbers[1])
    return GramFile(file, counts)


def _text(calibration: Calibration, grams: str) -> str:
    """One line for each tensor's numbers, one for its histogram and one for each axis of its channels."""
    head: dict[str, object] = {
        "format": FORMAT,
        "version": VERSION,
        "model": calibration.model,
        "samples": calibration.samples,
        "warnings": calibration.warnings,
    }
    if calibration.grams:
        rows = {key: (gram.count, gram.skipped) for key, gram in calibration.grams.items()}
        head["grams"] = {"file": grams, "rows": rows}
    lines = [f"{_json(key)}: {_json(value)}" for key, value in head.items()]
    tensors = ",\n".join(f"{_json(name)}: {_tensor_text(seen)}" for name, seen in calibration.tensors.items())
    return "{\n" + ",\n".join((*lines, f'"tensors": {{\n{tensors}\n}}')) + "\n}\n"


def _tensor_text(seen: TensorStatistics) -> str:
    numbers = {name: getattr(seen, name) for name in _NUMBERS}
    plain: dict[str, object] = {name: number for name, number in numbers.items() if number is not None}
    if seen.count:
        plain |= {"dtype": seen.dtype} | {key: getattr(seen, name) for key, name in _COUNTS.items()}
    parts = [_json(plain)[1:-1]]
    if seen.histogram is not None:
        found = seen.histogram
        shown = {"bin_width": found.width, "first_bin": found.first, "counts": found.counts.tolist()}
        parts.append(f'"histogram": {_json(shown)}')
    if seen.channels:
        parts.append(f'"channels": {_json({str(axis): maxima.tolist() for axis, maxima in seen.channels.items()})}')
    return "{" + ",\n  ".join(part for part in parts if part) + "}"


def _json(value: object) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def _write_grams(file: BinaryIO, grams: Mapping[str, Gram]) -> None:
    arrays: dict[str, Floats] = {}
    for number, gram in enumerate(grams.values()):
        arrays |= {f"matrix_{number}": gram.matrix, f"mean_{number}": gram.mean}
    np.savez(file, allow_pickle=False, **arrays)
