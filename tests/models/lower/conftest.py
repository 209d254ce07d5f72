"""Which tests of lowering can be collected: those of a framework import it.

triton, which PyTorch's builds for GPUs bring, ends a process that has loaded TensorFlow, but not the other way round:
here it is first.
"""

from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec

NEEDED = {
    "test_pytorch.py": "torch",
    "test_sklearn.py": "skl2onnx",
    "test_tensorflow.py": "tf2onnx",
    "test_zoo_models.py": "tokenizers",
}

with suppress(ImportError):
    import_module("triton")

collect_ignore = [file for file, package in NEEDED.items() if find_spec(package) is None]
