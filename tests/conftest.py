"""Settings that every test shares."""

import os

from hypothesis import settings

# Searches at random on a desk, repeats the same examples in CI: a change never fails for what it did not touch.
settings.register_profile("planish", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("planish")
