"""Settings that every test shares, and the real models that some of them do."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from planish.models.fetch import DownloadError
from planish.models.zoo import ZooError, fetch

# Searches at random on a desk, repeats the same examples in CI: a change never fails for what it did not touch.
settings.register_profile("planish", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("planish")


@pytest.fixture(scope="session")
def bring(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The path of a zoo model, fetched once for all tests and workers of a run; without a network the test is skipped.

    In a cache of its own, so that what is tested is what the registry has.
    """
    folder = tmp_path_factory.getbasetemp()
    cache = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "zoo"

    def one(name: str) -> Path:
        try:
            return fetch(name, cache=cache)
        except ZooError as error:
            if isinstance(error.__cause__, DownloadError):
                pytest.skip(str(error))
            raise

    return one
