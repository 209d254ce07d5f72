"""What lowering raises."""


class LowerError(Exception):
    """A model cannot be lowered; the message says which, why, and what to do."""


class ExportError(Exception):
    """One exporter failed, or gave a model that is not the framework's; another may do better."""
