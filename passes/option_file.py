"""Files that options of passes are given by: what was measured, or chosen by hand."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from planish.passes.errors import CalibrationError


def read_json(path: str | os.PathLike[str]) -> object:
    """What a file of JSON holds; raises CalibrationError naming the file and what is wrong."""
    try:
        content: object = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise CalibrationError(f"{path}: is not JSON: {error}") from error
    return content


def read_numbers(path: str | os.PathLike[str], *, holds: str, takes: str) -> tuple[tuple[str, float], ...]:
    """Numbers by name; raises CalibrationError as `read_json`.

    holds, takes: what the file and a name in it are to hold, for errors.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise CalibrationError(f"{path}: must be an object of {holds}")
    found: list[tuple[str, float]] = []
    for name, number in cast("dict[str, object]", content).items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise CalibrationError(f"{path}: {name!r} takes {takes}, not {number!r}")
        found.append((name, float(number)))
    return tuple(found)


def write_file(target: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write all of a file or nothing; raises CalibrationError where that cannot be."""
    part = target.with_name(f".planish-{secrets.token_hex(8)}.tmp")
    try:
        with part.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        raise CalibrationError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
