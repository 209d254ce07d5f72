"""Times of operators that were measured: what passes that prune keep to a part of the time by.

    prune-channels{latency=0.6,times=operator-times.json}

`planish profile-target MODEL --pipeline ...` measures what a pass asks for, and says where it keeps it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

from planish.passes.errors import CalibrationError
from planish.passes.option_file import read_json
from planish.passes.prune.operator_call import EMPTY_RUN, Call


class MissingTimesError(CalibrationError):
    """Times that a pass needs were not measured."""

    def __init__(self, path: str, calls: Iterable[Call]) -> None:
        self.calls = tuple(calls)
        keys = [call.key for call in self.calls]
        more = f" and {len(keys) - 1} others" if len(keys) > 1 else ""
        super().__init__(
            f"{path or 'times'}: lacks the time of {keys[0]!r}{more}: measure them by "
            "`planish profile-target MODEL --pipeline` with this pipeline"
        )


@dataclass(frozen=True)
class OperatorTable:
    """seconds: of one run, by the keys of calls, and of an empty run, which is in all of them."""

    measured: Mapping[str, float] = field(compare=False)
    path: str = ""
    """The file that they were read from."""

    def __str__(self) -> str:
        return self.path or "measured"

    def seconds(self, call: Call) -> float:
        """Raises MissingTimesError."""
        self.require((call,))
        return max(self.measured[call.key] - self.measured[EMPTY_RUN], 0.0)

    def require(self, calls: Iterable[Call]) -> None:
        """Raise MissingTimesError, with all of them, unless every call was measured."""
        known = self.measured if EMPTY_RUN in self.measured else ()
        missing = {call.key: call for call in calls if call.key not in known}
        if missing:
            raise MissingTimesError(self.path, missing.values())


def load_operator_table(path: str | os.PathLike[str]) -> OperatorTable:
    """Read a file that the runtime keeps; raises CalibrationError naming the file and what is wrong."""
    content = read_json(path)
    seconds = cast("Mapping[str, object]", content).get("seconds") if isinstance(content, dict) else None
    if not isinstance(seconds, dict):
        raise CalibrationError(f"{path}: must be an object with 'seconds' of operators, as profile-target keeps them")
    found: dict[str, float] = {}
    for key, times in cast("Mapping[str, object]", seconds).items():
        numbers = cast("list[object]", times) if isinstance(times, list) else []
        number = numbers[0] if len(numbers) == 1 else None
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < math.inf:
            raise CalibrationError(f"{path}: {key!r} takes a list of one positive number of seconds, not {times!r}")
        found[key] = float(number)
    return OperatorTable(found, str(path))
