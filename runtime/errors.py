"""What the runtime raises."""


class SessionError(Exception):
    """ONNX Runtime is missing, died, or refused the model, the target or the inputs: the message says what to do."""


class TaskError(Exception):
    """A task cannot be had, or its samples read, or it does not fit the model: the message says which and why."""
