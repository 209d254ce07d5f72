"""Tasks by name: labelled data, made or shipped, that fits a model of the zoo or of planish's own.

A task's module is imported when it is asked for, so that what one needs is not needed by the others.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import cast

from planish.runtime.errors import TaskError
from planish.runtime.task import Task

TASKS: Mapping[str, str] = {
    "digits": "planish.models.tasks.digits:Digits",
    "natural-images": "planish.models.tasks.natural_images:NaturalImages",
    "sentence-retrieval": "planish.models.tasks.sentence_retrieval:SentenceRetrieval",
    "text-lines": "planish.models.tasks.text_lines:TextLines",
    "file-types": "planish.models.tasks.file_types:FileTypes",
    "voice-activity": "planish.models.tasks.voice_activity:VoiceActivity",
}
"""Each a module, and a class in it that takes no arguments."""


def load(name: str) -> Task[object, object]:
    """The task of that name, or of the class `module:attribute`, which takes no arguments.

    Raises:
        TaskError: there is none.
    """
    module, colon, attribute = TASKS.get(name, name).partition(":")
    if not colon:
        raise TaskError(f"there is no task {name!r}: choose one of {', '.join(TASKS)}, or give a class as module:Class")
    try:
        found: object = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise TaskError(f"task {name!r} cannot be imported: {error}") from error
    if not isinstance(found, type) or not issubclass(found, Task):
        raise TaskError(f"{name!r} is no task: it must be a class that derives from planish.runtime.Task")
    return cast("type[Task[object, object]]", found)()
