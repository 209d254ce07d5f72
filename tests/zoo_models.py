"""The names of the zoo's models, for tests of each: those that PyTorch has to lower first carry its marker."""

import pytest

from planish.models.zoo import ZOO

EVERY = [pytest.param(name, marks=[pytest.mark.lowering] if ZOO[name].is_lowered else []) for name in sorted(ZOO)]
