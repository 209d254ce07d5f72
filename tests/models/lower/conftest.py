"""Which tests of lowering can be collected: those of a framework import it."""

from importlib.util import find_spec

NEEDED = {
    "test_pytorch.py": "torch",
    "test_sklearn.py": "skl2onnx",
    "test_tensorflow.py": "tf2onnx",
    "test_zoo_models.py": "tokenizers",
}

collect_ignore = [file for file, package in NEEDED.items() if find_spec(package) is None]
