"""What the runtime raises."""


class SessionError(Exception):
    """ONNX Runtime is missing, died, or refused the model, the target or the inputs: the message says what to do."""
