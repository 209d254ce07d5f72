"""What a task or the caller feeds a model, run by run."""

from __future__ import annotations

from collections.abc import Callable

from planish.runtime.model_run import Face, ModelRun
from planish.runtime.pruning.held_out import is_held_out
from planish.runtime.samples import Feeds, Parts
from planish.runtime.session import Session
from planish.runtime.task import Outputs


def record(
    samples: Parts[object], face: Face, session: Session | None, put: Callable[[int, Feeds], None]
) -> list[bool]:
    """Hand the feeds of every run to `put`, which is told its number; of each run, whether its sample is held out.

    session: of the model that tells a task what to feed next; None where nothing is fed back.

    Raises CalibrationError where a sample does not fit.
    """
    held_out: list[bool] = []
    number = 0
    for part in samples.parts:
        for item in part:
            where, alone = samples.runner.where(item), is_held_out(number)

            def work(feeds: Feeds, where: str = where, alone: bool = alone) -> Outputs:
                face.check(feeds, where)
                put(len(held_out), feeds)
                held_out.append(alone)
                results = [] if session is None else session.run(feeds)
                names = [] if session is None else [argument.name for argument in session.outputs]
                return Outputs(dict(zip(names, results, strict=True)), face.label)

            samples.runner.run(item, ModelRun(face, work))
            number += 1
    return held_out
