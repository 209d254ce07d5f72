from collections.abc import Mapping
from typing import Protocol

from tensorflow import Function

class _Loaded(Protocol):
    signatures: Mapping[str, Function]

def load(folder: str) -> _Loaded: ...
